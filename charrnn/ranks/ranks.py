"""What ranks do together, and the one process that does it alone.

Rank 0, the leader, reads, decides, prints and writes. The others follow: the leader lets them call functions,
and each call finds what the one before it has left behind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np

Array = np.ndarray[Any, Any]
Call = Callable[..., Any]  # of the ranks, what the last call returned, and further arguments


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

    def exchange(self, sent: Array, counts: Sequence[int], received: Array, expected: Sequence[int]) -> None:
        """Send counts[r] numbers to each rank r, one after another, and receive expected[r] from it."""

    def spread(self, whole: Array, counts: Sequence[int]) -> None:
        """Fill the array, of which each rank r has counts[r] numbers, one after another."""

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

    def exchange(self, sent: Array, counts: Sequence[int], received: Array, expected: Sequence[int]) -> None:
        received[:] = sent

    def spread(self, whole: Array, counts: Sequence[int]) -> None:
        pass

    def leave(self, code: int) -> None:
        pass


ALONE = Alone()


def share(n: int, rank: int, size: int) -> tuple[int, int]:
    """The range of n things that is a rank's."""
    return n * rank // size, n * (rank + 1) // size
