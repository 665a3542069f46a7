"""The most probable lines of a model, best first, exactly.

Uniform-cost search (Dijkstra 1959) over the tree of beginnings. A beginning is at least as probable as
whatever goes on from it, since no character's log-probability is above 0. So once no open beginning is as
probable as the best whole line that was found, that line is the next one. Where the first `count` whole
lines that were found are all more probable than a beginning, nothing that comes of it is wanted.

A beginning's children wait in its node, of which only the best is in the queue (as in Korf's partial
expansion, Yoshizumi et al. 2000): a node's memory is its network state and its children's probabilities.
"""

from __future__ import annotations

import heapq
import math
import sys
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Literal

import numpy as np

from charrnn.config import MAX_LINE_LENGTH
from charrnn.errors import ConfigError, SearchError
from charrnn.search.predictor import Constraint, Cursor, Predictor

MOST_SIDE_BY_SIDE = 256  # beginnings that are expanded in one step
NODE_BYTES = 700  # of Python's objects for a node, beside its arrays
LINE_BYTES = 200  # of those for a whole line
DEFAULT_COUNT = 100
DEFAULT_MEMORY = 2**30  # bytes of open beginnings


@dataclass(frozen=True, slots=True)
class Line:
    """A whole line, without its end."""

    text: str
    # In nats: log p of what follows the prompt, the line's end included.
    log_probability: float

    @property
    def probability(self) -> float:
        """exp(log_probability)."""
        return math.exp(self.log_probability)


def enumerate_lines(
    predictor: Predictor,
    prompt: str = "",
    *,
    count: int | None = None,
    above: float | None = None,
    length: int | None = None,
    constraint: Constraint | None = None,
    memory: int = DEFAULT_MEMORY,
    on_unknown: Literal["error", "skip"] = "error",
) -> Iterator[Line]:
    """The `count` most probable lines that go on from the prompt, the most probable first.

    With `above`, only those whose probability is at least that: as many as there are without a `count`, which
    is else DEFAULT_COUNT. Probabilities are compared as logarithms, which are never rounded to 0.

    Equally probable ones come in the order of their texts. They are all there are if they are fewer. A line
    begins with the prompt's last line, and ends at "\\n", which counts in its probability, but is no part
    of its text. `length` is the most characters that it may have after the prompt, the end not counted; the
    `constraint` is on these characters.

    `memory` bounds, in bytes, the open beginnings and the lines that are yet to come, and so also the time.
    At the bound the least probable ones are given up; each line that comes nevertheless is certain.

    Raises:
        ConfigError: a setting is out of range, or the model knows no line end.
        VocabularyError: the prompt holds a character that the model has never seen.
        SearchError: after the lines that are certain, `memory` did not suffice for the rest.
    """
    if count is None:
        count = DEFAULT_COUNT if above is None else sys.maxsize
    if count < 1:
        raise ConfigError(f"count is {count}", "give a whole number from 1 up")
    if above is not None and not 0 < above < 1:
        raise ConfigError(f"above is {above}", "give a probability above 0 and below 1, such as 0.001")
    if memory < 2**20:
        raise ConfigError(f"memory is {memory / 2**20:g} MB", "give at least 1")
    if length is not None and length < 0:
        raise ConfigError(f"length is {length}", "give a whole number from 0 up")
    predictor.require_line_end()
    start = predictor.start_line(prompt, on_unknown)
    known = "".join(c for c in prompt.rpartition("\n")[2] if c in predictor.vocabulary)
    longest = MAX_LINE_LENGTH if length is None else length
    least = -math.inf if above is None else math.log(above)
    return _Search(predictor, count, least, longest, constraint, memory).lines(start, known)


class _Node:
    """A beginning that has been read, and its children that are still to come, best first."""

    __slots__ = ("allowed", "characters", "next", "size", "state", "text", "totals")

    def __init__(self, text: str, state: Any, allowed: Any, characters: Any, totals: Any) -> None:
        self.text = text  # after the prompt
        self.state = state  # of the network
        self.allowed = allowed  # of the constraint
        self.characters: list[int] = characters
        self.totals: list[float] = totals  # log p of each child
        self.next = 0  # of the children
        self.size = NODE_BYTES + len(totals) * 64  # bytes


_Open = tuple[float, str, _Node]  # -log p and text of the node's best child


