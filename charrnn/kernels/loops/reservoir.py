"""A reservoir over a window: layers of units that read the character, themselves, and the layer below.

    h'[i] = (1 - l) h[i] + l tanh(u[i] + sum over k of W[k, i] h[place of k and i])

What unit i of a layer reads of a layer stands `shift[k]` places after i, in a circle. So a sparse matrix is
read, and what it is multiplied with, in the order of memory.

Axes: T time, B batch, L layers of N units, S = L N, K connections of a unit. Arrays are (T, B, padded S).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from charrnn.kernels.activations import tanh
from charrnn.kernels.machine.jit import njit
from charrnn.kernels.rows import _copy


class Made(NamedTuple):
    """A reservoir. If L > 1, the second half of the connections is to the layer below."""

    # W_in x + b of each character, and b; the weights of each label, and 0 for those that are not known.
    table: Any  # (V + 1 + labels + 1, padded S)
    weights: Any  # (K or 2 K, padded S)
    shifts: Any  # (K or 2 K, L)
    K: int
    L: int
    N: int


@njit()
def _add_products(z: Any, w: Any, x: Any, n: int) -> None:
    for j in range(n):
        z[j] += w[j] * x[j]


@njit()
def _add(z: Any, x: Any, n: int) -> None:
    for j in range(n):
        z[j] += x[j]


@njit()
def _renew(new: Any, h: Any, z: Any, leak: Any, n: int) -> None:
    leak = new.dtype.type(leak)
    keep = new.dtype.type(1) - leak
    for j in range(n):
        new[j] = keep * h[j] + leak * tanh(z[j])


@njit()
def forward(states: Any, rows: Any, made: Any, leak: Any, columns: Any, steps: Any) -> None:
    """The states (T + 1, B, padded S) after some steps, from those before them.

    The sum of the table's rows (T, B, 1 + columns) is what is read: a character, and the labels of the text.

    `states` are loops.recurrent.States, in which a state that restarts is read, but not replaced: it is also
    the output of the step before.
    """
    table, weights, shifts, K, L, N = made
    (b0, b1), (t0, t1), S = columns, steps, made.L * made.N
    number = states.h.dtype
    z, circle = np.empty(S, number), np.empty((L, 2 * N), number)
    for t in range(t0, t1):
        for b in range(b0, b1):
            row = states.restart_rows[t, b]
            h = states.restart_h[row] if row >= 0 else states.h[t, b, :S]
            for layer in range(L):
                _copy(circle[layer], h[layer * N :], N)
                _copy(circle[layer, N:], h[layer * N :], N)
            _copy(z, table[rows[t, b, 0]], S)
            for column in range(1, rows.shape[2]):
                _add(z, table[rows[t, b, column]], S)
            for layer in range(L):
                first = layer * N
                for k in range(len(weights)):
                    if k < K:
                        _add_products(z[first:], weights[k, first:], circle[layer, shifts[k, layer] :], N)
                    elif layer > 0:
                        _add_products(z[first:], weights[k, first:], circle[layer - 1, shifts[k, layer] :], N)
            _renew(states.h[t + 1, b], h, z, leak, S)
