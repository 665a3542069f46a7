"""Arrays that grow."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

CHUNK = 1 << 18  # numbers that are converted at a time


class GrowingArray:
    """A growing array of numbers in one block of memory, at most 1/16 of it spare.

    Joining a list of arrays would take twice the memory; this block is reallocated by the system and
    widens its numbers in place.
    """

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self.dtype = dtype
        self._block = np.empty(0, np.uint8)
        self._length = 0  # numbers

    def __len__(self) -> int:
        return self._length

    @property
    def nbytes(self) -> int:
        """Bytes that the numbers take."""
        return self._length * self.dtype.itemsize

    def append(self, numbers: npt.NDArray[Any]) -> None:
        """Adds numbers (n,), which fit `dtype`."""
        length = self._length + len(numbers)
        if length * self.dtype.itemsize > len(self._block):
            self._resize(length + length // 16 + 1)
        self._block.view(self.dtype)[self._length : length] = numbers
        self._length = length

    def widen(self, dtype: np.dtype[Any]) -> None:
        """Converts the numbers to a wider type, in place."""
        narrow, self.dtype = self.dtype, dtype
        if narrow == dtype:
            return
        self._resize(self._length)
        source = self._block.view(narrow)
        target = self._block.view(dtype)
        # Backwards, so that a wider number only overwrites those that were already copied.
        for start in reversed(range(0, self._length, CHUNK)):
            part = slice(start, min(start + CHUNK, self._length))
            target[part] = source[part].copy()

    def finish(self) -> npt.NDArray[Any]:
        """All numbers (n,), without spare memory. Nothing may be added afterwards."""
        self._resize(self._length)
        return self._block.view(self.dtype)

    def _resize(self, length: int) -> None:
        # The block may move, since no view of it outlives a method.
        self._block.resize(length * self.dtype.itemsize, refcheck=False)
