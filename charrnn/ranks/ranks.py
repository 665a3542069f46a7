"""What ranks do together, and the one process that does it alone.

Rank 0, the leader, reads, decides, prints and writes. The others follow: the leader lets them call functions,
and each call finds what the one before it has left behind.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np

Array = np.ndarray[Any, Any]
Call = Callable[..., Any]  # of the ranks, what the last call returned, and further arguments
Pending = Callable[[], bool]  # whether what has begun is done; that goes on only while one asks
_SPIN = 2e-4  # seconds that a wait asks without a pause
_LONGEST_PAUSE = 1e-3


class Ranks(Protocol):
    """Several processes, of which this is one."""

    rank: int
    size: int
    threads: int | None  # that each has; None: as many as there are CPUs
    shards: int | None  # of a batch, unless the user says how many; None: no launcher has started it
    hosts: list[str]  # the machine of each rank
    arrays: dict[int, Any]  # what this rank holds of shared arrays, see charrnn.ranks.arrays

    @contextmanager
    def asking(self, call: Call, parts: Sequence[tuple[Any, ...]]) -> Iterator[None]:
        """Let each other rank r call `call(ranks, held, *parts[r])`, while the leader does its part."""

    def gather(self, own: Any) -> list[Any]:
        """What each rank gives, in their order; on others than the leader, nothing."""

    def exchange(
        self,
        sent: Array,
        counts: Sequence[int],
        received: Array,
        expected: Sequence[int],
        channel: int = 0,
    ) -> Pending:
        """Send counts[r] numbers to each rank r, one after another, and receive expected[r] from it.

        This only begins. What is under way at the same time has channels of its own.
        """

    def spread(self, whole: Array, counts: Sequence[int], channel: int = 0) -> Pending:
        """Begin to fill the array, of which each rank r has counts[r] numbers, one after another."""

    def leave(self, code: int) -> None:
        """Before this process ends with this code: let the others end, too."""


class Alone:
    """One process; nothing is sent."""

    SHARDS = 8  # under a launcher, unless the user says how many
    rank, size = 0, 1
    threads: int | None = None
    hosts: list[str]
    arrays: dict[int, Any]

    def __init__(self, shards: int | None = None) -> None:
        self.shards = shards
        self.hosts, self.arrays = [""], {}

    @contextmanager
    def asking(self, call: Call, parts: Sequence[tuple[Any, ...]]) -> Iterator[None]:
        yield

    def gather(self, own: Any) -> list[Any]:
        return [own]

    def exchange(
        self,
        sent: Array,
        counts: Sequence[int],
        received: Array,
        expected: Sequence[int],
        channel: int = 0,
    ) -> Pending:
        received[:] = sent
        return lambda: True

    def spread(self, whole: Array, counts: Sequence[int], channel: int = 0) -> Pending:
        return lambda: True

    def leave(self, code: int) -> None:
        pass


ALONE = Alone()


def wait_for(pending: Pending) -> None:
    """Ask until it is done."""
    began = time.perf_counter()
    while not pending():
        pause(began)


def pause(began: float) -> None:
    """Leave the core to others, the longer the longer one waits."""
    waited = time.perf_counter() - began
    time.sleep(0.0 if waited < _SPIN else min(_LONGEST_PAUSE, waited / 50))


def share(n: int, rank: int, size: int) -> tuple[int, int]:
    """The range of n things that is a rank's."""
    return n * rank // size, n * (rank + 1) // size
