"""The probability of a text, and its uses: scores of lines, classes, heat maps, compression.

It may import inference and what is below.
"""
