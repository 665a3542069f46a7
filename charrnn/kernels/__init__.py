"""Every compiled function, and nothing else: NumPy and Numba are the only imports.

Axes: T time, B batch, H hidden, D input, V vocabulary, G gates (4 LSTM, 3 GRU, 1 RNN).
"""
