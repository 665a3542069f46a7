"""Writing texts: the engines and constraints at work, rejection, particles.

It may import constraints, inference and what they import.
"""
