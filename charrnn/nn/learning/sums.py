"""The sum of the gradients of shards, in an order that no rank changes: that of charrnn.nn.operands.Parts.

A rank adds up what lies in its own shards; of these sums each rank gets a part of the vector from all others,
adds them up by the same tree, and gives its part to all. So a rank sends about as much, however many shards
it has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from charrnn.nn.operands import Share, middle
from charrnn.nn.parameters import Array
from charrnn.nn.workers import Workers
from charrnn.ranks.ranks import Ranks, share

Node = tuple[int, int]  # the shards from low to high - 1
GRAIN = 32  # numbers of which a rank's part is a multiple


def nodes(low: int, high: int, first: int, last: int) -> Iterator[Node]:
    """The largest nodes of the tree over low .. high that lie within first .. last."""
    if first <= low and high <= last:
        yield low, high
    elif low < last and first < high:
        yield from nodes(low, middle(low, high), first, last)
        yield from nodes(middle(low, high), high, first, last)


class ShardSum:
    """Adds up vectors in place of `total`, into which each of them is computed first."""

    def __init__(self, shards: int, total: Array, ranks: Ranks, workers: Workers) -> None:
        self._shards, self.total, self._ranks, self._workers = shards, total, ranks, workers
        self.own = share(shards, ranks.rank, ranks.size)
        each = (share(shards, rank, ranks.size) for rank in range(ranks.size))
        self._nodes = [list(nodes(0, shards, *part)) if part[0] < part[1] else [] for part in each]
        parts = [share(len(total) // GRAIN, rank, ranks.size) for rank in range(ranks.size)]
        self._counts = [GRAIN * (high - low) for low, high in parts]
        self._part = slice(GRAIN * parts[ranks.rank][0], GRAIN * parts[ranks.rank][1])
        self._spare: dict[object, Array] = {}

    def add_up(self, compute: Callable[[int, int], None]) -> None:
        """Put the sum of all shards into `total`.

        `compute(low, high)` puts that of some of this rank's there, a node of the tree, in the tree's order.
        """
        own, sums = self._nodes[self._ranks.rank], []
        for node in own:
            compute(*node)
            sums.append(self.total if node == own[-1] else self._put_aside(node))
        if self._ranks.size == 1:
            return
        received = self._exchanged(sums)
        self.total[self._part] = self._combined((0, self._shards), received)
        self._ranks.spread(self.total, self._counts)

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

    def _exchanged(self, sums: list[Array]) -> dict[Node, Array]:
        """This rank's part of all nodes that ranks have."""
        mine, nothing = self._counts[self._ranks.rank], np.zeros(0, self.total.dtype)
        found: dict[Node, Array] = {}
        for k in range(max(map(len, self._nodes))):
            there = [k < len(own) for own in self._nodes]
            sent = sums[k] if k < len(sums) else nothing
            into = self._spare_of(("received", k), mine * sum(there))
            expected = [mine * is_there for is_there in there]
            self._ranks.exchange(sent, [n * (k < len(sums)) for n in self._counts], into, expected)
            having = [own[k] for own, is_there in zip(self._nodes, there, strict=True) if is_there]
            found |= {node: into[n * mine : (n + 1) * mine] for n, node in enumerate(having)}
        return found

    def _combined(self, node: Node, found: dict[Node, Array]) -> Array:
        if node in found:
            return found[node]
        low, high = node
        left = self._combined((low, middle(low, high)), found)
        self._add(left, self._combined((middle(low, high), high), found))
        return left

    def _add(self, into: Array, other: Array) -> None:
        def add(share: Share) -> None:
            some = slice(*share.of(len(into)))
            np.add(into[some], other[some], out=into[some])

        self._workers.run(add)

    def _put_aside(self, purpose: object) -> Array:
        """A copy of `total`."""
        found, total = self._spare_of(purpose), self.total

        def copy(share: Share) -> None:
            some = slice(*share.of(len(total)))
            found[some] = total[some]

        self._workers.run(copy)
        return found

    def _spare_of(self, purpose: object, size: int | None = None) -> Array:
        if purpose not in self._spare:
            self._spare[purpose] = np.zeros(len(self.total) if size is None else size, self.total.dtype)
        return self._spare[purpose]
