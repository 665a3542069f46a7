"""Prefetching, during a product, of the data that is worked on after it.

A product leaves the memory idle, and elementwise operations are bound by it. So the arrays that a step of a
network reads and writes are listed once (`table`), a kernel plans which rows are next (`plan_step`), and each
tile of a product prefetches a cache line at each k (`ahead`). This changes no result: even an address outside
of the arrays, before the first step or after the last, may be prefetched.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from charrnn.kernels.machine.aligned import LINE
from charrnn.kernels.machine.jit import njit
from charrnn.kernels.machine.native_calls import word_at

Array = np.ndarray[Any, Any]
# (parts, 3): an address, the number of tiles that prefetch from there on, and the bytes from k to k + 1.
Plan = np.ndarray[Any, np.dtype[np.intp]]
NOTHING: Plan = np.zeros((0, 3), np.intp)
_WORD = np.intp(NOTHING.itemsize)
_ROW = 3 * _WORD


def table(*parts: tuple[Array, int]) -> Array:
    """The table for `plan_step`: after the product of step t, array[t + steps] is used; the first soonest.

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
    """Plan, for a product of this depth, to prefetch `rows` rows of each array, from row t * B + b on."""
    for n in range(len(table)):
        row = table[n, 1]
        plan[n, 0] = table[n, 0] + place * row
        plan[n, 1] = -(-rows * row // (LINE * depth))
        plan[n, 2] = LINE


@njit()
def ahead(plan: int, parts: int, left: int, depth: int, otherwise: int) -> Any:
    """The address from which a tile with `left` tiles after it prefetches, and the stride from k to k + 1.

    The last tile prefetches what is needed first: fetched earlier, it would be evicted again. `plan` is the
    address of a Plan with so many parts.
    """
    for n in range(parts):
        row = plan + n * _ROW
        tiles = word_at(row + _WORD)
        if left < tiles:
            step = word_at(row + 2 * _WORD)
            return word_at(row) + left * depth * step, step
        left -= tiles
    return otherwise, np.intp(0)
