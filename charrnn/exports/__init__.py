"""Models for other libraries: a script for PyTorch, a graph for ONNX.

It may import checkpoints and the modules of networks.
"""
