"""Attention of a network to its own past outputs, when it writes; loops.retrospection has it for reading.

Axes: H hidden, A numbers of a key.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from charrnn.kernels.activations import exp
from charrnn.kernels.coefficients import EXP_LEAST, NORM_LANES
from charrnn.kernels.exact_layers import _row
from charrnn.kernels.loops.beside.mixing import _total
from charrnn.kernels.loops.beside.recall import _SIZE, _dot
from charrnn.kernels.machine.jit import njit
from charrnn.kernels.machine.native_calls import WORD, _floats_at, word_at

_ZERO, _LEAST = np.float32(0), np.float32(EXP_LEAST)


@njit()
def _entry(state: int, stride: int, each: int, width: int, i: int) -> Any:
    """The address of one of a state's entries of this width, of which each layer has so many."""
    return state + i // each * stride + i % each * width * _SIZE


def attend(table: int, rows: int) -> None:
    """An instruction of the compiled loop: the mean of past outputs of a network that it attends to.

    It does what charrnn.recall.attending does in NumPy, bit for bit. The table has H, the numbers A of a key,
    how many outputs there are, how many of them a layer of the state has, the bytes from layer to layer, the
    address of the biases by lag, and the addresses and widths of the result, the output, the query, the key,
    and the state's first layer: see nn.modules.program.Attend.
    """
    H, A, span, each = (
        word_at(table), word_at(table + WORD), word_at(table + 2 * WORD), word_at(table + 3 * WORD),
    )  # fmt: skip
    stride, entries = word_at(table + 4 * WORD), table + 6 * WORD
    lags, scale = _floats_at(word_at(table + 5 * WORD), span), np.float32(1 / math.sqrt(A))
    a, lanes = np.empty(span, np.float32), np.zeros(NORM_LANES)
    for b in range(rows):
        y, hidden = _row(entries, b, H), _row(entries + 2 * WORD, b, H)
        query, key = _row(entries + 4 * WORD, b, A), _row(entries + 6 * WORD, b, A)
        state = word_at(entries + 8 * WORD) + b * word_at(entries + 9 * WORD) * _SIZE
        numbers = _floats_at(state + (span + each - 1) // each * stride, 2)
        place, known = int(numbers[0]), int(numbers[1])
        if place > 0:
            value = _floats_at(_entry(state, stride, each, A + H, place - 1) + A * _SIZE, H)
            for k in range(H):
                value[k] = hidden[k]
            known, place = min(known + 1, span), place % span
        top = _ZERO
        for i in range(known):
            score = scale * _dot(query.ctypes.data, _entry(state, stride, each, A + H, i), A)
            a[i] = score + lags[(place - 1 - i) % span]
            top = a[i] if a[i] > top else top
        for i in range(known):
            x = a[i] - top
            a[i] = exp(x if x > _LEAST else _LEAST)
        x = -top
        whole = _total(a[:known], lanes) + np.float64(exp(x if x > _LEAST else _LEAST))
        for k in range(H):
            y[k] = -_ZERO
        for i in range(known):
            weight = np.float32(np.float64(a[i]) / whole)
            value = _floats_at(_entry(state, stride, each, A + H, i) + A * _SIZE, H)
            for k in range(H):
                y[k] += weight * value[k]
        kept = _floats_at(_entry(state, stride, each, A + H, place), A)
        for k in range(A):
            kept[k] = key[k]
        numbers[0], numbers[1] = np.float32(place + 1), np.float32(known)
