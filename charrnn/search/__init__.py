"""Searches over texts: enumeration, infilling, the best of several samples, suggestions.

It may import generation and what is below.
"""
