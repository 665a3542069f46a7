"""What learns counts: a text, its n-grams, and which of them are worth their bytes.

It may import the other modules of counts.
"""
