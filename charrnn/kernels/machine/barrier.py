"""A barrier that threads pass within about a microsecond.

Python's own takes tens of microseconds, and a training step has several barriers. Here a waiting thread polls
a counter in memory; after a while it yields its CPU after each poll, so that more threads than CPUs are slow
but not stuck.
"""

from __future__ import annotations

import sys
import threading
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import types

from charrnn.kernels.machine.aligned import LINE
from charrnn.kernels.machine.emitted import NUMBER, emitted
from charrnn.kernels.machine.jit import JIT_DISABLED, njit

_PATIENCE = 20_000  # polls before the first yield: some tens of microseconds
_ARRIVED, _PASSED, _BROKEN = (np.intp(n * LINE) for n in range(3))  # a cache line for each counter

_YIELD = "SwitchToThread" if sys.platform == "win32" else "sched_yield"
_yield_cpu = types.ExternalFunction(_YIELD, types.int32())


@emitted(types.int64(types.intp, types.int64))
def _add(builder: Any, address: Any, amount: Any) -> Any:
    """Add to the integer at an address, atomically; returns its value before."""
    return builder.atomic_rmw("add", builder.inttoptr(address, NUMBER.as_pointer()), amount, "seq_cst")


@emitted(types.int64(types.intp))
def _load(builder: Any, address: Any) -> Any:
    """The integer at an address, read anew each time."""
    return builder.load_atomic(builder.inttoptr(address, NUMBER.as_pointer()), "seq_cst", 8, typ=NUMBER)


def counters() -> npt.NDArray[np.int64]:
    """The memory of a new barrier."""
    return np.zeros(3 * LINE // 8 + 8, np.int64)


@njit()
def pass_through(memory: Any, threads: int) -> bool:
    base = np.intp(memory.ctypes.data)
    before = _load(base + _PASSED)
    if _add(base + _ARRIVED, 1) == threads - 1:
        _add(base + _ARRIVED, -threads)
        _add(base + _PASSED, 1)
        return True
    looks = 0
    while _load(base + _PASSED) == before:
        if _load(base + _BROKEN):
            return False
        looks += 1
        if looks > _PATIENCE:
            _yield_cpu()
    return True


@njit()
def break_through(memory: Any) -> None:
    _add(np.intp(memory.ctypes.data) + _BROKEN, 1)


class Barrier:
    """A barrier for a fixed number of threads: `wait` returns once all of them have called it."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._memory = counters()

    def wait(self) -> bool:
        """Whether all threads have arrived; False: the barrier is broken, and some never will."""
        return bool(pass_through(self._memory, self._threads))

    def break_up(self) -> None:
        """Break the barrier: nobody waits any longer."""
        break_through(self._memory)


class _PlainBarrier(Barrier):
    """The barrier without the JIT."""

    def __init__(self, threads: int) -> None:
        self._barrier = threading.Barrier(threads)

    def wait(self) -> bool:
        try:
            self._barrier.wait()
        except threading.BrokenBarrierError:
            return False
        return True

    def break_up(self) -> None:
        self._barrier.abort()


if JIT_DISABLED:
    Barrier = _PlainBarrier  # type: ignore[misc]
