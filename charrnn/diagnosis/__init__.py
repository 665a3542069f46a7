"""What goes on in a network, and in a run: gradients by lag, gates, idle units, clipping, losses; and advice.

It may import nn, text, checkpoint and what is below; what the command line reads of it imports no NumPy.
"""
