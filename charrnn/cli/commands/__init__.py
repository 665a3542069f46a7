"""The commands, one a module: options, a call of charrnn.api, what it writes.

They may import all of the command line.
"""
