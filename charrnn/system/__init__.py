"""The operating system: atomic writes, memory, growing arrays, CPU quotas, errors of files.

It imports errors alone.
"""
