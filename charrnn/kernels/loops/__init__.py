"""Loops over the steps of a window, with a cell's equations, and over the nodes of a prefix tree.

It may import all other kernels.
"""

from charrnn.kernels import importing

__getattr__ = importing(__name__)
