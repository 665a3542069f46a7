"""Texts in files and as ids: sources, decoding, lines, corpora, the validation split.

It may import ranks and system.
"""
