"""What networks are made of, how they compute gradients, and how they learn.

It may import kernels and system, and never touches a file.
"""
