"""What stands between a character and the loss, one module a file: its parameters, its start, its passes.

It may import the kernels, loaded only when a network is bound to a window, and the cells.
"""
