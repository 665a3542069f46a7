"""Inverting the covariance of features, for steps that know how features go together.

A matrix (S, S) that is symmetric and positive definite is inverted in place, a block of rows after another
(Gauss-Jordan): for the block B of rows and columns, with P the inverse of M_BB,

    R = P M_B:  with P in the columns of B,    M_i: = M_i: - M_iB R  with M_iB = 0 before,    M_B: = R

Axes: S features, O outputs, n rows of a block. Matrices are (1, S, padded S); panels as in products.gemm.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from charrnn.kernels.machine.jit import njit
from charrnn.kernels.machine.prefetch import NOTHING
from charrnn.kernels.products.gemm import PANEL, product

BLOCK = 64  # rows


@njit()
def add(total: Any, part: Any, p0: int, p1: int) -> None:
    """total += part, panels p0 to p1."""
    for p in range(p0, p1):
        for k in range(total.shape[1]):
            for j in range(PANEL):
                total[p, k, j] += part[p, k, j]


@njit()
def covariance(matrix: Any, products: Any, sums: Any, rows: int, shrink: float, k0: int, k1: int) -> None:
    """Rows k0 to k1 of the covariance of so many rows of features, from the sums of products and of rows.

    products (panels, S, 32) and sums (padded S,). The share `shrink` of it is taken from the identity, as
    large as the mean variance (Ledoit & Wolf 2004).
    """
    S, number = products.shape[1], matrix.dtype.type
    spread = 0.0
    for k in range(S):
        spread += np.float64(products[k // PANEL, k, k % PANEL]) / rows - (np.float64(sums[k]) / rows) ** 2
    least = number(shrink * spread / S)
    keep, share = number((1 - shrink) / rows), number((1 - shrink) / np.float64(rows) / rows)
    for k in range(k0, k1):
        row = matrix[0, k]
        for p in range(len(products)):
            for j in range(PANEL):
                row[p * PANEL + j] = keep * products[p, k, j] - share * sums[k] * sums[p * PANEL + j]
        row[S:] = number(0)
        row[k] += least


@njit()
def _invert(block: Any) -> None:
    """A small matrix (n, n), in place, by the same steps of one row."""
    n, number = len(block), block.dtype.type
    for k in range(n):
        pivot = number(1) / block[k, k]
        block[k, k] = number(1)
        for j in range(n):
            block[k, j] *= pivot
        for i in range(n):
            if i != k:
                factor = block[i, k]
                block[i, k] = number(0)
                for j in range(n):
                    block[i, j] -= factor * block[k, j]


@njit()
def begin_block(matrix: Any, rows: Any, panels: Any, first: int, n: int) -> None:
    """R, rows first to first + n: in `rows` (n, padded S), and as panels (panels, n, 32)."""
    S, inverse = matrix.shape[1], np.empty((n, n), matrix.dtype)
    for i in range(n):
        inverse[i] = matrix[0, first + i, first : first + n]
    _invert(inverse)
    for i in range(n):
        row = rows[i]
        row[:] = row.dtype.type(0)
        for k in range(n):
            factor, source = inverse[i, k], matrix[0, first + k]
            for j in range(S):
                row[j] += factor * source[j]
        row[first : first + n] = inverse[i]
        for p in range(len(panels)):
            panels[p, i] = row[p * PANEL : (p + 1) * PANEL]


@njit()
def eliminate(unit: Any, matrix: Any, factors: Any, panels: Any, first: int, n: int, rows: Any) -> None:
    """M_i: - M_iB R for the rows i of `rows`, but for those of the block; factors (1, S, padded n)."""
    for low, high in ((rows[0], min(rows[1], first)), (max(rows[0], first + n), rows[1])):
        if low >= high:
            continue
        for i in range(low, high):
            for k in range(n):
                factors[0, i, k] = -matrix[0, i, first + k]
            matrix[0, i, first : first + n] = matrix.dtype.type(0)
        product(unit, matrix, matrix, factors, panels, n, (low, high), NOTHING)


@njit()
def end_block(matrix: Any, rows: Any, first: int, n: int) -> None:
    """M_B: = R."""
    for i in range(n):
        matrix[0, first + i] = rows[i]


@njit()
def centre(centred: Any, gradient: Any, bias: Any, mean: Any, k0: int, k1: int) -> None:
    """The gradient of a weight by centred features, gradient - bias x mean: rows k0 to k1 of the panels."""
    for p in range(len(gradient)):
        for k in range(k0, k1):
            for j in range(PANEL):
                centred[p, k, j] = gradient[p, k, j] - bias[p * PANEL + j] * mean[k]


@njit()
def step(weight: Any, m: Any, direction: Any, numbers: Any, k0: int, k1: int) -> None:
    """weight = keep weight - rate m, with m = momentum m + 2 direction; rows k0 to k1 of the panels.

    weight and m (panels, S, 32), direction (1, S, padded O), numbers: momentum, rate and keep.
    """
    number = weight.dtype.type
    momentum, rate, keep = number(numbers[0]), number(numbers[1]), number(numbers[2])
    for p in range(len(weight)):
        for k in range(k0, k1):
            own, moment, now = weight[p, k], m[p, k], direction[0, k, p * PANEL :]
            for j in range(PANEL):
                moment[j] = momentum * moment[j] + number(2) * now[j]
                own[j] = keep * own[j] - rate * moment[j]


@njit()
def step_bias(bias: Any, m: Any, gradient: Any, direction: Any, mean: Any, numbers: Any) -> None:
    """The same of the bias (padded O,), by gradient - direction mean; numbers: momentum and rate."""
    number = bias.dtype.type
    momentum, rate, now = number(numbers[0]), number(numbers[1]), gradient.copy()
    for k in range(direction.shape[1]):
        for j in range(len(now)):
            now[j] -= direction[0, k, j] * mean[k]
    for j in range(len(now)):
        m[j] = momentum * m[j] + number(2) * now[j]
        bias[j] -= rate * m[j]
