"""What a product brings into the cache while it multiplies: what is worked on after it.

A product leaves the memory idle, and elementwise work waits for the memory. So what a step of a network will
read and write is listed once (`table`), a kernel plans which of it is next (`plan_step`), and each tile of a
product prefetches a cache line at each k (`ahead`). It changes no result: a place where nothing is, before
the first step or after the last, may be prefetched, too.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from charrnn.kernels.machine.aligned import LINE
from charrnn.kernels.machine.jit import njit
from charrnn.kernels.machine.native_calls import word_at

Array = np.ndarray[Any, Any]
# Rows of: an address, how many tiles prefetch from there on, and bytes from one k to the next.
Plan = np.ndarray[Any, np.dtype[np.intp]]
NOTHING: Plan = np.zeros((0, 3), np.intp)
_WORD = np.intp(NOTHING.itemsize)
_ROW = 3 * _WORD


def table(*parts: tuple[Array, int]) -> Array:
    """For `plan_step`: after the product of step t, array[t + steps] is worked on; the first part soonest.

    The arrays are (T, B, padded), with one T and one B, or empty.
    """
    rows = [
        (array.ctypes.data + steps * array.strides[0], array.strides[1])
        for array, steps in parts
        if array.size
    ]
    return np.array(rows, np.intp).reshape(-1, 2)


@njit()
def plan_step(plan: Any, table: Any, place: int, rows: int, depth: int) -> None:
    """Before a product that sums over `depth` numbers: `rows` rows of the table, from t * B + b on."""
    for n in range(len(table)):
        row = table[n, 1]
        plan[n, 0] = table[n, 0] + place * row
        plan[n, 1] = -(-rows * row // (LINE * depth))
        plan[n, 2] = LINE


@njit()
def ahead(plan: int, parts: int, left: int, depth: int, otherwise: int) -> Any:
    """Where a tile that `left` others follow prefetches from, and bytes from one k to the next.

    The last tile takes what is needed first: brought too early, it would be displaced again. `plan` is the
    address of `parts` rows.
    """
    for n in range(parts):
        row = plan + n * _ROW
        tiles = word_at(row + _WORD)
        if left < tiles:
            step = word_at(row + 2 * _WORD)
            return word_at(row) + left * depth * step, step
        left -= tiles
    return otherwise, np.intp(0)
