"""The sum of the gradients of shards, in an order that no rank changes: that of charrnn.nn.operands.Parts.

A rank adds up what lies in its own shards; of these sums each rank gets a part of the vector from all others,
adds them up by the same tree, and gives its part to all. So a rank sends about as much, however many shards
it has. Pieces of the vector are exchanged while others are computed.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import accumulate

import numpy as np

from charrnn.nn.operands import Share, middle
from charrnn.nn.parameters import Array
from charrnn.nn.workers import Job, Phase, Workers
from charrnn.ranks.ranks import Pending, Ranks, pause, share

Node = tuple[int, int]  # the shards from low to high - 1
Place = tuple[int, int]  # the numbers of a vector, likewise
GRAIN = 32  # numbers of which a rank's part is a multiple
# Seconds between two looks at an exchange while others compute: this part of those since something has come.
REST, SHORTEST_REST, LONGEST_REST = 0.05, 5e-4, 5e-3


def nodes(low: int, high: int, first: int, last: int) -> Iterator[Node]:
    """The largest nodes of the tree over low .. high that lie within first .. last."""
    if first <= low and high <= last:
        yield low, high
    elif low < last and first < high:
        yield from nodes(low, middle(low, high), first, last)
        yield from nodes(middle(low, high), high, first, last)


class ShardSum:
    """Adds up vectors in place of `total`, into which each of them is computed first."""

    meanwhile = True  # exchanges between machines go on while others compute

    def __init__(self, shards: int, total: Array, ranks: Ranks, workers: Workers) -> None:
        self._shards, self.total, self._ranks, self._workers = shards, total, ranks, workers
        self.own = share(shards, ranks.rank, ranks.size)
        each = (share(shards, rank, ranks.size) for rank in range(ranks.size))
        self._nodes = [list(nodes(0, shards, *part)) if part[0] < part[1] else [] for part in each]
        self._spare: dict[object, Array] = {}
        # A thread that flushes denormals, like those that compute, which have other things to do.
        self._courier = Workers(1) if ranks.size > 1 else None
        self._begun: queue.SimpleQueue[Iterator[Pending]] = queue.SimpleQueue()
        self._is_awaited = threading.Event()

    @property
    def nodes(self) -> list[Node]:
        """The largest nodes of this rank's shards."""
        return self._nodes[self._ranks.rank]

    def add_up(self, compute: Callable[[int, int], None]) -> None:
        """Put the sum of all shards into `total`.

        `compute(low, high)` puts that of some of this rank's there, a node of the tree, in the tree's order.
        """
        for node in self.nodes:
            compute(*node)
            if node != self.nodes[-1]:
                self._put_aside(node)
        with self.exchanging([[(0, len(self.total))]]) as then:
            self._workers.run(then(0, len(self.nodes) - 1))

    @contextmanager
    def exchanging(self, places: Sequence[Sequence[Place]]) -> Iterator[Callable[[int, int], Phase]]:
        """Put the sum of all shards into `total`, piece by piece, until this ends.

        places[k] are those of piece k, each from a first number to before a last. When they have the sum of
        this rank's n-th node, the phase then(k, n) has to follow, where `then` is what this gives. With that
        of the last node, -1 where there is none, their exchange begins, and they may not be used any more.
        """
        if self._courier is None:
            yield lambda k, n: _nothing
            return
        # On one machine exchanges take the cores that compute: so all is exchanged at once, at the end.
        in_pieces = self.meanwhile and len(set(self._ranks.hosts)) > 1

        def begin(k: int, share: Share) -> None:
            if share.worker == 0:
                self._begun.put(self._exchange(places[k], k))

        def then(k: int, n: int) -> Phase:
            if n == len(self.nodes) - 1:
                return partial(begin, k) if in_pieces else _nothing
            return partial(self._copy, self._spare_of(self.nodes[n]), places[k])

        if in_pieces:
            self._is_awaited.clear()
            job = self._courier.start(partial(self._carry, len(places)))
            yield then
        else:
            yield then
            self._begun.put(self._exchange([(0, len(self.total))], 0))
            job = self._courier.start(partial(self._carry, 1))
        self.wait(job)

    def wait(self, job: Job) -> None:
        """Until all exchanges are done."""
        self._is_awaited.set()
        job.wait()

    def one_by_one(self, compute: Callable[[int], None]) -> Callable[[int, int], None]:
        """What `add_up` needs, from what puts the vector of one shard into `total`."""

        def add(low: int, high: int, level: int = 0) -> None:
            if high - low == 1:
                compute(low)
                return
            add(low, middle(low, high), level + 1)
            left = self._put_aside(level)
            add(middle(low, high), high, level + 1)
            self._add(self.total, left)

        return add

    def _carry(self, count: int, _: Share) -> None:
        """Carry so many exchanges through, side by side."""
        under_way: dict[Iterator[Pending], Pending] = {}
        while count or under_way:
            while count and not (under_way and self._begun.empty()):
                exchange = self._begun.get()
                under_way[exchange] = next(exchange)
                count, moved = count - 1, time.perf_counter()
            for exchange, is_done in list(under_way.items()):
                if is_done():
                    moved = time.perf_counter()
                    del under_way[exchange]
                    if following := next(exchange, None):
                        under_way[exchange] = following
            if self._is_awaited.is_set():
                pause(moved)
            else:  # each look takes time from those that compute
                rest = REST * (time.perf_counter() - moved)
                self._is_awaited.wait(min(max(rest, SHORTEST_REST), LONGEST_REST))

    def _exchange(self, places: Sequence[Place], channel: int) -> Iterator[Pending]:
        """Put the sum of all shards into places of `total`, which have that of this rank's last node."""
        size, rank = self._ranks.size, self._ranks.rank
        joined = self._joined(self.total, places)
        bounds = [share(len(joined) // GRAIN, other, size) for other in range(size)]
        counts = [GRAIN * (high - low) for low, high in bounds]
        mine, nothing = counts[rank], np.zeros(0, self.total.dtype)
        found: dict[Node, Array] = {}
        for k in range(max(map(len, self._nodes))):
            there = [k < len(own) for own in self._nodes]
            sent, own_counts = nothing, [0] * size
            if k < len(self.nodes):
                is_last = k == len(self.nodes) - 1
                sent = joined if is_last else self._joined(self._spare_of(self.nodes[k]), places)
                own_counts = counts
            into = self._spare_of(("received", channel, k), mine * sum(there))
            expected = [mine * is_there for is_there in there]
            yield self._ranks.exchange(sent, own_counts, into, expected, channel)
            having = [own[k] for own, is_there in zip(self._nodes, there, strict=True) if is_there]
            found |= {node: into[n * mine : (n + 1) * mine] for n, node in enumerate(having)}

        def combined(low: int, high: int) -> Array:
            if (low, high) not in found:
                left = combined(low, middle(low, high))
                left += combined(middle(low, high), high)
                return left
            return found[low, high]

        start = GRAIN * bounds[rank][0]
        joined[start : start + mine] = combined(0, self._shards)
        yield self._ranks.spread(joined, counts, channel)
        if len(places) > 1:
            parts = np.split(joined, list(accumulate(last - first for first, last in places))[:-1])
            for (first, last), part in zip(places, parts, strict=True):
                self.total[first:last] = part

    def _joined(self, whole: Array, places: Sequence[Place]) -> Array:
        """What stands in these places; a copy if these are several, since each message costs time."""
        parts = [whole[first:last] for first, last in places]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _add(self, into: Array, other: Array) -> None:
        def add(share: Share) -> None:
            some = slice(*share.of(len(into)))
            np.add(into[some], other[some], out=into[some])

        self._workers.run(add)

    def _put_aside(self, purpose: object) -> Array:
        """A copy of `total`."""
        found = self._spare_of(purpose)
        self._workers.run(partial(self._copy, found, [(0, len(self.total))]))
        return found

    def _copy(self, into: Array, places: Sequence[Place], share: Share) -> None:
        for first, last in places:
            some = slice(*(first + n for n in share.of(last - first)))
            into[some] = self.total[some]

    def _spare_of(self, purpose: object, size: int | None = None) -> Array:
        if purpose not in self._spare:
            self._spare[purpose] = np.zeros(len(self.total) if size is None else size, self.total.dtype)
        return self._spare[purpose]


def _nothing(share: Share) -> None:
    pass
