"""Default settings for a corpus and a budget, one file for networks that write and one for those that read.

It may import config alone.
"""
