"""Pages: one HTML file with a model and all that writes with it, for any browser.

It may import checkpoints, networks in NumPy and the operations of their steps.
"""
