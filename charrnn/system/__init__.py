"""The operating system: atomic writes, memory, CPU quotas, errors of files.

It imports errors alone.
"""
