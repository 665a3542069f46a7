"""Putting back what a text has lost: marks, upper case, spaces, punctuation.

It may import what tasks import, and what those in reading/ share. stripping.py says what is lost and may be
put back, learning.py makes texts to learn from, restorer.py puts it back, measuring.py counts what is right.
"""
