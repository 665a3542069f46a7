"""Compiled functions of arrays, in rooms of their own: the machine, products, loops.

NumPy and Numba are their only imports.

Axes: T time, B batch, H hidden, D input, V vocabulary, G gates (4 LSTM, 3 GRU, 1 RNN).
"""
