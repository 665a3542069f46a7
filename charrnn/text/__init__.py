"""Texts as files have them and as ids: sources, decoding, lines, corpora, the split for validation.

It may import system.
"""
