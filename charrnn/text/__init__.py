"""Texts in files and as ids: what bytes say, records, documents, corpora, the validation split.

It may import ranks and system.
"""
