"""Modules of networks that read whole texts, of different lengths: in both directions, and what follows.

It may import what the other modules import.
"""
