"""What followed states like the present one: a cache of the last states that a model passed through.

It may import kernels and config.
"""