class _Search:
    def __init__(
        self,
        predictor: Predictor,
        count: int,
        least: float,
        length: int,
        constraint: Constraint | None,
        memory: int,
    ) -> None:
        self._predictor = predictor
        self._characters = predictor.vocabulary.characters
        self._count = count
        self._least = least  # log p of what is still wanted
        self._length = length
        self._constraint = constraint
        self._memory = memory
        self._used = 0  # bytes
        # The best child of each node, and whole lines: (-log p, text, ..), so that ties go by text.
        self._open: list[_Open] = []
        self._whole: list[tuple[float, str]] = []
        self._best: list[float] = []  # log p of the best `count` whole lines so far, a heap
        self._dropped = -math.inf  # log p of the best beginning that was given up

    def lines(self, start: Cursor, prompt: str) -> Iterator[Line]:
        constraint = self._constraint
        self._expand([start], [("", 0.0, None if constraint is None else constraint.start())])
        given = 0
        width = 1
        while given < self._count:
            # Of equal probability, the beginning first: what comes of it may be as probable.
            while self._whole and (not self._open or self._whole[0][0] < self._open[0][0]):
                total, text = self._whole[0]
                if -total <= self._dropped or given == self._count:
                    break
                heapq.heappop(self._whole)
                self._used -= _line_size(text)
                given += 1
                yield Line(prompt + text, -total)
            if given == self._count or not self._open:
                break
            self._expand(*self._take(width))
            width = min(2 * width, MOST_SIDE_BY_SIDE)
        if given < self._count and self._dropped > -math.inf:
            raise SearchError(
                f"after {given} lines the search needs more than {self._memory / 2**20:.0f} MB: "
                "what it would give from here on is not certain",
                "give more as --memory MB, or ask for fewer lines",
            )

    def _bound(self) -> float:
        """What is less probable is not wanted."""
        whole = self._best[0] if len(self._best) == self._count else -math.inf
        return max(whole, self._dropped, self._least)

    def _take(self, width: int) -> tuple[list[Cursor], list[tuple[str, float, object]]]:
        """The most probable open beginnings."""
        cursors: list[Cursor] = []
        beginnings: list[tuple[str, float, object]] = []
        while self._open and len(cursors) < width:
            negative, text, node = heapq.heappop(self._open)
            character = node.characters[node.next]
            allowed = node.allowed
            if self._constraint is not None:
                allowed = self._constraint.advance(allowed, character)
            cursors.append(Cursor(character, node.state))
            beginnings.append((text, -negative, allowed))
            node.next += 1
            self._push(node)
        return cursors, beginnings

    def _push(self, node: _Node) -> None:
        """Put the node's next child into the queue, if there is one that is wanted."""
        if node.next < len(node.totals) and node.totals[node.next] >= self._bound():
            text = node.text + self._characters[node.characters[node.next]]
            heapq.heappush(self._open, (-node.totals[node.next], text, node))
        else:
            self._used -= node.size

    def _expand(self, cursors: list[Cursor], beginnings: list[tuple[str, float, object]]) -> None:
        """Read each beginning's last character: whole lines, and nodes with what else may follow."""
        predicted = self._predictor.predict(cursors)
        newline, constraint = self._predictor.newline, self._constraint
        for cursor, totals, (text, total, allowed) in zip(cursors, predicted, beginnings, strict=True):
            totals += total
            end = float(totals[newline])
            totals[newline] = -math.inf
            if constraint is not None:
                mask = constraint.allowed(allowed)
                totals[~mask[:-1]] = -math.inf
                end = end if mask[-1] else -math.inf
            if end > -math.inf:
                self._add_whole(end, text)
            if len(text) >= self._length:
                continue
            bound = self._bound()
            wanted = np.flatnonzero((totals >= bound) & (totals > -math.inf))
            if not len(wanted):
                continue
            order = wanted[np.argsort(-totals[wanted], kind="stable")]  # ids are in the order of texts
            node = _Node(text, cursor.state, allowed, order.tolist(), totals[order].tolist())
            node.size += _size(cursor.state)
            self._used += node.size
            self._push(node)
        if self._used > self._memory:
            self._give_up()

    def _add_whole(self, total: float, text: str) -> None:
        if total < self._bound():
            return
        heapq.heappush(self._whole, (-total, text))
        self._used += _line_size(text)
        if self._count == sys.maxsize:  # all that are probable enough: how many, nobody knows
            return
        if len(self._best) < self._count:
            heapq.heappush(self._best, total)
        else:
            heapq.heappushpop(self._best, total)

    def _give_up(self) -> None:
        """Drop the less probable half of what is kept, and first what is no longer wanted."""
        bound = self._bound()
        kept: list[tuple[float, str, int, _Open | None]]
        kept = [(entry[0], entry[1], entry[2].size, entry) for entry in self._open if -entry[0] >= bound]
        kept += [(total, text, _line_size(text), None) for total, text in self._whole if -total >= bound]
        kept.sort(key=lambda entry: entry[:2])
        sizes = list(accumulate(size for _, _, size, _ in kept))
        fitting = bisect_right(sizes, self._memory // 2)
        if fitting < len(kept):
            self._dropped = max(self._dropped, -kept[fitting][0])
            del kept[fitting:]
        # Sorted, they are heaps.
        self._open = [entry for *_, entry in kept if entry is not None]
        self._whole = [(total, text) for total, text, _, entry in kept if entry is None]
        self._used = sizes[len(kept) - 1] if kept else 0


def _line_size(text: str) -> int:
    """Bytes of a whole line that waits."""
    return LINE_BYTES + len(text)


def _size(state: Any) -> int:
    """Bytes of a network's state."""
    return sum(map(_size, state)) if isinstance(state, tuple) else int(state.nbytes)
