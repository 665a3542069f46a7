"""The commands that give a model to others: a server, and files that need no charrnn.

They may import what the other commands import.
"""
