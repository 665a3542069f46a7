"""Orthogonalises a random matrix, with the same bits on every machine.

Modified Gram-Schmidt: each column is scaled to length 1, and its projection is subtracted from the columns
after it. The last bits of LAPACK's QR would depend on its version, the CPU and the number of threads.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from charrnn.kernels.machine.jit import njit

BLOCK = 16  # columns that are finished before the columns after them are updated
TILE = 64  # columns updated at a time, so that their sums stay in the cache


@njit()
def _take_away(a: Any, sums: Any, k0: int, k1: int, j0: int, j1: int) -> None:
    """Subtract from columns j0 .. j1 their projections on the orthonormal columns k0 .. k1."""
    sums[: k1 - k0, : j1 - j0] = 0.0
    for i in range(len(a)):
        row = a[i, j0:j1]
        for k in range(k0, k1):
            q, total = a[i, k], sums[k - k0]
            for j in range(j1 - j0):
                total[j] += q * row[j]
    for i in range(len(a)):
        row = a[i, j0:j1]
        for k in range(k0, k1):
            q, total = a[i, k], sums[k - k0]
            for j in range(j1 - j0):
                row[j] -= q * total[j]


@njit()
def orthogonalize(a: Any) -> None:
    """a (H, H) float64 becomes the Q of its QR decomposition whose R has a positive diagonal."""
    sums = np.empty((BLOCK, TILE))
    H = len(a)
    for k0 in range(0, H, BLOCK):
        k1 = min(k0 + BLOCK, H)
        for k in range(k0, k1):
            squares = 0.0
            for i in range(H):
                squares += a[i, k] * a[i, k]
            for i in range(H):
                a[i, k] /= math.sqrt(squares)
            _take_away(a, sums, k, k + 1, k + 1, k1)
        for j0 in range(k1, H, TILE):
            _take_away(a, sums, k0, k1, j0, min(j0 + TILE, H))
