"""Texts that are found, not drawn: enumeration, infilling, the best of several, suggestions.

It may import generation and what is below.
"""
