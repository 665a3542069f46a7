"""The run: setup, plan, files, lock, curves, diagnosis. Of tasks and networks it knows their interface alone.

It may import tasks.task and what is below, but no text and no network.
"""
