"""Training runs: setup, plan, files, lock, curves, diagnosis. They know tasks and networks by interfaces.

It may import tasks.task and what is below, but no text and no network.
"""
