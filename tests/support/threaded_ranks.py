"""Ranks that are threads of one process: they exchange what ranks do, by copies, and need no MPI."""

from __future__ import annotations

import pickle
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np

from charrnn.ranks.ranks import Pending

T = TypeVar("T")
PATIENCE = 60.0  # seconds
CHANNELS = 5
Boxes = dict[tuple[int, int, str], queue.Queue[bytes]]  # from a rank to a rank, by what is in it


class ThreadedRanks:
    """See charrnn.ranks.ranks.Ranks."""

    threads, shards = 1, 8
    arrays: dict[int, Any]

    def __init__(self, rank: int, hosts: Sequence[str], boxes: Boxes) -> None:
        self.rank, self.size, self._boxes = rank, len(hosts), boxes
        self.hosts, self.arrays = list(hosts), {}

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

    def exchange(self, sent: Any, counts: Any, received: Any, expected: Any, channel: int = 0) -> Pending:
        parts = np.split(sent, np.cumsum(counts)[:-1])
        return self._swap(parts, received, expected, f"part {channel}")

    def spread(self, whole: Any, counts: Any, channel: int = 0) -> Pending:
        own = np.split(whole, np.cumsum(counts))[self.rank]
        return self._swap([own] * self.size, whole[: sum(counts)], counts, f"spread {channel}")

    def _swap(self, parts: Any, places: Any, expected: Any, what: str) -> Pending:
        for rank, part in enumerate(parts):
            self._send(rank, what, part)
        until = time.monotonic() + PATIENCE

        def is_done() -> bool:
            assert time.monotonic() < until
            if any(self._boxes[rank, self.rank, what].empty() for rank in range(self.size)):
                return False
            found = [self._take(rank, what) for rank in range(self.size)]
            assert list(map(len, found)) == list(expected)
            places[:] = np.concatenate(found)
            return True

        return is_done

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


def led(size: int, lead: Callable[[ThreadedRanks], T], *, are_apart: bool = False) -> T:
    """What the leader of so many ranks comes to, while the others follow, perhaps on hosts of their own."""
    hosts = [f"host {rank * are_apart}" for rank in range(size)]
    kinds = ["call", "reply", *(f"{what} {n}" for what in ("part", "spread") for n in range(CHANNELS))]
    pairs = [(a, b, what) for a in range(size) for b in range(size) for what in kinds]
    boxes: Boxes = {pair: queue.Queue() for pair in pairs}
    others = [ThreadedRanks(rank, hosts, boxes) for rank in range(1, size)]
    threads = [threading.Thread(target=other.follow, daemon=True) for other in others]
    for thread in threads:
        thread.start()
    leader = ThreadedRanks(0, hosts, boxes)
    try:
        return lead(leader)
    finally:
        leader.leave(0)
        for thread in threads:
            thread.join(PATIENCE)
