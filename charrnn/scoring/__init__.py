"""How probable a text is, and what follows from it: lines, classes, heat maps, compression.

It may import inference and what is below.
"""
