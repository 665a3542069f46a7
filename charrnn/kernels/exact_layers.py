"""What networks compute between matrix products when they write: functions for gates, layer norm, sums.

The equations and the order of arithmetic are those of numpy_network, bit for bit; so tanh and its like
are not those of charrnn.kernels.activations, which are kept within -1 and 1.

Functions of whole rows find these through a table of addresses and sizes, as do the loops of equations.
Layer norm is for machine.native_calls, so that it is compiled only for networks that have it.

Axes: B texts, H hidden, N numbers of a row.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from charrnn.kernels import activations
from charrnn.kernels.coefficients import NORM_EPSILON, NORM_LANES, TANH_P, TANH_Q
from charrnn.kernels.machine.jit import njit
from charrnn.kernels.machine.native_calls import WORD, _floats_at, word_at

_P, _Q = (tuple(map(np.float32, row)) for row in (TANH_P, TANH_Q))
_P0, _P1, _P2, _P3, _P4 = _P
_Q0, _Q1, _Q2, _Q3, _Q4 = _Q
_NINE, _ONE, _HALF, _ZERO = np.float32(9), np.float32(1), np.float32(0.5), np.float32(0)
_SIZE = np.intp(4)  # the bytes of a number


exp, number, row_sums = activations.exp, activations.number, activations.row_sums  # in numpy_network's order


@njit()
def tanh(x: Any) -> Any:
    """As numpy_network.tanh."""
    x = -_NINE if x < -_NINE else x  # a NaN passes both
    x = _NINE if x > _NINE else x
    u = x * x
    numerator = (((_P4 * u + _P3) * u + _P2) * u + _P1) * u + _P0
    denominator = (((_Q4 * u + _Q3) * u + _Q2) * u + _Q1) * u + _Q0
    return x * numerator / denominator


@njit()
def sigmoid(x: Any) -> Any:
    """As numpy_network.sigmoid."""
    return _HALF * tanh(_HALF * x) + _HALF


@njit()
def relu(x: Any) -> Any:
    """As numpy_network.relu: 0 for a NaN."""
    return x if x > _ZERO else _ZERO


@njit()
def blend(a: Any, b: Any, z: Any) -> Any:
    """As numpy_network.blend."""
    return (_ONE - z) * a + z * b


@njit()
def _row(entry: int, row: int, n: int) -> Any:
    """The first n numbers of a row of an array; its entry in a table is its address and its rows' width."""
    return _floats_at(word_at(entry) + row * word_at(entry + WORD) * _SIZE, n)


@njit()
def _lane_sum(lanes: Any) -> float:
    """The lanes' sum, from the first to the last; they are zero afterwards."""
    total = 0.0
    for lane in range(NORM_LANES):
        total += lanes[lane]
        lanes[lane] = 0.0
    return total


def layer_norm(table: int, rows: int) -> None:
    """y = (x - mean) / sqrt(variance + 1e-5) * weight + bias, (B, H); see numpy_network.lane_sum.

    The table has H, the addresses and widths of y and x, and the addresses of weight and bias.
    """
    H = word_at(table)
    scaled_by, shifted_by = _floats_at(word_at(table + 5 * WORD), H), _floats_at(word_at(table + 6 * WORD), H)
    whole = H // NORM_LANES * NORM_LANES
    lanes = np.zeros(NORM_LANES)
    for b in range(rows):
        y, x = _row(table + WORD, b, H), _row(table + 3 * WORD, b, H)
        for j in range(0, whole, NORM_LANES):
            for lane in range(NORM_LANES):
                lanes[lane] += np.float64(x[j + lane])
        for lane in range(H - whole):
            lanes[lane] += np.float64(x[whole + lane])
        mean = _lane_sum(lanes) / H
        for j in range(0, whole, NORM_LANES):
            for lane in range(NORM_LANES):
                centred = np.float64(x[j + lane]) - mean
                lanes[lane] += centred * centred
        for lane in range(H - whole):
            centred = np.float64(x[whole + lane]) - mean
            lanes[lane] += centred * centred
        scale = 1.0 / math.sqrt(_lane_sum(lanes) / H + NORM_EPSILON)
        for j in range(H):
            y[j] = np.float32((np.float64(x[j]) - mean) * scale) * scaled_by[j] + shifted_by[j]


def connect(table: int, rows: int) -> None:
    """y[i] = sum over k of weights[k, i] x[places[k, i]], from the first k on, and zeros behind; see program.

    The table has K and S, the addresses and widths of y and x, the addresses of weights and places, (K, S),
    and how many numbers y has.
    """
    K, S, N = word_at(table), word_at(table + WORD), word_at(table + 8 * WORD)
    weights, places = _floats_at(word_at(table + 6 * WORD), K * S), word_at(table + 7 * WORD)
    for b in range(rows):
        y, x = _row(table + 2 * WORD, b, N), _row(table + 4 * WORD, b, S)
        for i in range(N):
            y[i] = -_ZERO if i < S else _ZERO
        for k in range(K):
            for i in range(S):
                y[i] += weights[k * S + i] * x[word_at(places + (k * S + i) * WORD)]


@njit()
def look_up(table: int, characters: Any, rows: int) -> None:
    """y[b] = rows_of[characters[b]]; the table has N, and the addresses and widths of y and rows_of."""
    N = word_at(table)
    for b in range(rows):
        y, x = _row(table + WORD, b, N), _row(table + 3 * WORD, characters[b], N)
        for j in range(N):
            y[j] = x[j]


@njit()
def add(table: int, rows: int) -> None:
    """z = x + y, a skip connection; the table has H, and the addresses and widths of z, x and y."""
    H = word_at(table)
    for b in range(rows):
        z = _row(table + WORD, b, H)
        x, y = _row(table + 3 * WORD, b, H), _row(table + 5 * WORD, b, H)
        for j in range(H):
            z[j] = x[j] + y[j]


def join(table: int, rows: int) -> None:
    """z = [x; y]; the table has the numbers of x and of y, and the addresses and widths of z, x and y."""
    first, second = word_at(table), word_at(table + WORD)
    for b in range(rows):
        z = _row(table + 2 * WORD, b, first + second)
        x, y = _row(table + 4 * WORD, b, first), _row(table + 6 * WORD, b, second)
        for j in range(first):
            z[j] = x[j]
        for j in range(second):
            z[first + j] = y[j]
