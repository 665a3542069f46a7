"""A character model by counts: n-grams of a text, smoothed as by Kneser and Ney.

It may import kernels, ranks, system and text.
"""
