"""The parts of networks, one a file: parameters, their initial values, forward and backward passes.

It may import the kernels, which are loaded only when a network is bound to a window, and the cells.
"""
