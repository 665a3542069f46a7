"""One step of a network and the choice of a character: engines, filters, mixtures.

It may import nn, counts, kernels, text and checkpoint.
"""
