"""Arrays aligned to cache lines."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

LINE = 64  # bytes of a cache line, and of the widest vector register


def aligned(shape: tuple[int, ...], dtype: Any) -> np.ndarray[Any, Any]:
    """Zeros that begin at a cache line, so that no vector straddles two."""
    size = np.dtype(dtype).itemsize
    count = math.prod(shape)
    memory = np.zeros(count + LINE // size, dtype)
    first = (-memory.ctypes.data % LINE) // size
    return memory[first : first + count].reshape(shape)
