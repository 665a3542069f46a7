"""The model file and its container.

It holds plain data, and may import counts, text and system.
"""
