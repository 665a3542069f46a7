"""Learning: gradient, clipping and update as one step, the optimizer, and the kernels compiled before.

It may import the rest of nn, kernels, config and errors.
"""
