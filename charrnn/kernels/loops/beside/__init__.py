"""Loops of what stands beside a network: counts, those that grow, a cache, and how they are mixed with it.

They may import all other kernels.
"""
