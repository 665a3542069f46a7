"""Training runs: setup, plan, files, lock, curves. They know tasks and networks by interfaces.

It may import tasks.task and the rooms below, but neither texts nor networks.
"""
