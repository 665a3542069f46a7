"""Training runs: setup, plan, files, lock, curves, diagnosis.

It may import tasks, generation and what is below.
"""
