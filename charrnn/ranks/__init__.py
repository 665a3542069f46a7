"""Ranks: the processes, on one machine or several, that share a command's work. MPI is known here alone.

It may import errors and system.
"""
