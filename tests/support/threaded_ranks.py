"""Ranks that are threads of one process: they exchange what ranks do, by copies, and need no MPI."""

from __future__ import annotations

import pickle
import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np

T = TypeVar("T")
PATIENCE = 60.0  # seconds


class ThreadedRanks:
    """See charrnn.ranks.ranks.Ranks."""

    threads, shards = 1, 8
    arrays: dict[int, Any]

    def __init__(self, rank: int, size: int, boxes: dict[tuple[int, int, str], queue.Queue[bytes]]) -> None:
        self.rank, self.size, self._boxes = rank, size, boxes
        self.hosts, self.arrays = ["here"] * size, {}

    def _send(self, to: int, what: str, thing: Any) -> None:
        self._boxes[self.rank, to, what].put(pickle.dumps(thing))

    def _take(self, of: int, what: str) -> Any:
        return pickle.loads(self._boxes[of, self.rank, what].get(timeout=PATIENCE))

    @contextmanager
    def asking(self, call: Any, parts: Any) -> Iterator[None]:
        for rank in range(1, self.size):
            self._send(rank, "call", (call, parts[rank]))
        yield

    def gather(self, own: Any) -> list[Any]:
        if self.rank:
            self._send(0, "reply", own)
            return []
        return [own, *(self._take(rank, "reply") for rank in range(1, self.size))]

    def exchange(self, sent: Any, counts: Any, received: Any, expected: Any) -> None:
        starts = np.cumsum([0, *counts])
        for rank, count in enumerate(counts):
            self._send(rank, "part", sent[starts[rank] : starts[rank] + count])
        found = [self._take(rank, "part") for rank in range(self.size)]
        assert list(map(len, found)) == list(expected)
        received[:] = np.concatenate(found)

    def spread(self, whole: Any, counts: Any) -> None:
        starts = np.cumsum([0, *counts])
        for rank in range(self.size):
            self._send(rank, "spread", whole[starts[self.rank] : starts[self.rank + 1]])
        whole[: starts[-1]] = np.concatenate([self._take(rank, "spread") for rank in range(self.size)])

    def leave(self, code: int) -> None:
        for rank in range(1, self.size):
            self._send(rank, "call", (None, None))

    def follow(self) -> None:
        held = None
        while True:
            call, part = self._take(0, "call")
            if call is None:
                return
            held = call(self, held, *part)


def led(size: int, lead: Callable[[ThreadedRanks], T]) -> T:
    """What the leader of so many ranks comes to, while the others follow."""
    pairs = [
        (a, b, what) for a in range(size) for b in range(size) for what in ("call", "reply", "part", "spread")
    ]
    boxes: dict[tuple[int, int, str], queue.Queue[bytes]] = {pair: queue.Queue() for pair in pairs}
    others = [ThreadedRanks(rank, size, boxes) for rank in range(1, size)]
    threads = [threading.Thread(target=other.follow, daemon=True) for other in others]
    for thread in threads:
        thread.start()
    leader = ThreadedRanks(0, size, boxes)
    try:
        return lead(leader)
    finally:
        leader.leave(0)
        for thread in threads:
            thread.join(PATIENCE)
