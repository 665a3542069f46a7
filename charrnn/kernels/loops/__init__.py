"""Loops over the steps of a window, with a cell's equations, and over the nodes of a tree.

It may import all other kernels.
"""
