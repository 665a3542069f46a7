"""The operating system: atomic writes, memory, quotas, and why a file cannot be read or written.

It imports errors alone.
"""
