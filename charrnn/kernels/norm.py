"""Layer norm over each row (Ba et al. 2016).

y = (h - mean) / sqrt(variance + 1e-5) * weight + bias
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from charrnn.kernels.coefficients import NORM_EPSILON
from charrnn.kernels.machine.jit import njit
from charrnn.kernels.reductions import total, total_of_products


class Statistics(NamedTuple):
    """Each row's statistics, which forward computes and backward needs."""

    mean: Any  # (T, B)
    scale: Any  # (T, B), 1 / sqrt(variance + 1e-5)


@njit()
def _centre(y: Any, h: Any, mean: Any, H: int) -> None:
    for j in range(H):
        y[j] = h[j] - mean


@njit()
def _forward_row(y: Any, scale: Any, weight: Any, bias: Any, H: int) -> None:
    for j in range(H):
        y[j] = y[j] * scale * weight[j] + bias[j]


@njit()
def forward(y: Any, h: Any, statistics: Any, weight: Any, bias: Any, H: int, columns: Any) -> None:
    """y from h, two arrays without overlap, both (T, B, padded H); columns b0 to b1."""
    (mean, scale), (b0, b1), number = statistics, columns, y.dtype.type
    for t in range(y.shape[0]):
        for b in range(b0, b1):
            mean[t, b] = total(h[t, b], H) / number(H)
            _centre(y[t, b], h[t, b], mean[t, b], H)
            variance = total_of_products(y[t, b], y[t, b], number(0), H) / number(H)
            scale[t, b] = number(1) / math.sqrt(variance + number(NORM_EPSILON))
            _forward_row(y[t, b], scale[t, b], weight, bias, H)


@njit()
def _multiply(d: Any, dy: Any, weight: Any, H: int) -> None:
    for j in range(H):
        d[j] = dy[j] * weight[j]


@njit()
def _backward_row(dh: Any, h: Any, mean: Any, scale: Any, first: Any, second: Any, H: int) -> None:
    for j in range(H):
        normal = (h[j] - mean) * scale
        dh[j] = scale * (dh[j] - first - normal * second)


@njit()
def backward(dh: Any, dy: Any, h: Any, statistics: Any, weight: Any, H: int, columns: Any) -> None:
    """dh from dy; `parameter_gradients` computes the gradients of weight and bias."""
    (mean, scale), (b0, b1), number = statistics, columns, h.dtype.type
    for t in range(h.shape[0]):
        for b in range(b0, b1):
            _multiply(dh[t, b], dy[t, b], weight, H)
            first = total(dh[t, b], H) / number(H)
            second = total_of_products(dh[t, b], h[t, b], mean[t, b], H) * scale[t, b] / number(H)
            _backward_row(dh[t, b], h[t, b], mean[t, b], scale[t, b], first, second, H)


@njit()
def parameter_gradients(
    d_weight: Any, d_bias: Any, dy: Any, h: Any, statistics: Any, columns: tuple[int, int], j0: int, j1: int
) -> None:  # fmt: skip
    """Elements j0 to j1 of the gradients of weight and bias, summed over all rows of the columns in order."""
    mean, scale = statistics
    d_weight, d_bias = d_weight[j0:j1], d_bias[j0:j1]
    d_weight[:] = 0
    d_bias[:] = 0
    for t in range(h.shape[0]):
        for b in range(columns[0], columns[1]):
            y_row, h_row = dy[t, b, j0:j1], h[t, b, j0:j1]
            centre, factor = mean[t, b], scale[t, b]
            for j in range(j1 - j0):
                d_weight[j] += y_row[j] * (h_row[j] - centre) * factor
            for j in range(j1 - j0):
                d_bias[j] += y_row[j]
