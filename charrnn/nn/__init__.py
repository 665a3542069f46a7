"""Networks: their modules, cells and parameters, how they compute gradients, and how they learn.

It may import kernels and system, and never touches a file.
"""
