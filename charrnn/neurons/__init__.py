"""Single units of a network: which of them follow what in a text, what one does, and one that is held.

It may import constraints, inference, nn, text, checkpoint and what is below.
"""
