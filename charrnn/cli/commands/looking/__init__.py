"""The commands that look into a network: how it learns from its past, and what its units do.

They may import what the other commands import.
"""
