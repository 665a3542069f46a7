"""Sums over a row. LLVM may add in any order here, which is fixed once it is compiled."""

from __future__ import annotations

from typing import Any

from charrnn.kernels.jit import REASSOCIATE, njit


@njit(fastmath=REASSOCIATE)
def total(row: Any, n: int) -> Any:
    """The sum of row[:n]."""
    result = row.dtype.type(0)
    for j in range(n):
        result += row[j]
    return result


@njit(fastmath=REASSOCIATE)
def total_of_squares(row: Any, centre: Any, n: int) -> Any:
    """The sum of (row[:n] - centre)^2."""
    result = row.dtype.type(0)
    for j in range(n):
        result += (row[j] - centre) * (row[j] - centre)
    return result
