"""What parts of a file are texts: records between separators, fields of tables, labels before texts.

It may import text and system.
"""
