"""Files and streams -> characters: where bytes come from, what they say, lines as they arrive.

It may import text and system.
"""
