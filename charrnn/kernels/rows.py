"""Elementwise operations on rows of activations: skip connections, dropout, gathers, column sums."""

from __future__ import annotations

from typing import Any

import numpy as np

from charrnn.kernels.machine.jit import njit
from charrnn.kernels.products.gemm import PANEL


@njit()
def _add(y: Any, x: Any, n: int) -> None:
    for j in range(n):
        y[j] += x[j]


@njit()
def _copy(y: Any, x: Any, n: int) -> None:  # a slice assignment would also compile a check of shapes
    for j in range(n):
        y[j] = x[j]


@njit()
def _clear(y: Any) -> None:
    for j in range(len(y)):
        y[j] = 0


@njit()
def copy(y: Any, x: Any, H: int, b0: int, b1: int) -> None:
    """y[t, b] = x[t, b]."""
    for t in range(y.shape[0]):
        for b in range(b0, b1):
            _copy(y[t, b], x[t, b], H)


@njit()
def pack(rows: Any, x: Any, at: int, part: tuple[int, int], b0: int, b1: int) -> None:
    """The rows (t, b) of a part, some columns, one after another from rows[at] on; columns b0 to b1 of it.

    Shapes: rows (R, padded), x (T, B, padded).
    """
    first, last = part
    for t in range(x.shape[0]):
        for b in range(b0, b1):
            _copy(rows[at + t * (last - first) + b - first], x[t, b], x.shape[2])


@njit()
def add(y: Any, x: Any, H: int, b0: int, b1: int) -> None:
    """The skip connection: y[t, b] += x[t, b]."""
    for t in range(y.shape[0]):
        for b in range(b0, b1):
            _add(y[t, b], x[t, b], H)


@njit()
def _restart(state: Any, states: Any, rows: Any, H: int, b0: int, b1: int) -> None:
    """Where rows[b] is not -1, a text begins: its state becomes that row of `states`.

    Shapes: state (B, padded H), states (.., H), rows (B,).
    """
    for b in range(b0, b1):
        if rows[b] >= 0:
            _copy(state[b], states[rows[b]], H)


@njit()
def _hash(x: np.uint32) -> np.uint32:
    # The finaliser of MurmurHash3: every bit of the result depends on every bit of x.
    x = np.uint32(x ^ (x >> np.uint32(16)))
    x = np.uint32(x * np.uint32(0x85EBCA6B))
    x = np.uint32(x ^ (x >> np.uint32(13)))
    x = np.uint32(x * np.uint32(0xC2B2AE35))
    return np.uint32(x ^ (x >> np.uint32(16)))


@njit()
def _dropout_row(y: Any, first: np.uint32, key: np.uint32, threshold: np.uint32, scale: Any, H: int) -> None:
    zero = y.dtype.type(0)
    for j in range(H):
        bits = _hash(np.uint32(_hash(np.uint32(first + np.uint32(j))) ^ key))
        y[j] = zero if bits < threshold else y[j] * scale


@njit()
def dropout(y: Any, key: int, rate: float, H: int, columns: tuple[int, int], part: tuple[int, int]) -> None:
    """Zero each element with probability `rate`, scale the others by 1 / (1 - rate), in place.

    The choice depends only on the key and the element's position in a part, some columns, so that backward,
    any number of threads and a resumed run repeat it without a stored mask.
    """
    (b0, b1), (first, last) = columns, part
    threshold = np.uint32(rate * 4294967296.0)
    scale = y.dtype.type(1.0 / (1.0 - rate))
    low, high = np.uint32(key & 0xFFFFFFFF), np.uint32((key >> 32) & 0xFFFFFFFF)
    for t in range(y.shape[0]):
        for b in range(b0, b1):
            begin = np.uint32(np.uint32((t * (last - first) + b - first) * H) + low)
            _dropout_row(y[t, b], begin, high, threshold, scale, H)


@njit()
def _gather(y: Any, table: Any, index: Any, n: int, b0: int, b1: int) -> None:
    """y[t, b] = table[index[t, b]]; table (U, padded)."""
    for t in range(y.shape[0]):
        for b in range(b0, b1):
            _copy(y[t, b], table[index[t, b]], n)


@njit()
def gather_add(y: Any, table: Any, index: Any, n: int, b0: int, b1: int) -> None:
    """y[t, b] += table[index[t, b]]: the skip connection around the first layer."""
    for t in range(y.shape[0]):
        for b in range(b0, b1):
            _add(y[t, b], table[index[t, b]], n)


@njit()
def scatter_add(d_table: Any, dy: Any, index: Any, j0: int, j1: int) -> None:
    """The table's gradient, columns j0 to j1: d_table[index[t, b]] += dy[t, b]."""
    for t in range(dy.shape[0]):
        for b in range(dy.shape[1]):
            _add(d_table[index[t, b], j0:j1], dy[t, b, j0:j1], j1 - j0)


@njit()
def column_sums(total: Any, dy: Any, columns: tuple[int, int], j0: int, j1: int) -> None:
    """A bias's gradient: total[j] = sum of dy[t, b, j], j0 to j1, over the columns b, rows in order."""
    total[j0:j1] = 0
    for t in range(dy.shape[0]):
        for b in range(columns[0], columns[1]):
            _add(total[j0:j1], dy[t, b, j0:j1], j1 - j0)


@njit()
def gather_panel_rows(table: Any, bias: Any, weight: Any, used: Any) -> None:
    """One-hot input: table[u] = bias + row used[u] of the panels (P, V, 32); only bias if used[u] >= V."""
    for u in range(len(used)):
        for p in range(weight.shape[0]):
            _copy(table[u, p * PANEL :], bias[p * PANEL :], PANEL)
            if used[u] < weight.shape[1]:
                _add(table[u, p * PANEL :], weight[p, used[u]], PANEL)


@njit()
def scatter_panel_rows(d_weight: Any, d_table: Any, used: Any, p0: int, p1: int) -> None:
    """The gradient of `gather_panel_rows` with respect to the weight, panels p0 to p1."""
    for p in range(p0, p1):
        d_weight[p] = 0
        for u in range(len(used)):
            if used[u] < d_weight.shape[1]:
                _copy(d_weight[p, used[u]], d_table[u, p * PANEL :], PANEL)
