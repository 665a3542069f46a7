"""The model file and its container.

It holds plain data, and may import text and system.
"""
