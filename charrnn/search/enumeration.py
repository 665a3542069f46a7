"""The most probable lines of a model, best first, exactly.

Uniform-cost search (Dijkstra 1959) over the tree of prefixes. A prefix is at least as probable as each of its
continuations, since no log-probability is above 0. So the best complete line found is the next result once no
open prefix is as probable, and a prefix is pruned once `count` complete lines are more probable than it.

Only the best remaining child of a node is in the queue (partial expansion, Yoshizumi et al. 2000): a node
holds its network state and its children's probabilities.
"""

from __future__ import annotations

import heapq
import math
import sys
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from charrnn.config import MAX_LINE_LENGTH
from charrnn.errors import ConfigError, SearchError
from charrnn.search.predictor import Cursor, Predictor, size_of

MAX_BATCH = 256  # prefixes that are expanded in one step
NODE_BYTES = 700  # of the Python objects of a node, besides its arrays
LINE_BYTES = 200  # of those of a complete line
DEFAULT_COUNT = 100
DEFAULT_MEMORY = 2**30  # bytes


@dataclass(frozen=True, slots=True)
class Line:
    """A complete line or record, without its end."""

    text: str
    log_probability: float  # in nats, of what follows the prompt, the end included

    @property
    def probability(self) -> float:
        return math.exp(self.log_probability)


class Constraint(NamedTuple):
    """A deterministic automaton that whole lines must match; see charrnn.constraints.automaton."""

    start: int
    table: npt.NDArray[np.int32]  # (S, C) the next state; below 0: the character is not allowed
    classes: npt.NDArray[np.int32]  # (V,) the column of each character, the end included


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
    """The `count` most probable lines that begin with the prompt, the most probable first, or all there are.

    With `above`, only lines of at least that probability: without a `count` all of them; `count` is otherwise
    DEFAULT_COUNT. Probabilities are compared as logarithms, which cannot underflow. Equally probable lines
    are in the order of their texts.

    A line begins with the prompt's last line and ends at "\\n", which counts in its probability but is not
    part of its text. In a model of other records, "line" stands for record: it begins with the whole prompt,
    and ends at END. It has at most `length` characters after the prompt, and the `constraint` applies to
    these.

    `memory` bounds, in bytes, the open prefixes and the lines not yet returned, and thereby the time. At the
    bound the least probable of them are dropped; every line that is returned is still exact.

    Raises:
        ConfigError: a setting is out of range, or the model is one of prose and has never seen a newline.
        VocabularyError: the prompt has a character that the model has never seen.
        SearchError: `memory` did not suffice for all lines; raised after those that are certain.
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
    predictor.require_end()
    start = predictor.start(prompt, on_unknown, line=True)
    known = "".join(c for c in prompt.rpartition(predictor.text.end or "\n")[2] if c in predictor.vocabulary)
    longest = MAX_LINE_LENGTH if length is None else length
    least = -math.inf if above is None else math.log(above)
    if constraint is None:
        V = len(predictor.vocabulary)
        constraint = Constraint(0, np.zeros((1, 1), np.int32), np.zeros(V, np.int32))
    return _Search(predictor, count, least, longest, constraint, memory).lines(start, known)


@dataclass(eq=False, slots=True)
class _Node:
    """An expanded prefix, and its children, the most probable first."""

    text: str  # after the prompt
    state: Any  # of the network
    allowed: int  # the state of the constraint
    characters: list[int]
    totals: list[float]  # log p of each child
    size: int  # bytes
    next: int = 0  # the first child that is not expanded


_Open = tuple[float, str, _Node]  # -log p and text of the node's next child


@dataclass(eq=False)
class _Search:
    predictor: Predictor
    count: int
    least: float  # log p that a line must have
    length: int
    constraint: Constraint
    memory: int
    used: int = 0  # bytes
    # Two heaps, ties in the order of texts: open prefixes, and complete lines as (-log p, text).
    open: list[_Open] = field(default_factory=list)
    complete: list[tuple[float, str]] = field(default_factory=list)
    best: list[float] = field(default_factory=list)  # log p of the best `count` lines so far, a heap
    dropped: float = -math.inf  # log p of the best prefix or line that was dropped

    def lines(self, start: Cursor, prompt: str) -> Iterator[Line]:
        self._expand([start], [("", 0.0, self.constraint.start)])
        given = 0
        width = 1
        while given < self.count:
            # At equal probability the prefix goes first: a continuation may be as probable.
            while self.complete and (not self.open or self.complete[0][0] < self.open[0][0]):
                total, text = self.complete[0]
                if -total <= self.dropped or given == self.count:
                    break
                heapq.heappop(self.complete)
                self.used -= _line_size(text)
                given += 1
                yield Line(prompt + text, -total)
            if given == self.count or not self.open:
                break
            self._expand(*self._take(width))
            width = min(2 * width, MAX_BATCH)
        if given < self.count and self.dropped > -math.inf:
            raise SearchError(
                f"after {given} lines the search needs more than {self.memory / 2**20:.0f} MB: "
                "what it would give from here on is not certain",
                "give more as --memory MB, or ask for fewer lines",
            )

    def _bound(self) -> float:
        """The log p below which a prefix or line cannot be among the results."""
        worst = self.best[0] if len(self.best) == self.count else -math.inf
        return max(worst, self.dropped, self.least)

    def _take(self, width: int) -> tuple[list[Cursor], list[tuple[str, float, int]]]:
        """Remove the `width` most probable prefixes from the queue."""
        cursors: list[Cursor] = []
        prefixes: list[tuple[str, float, int]] = []
        while self.open and len(cursors) < width:
            negative, text, node = heapq.heappop(self.open)
            character = node.characters[node.next]
            allowed = int(self.constraint.table[node.allowed, self.constraint.classes[character]])
            cursors.append(Cursor(character, node.state))
            prefixes.append((text, -negative, allowed))
            node.next += 1
            self._push(node)
        return cursors, prefixes

    def _push(self, node: _Node) -> None:
        """Queue the node's next child, if it is probable enough."""
        if node.next < len(node.totals) and node.totals[node.next] >= self._bound():
            text = node.text + self.predictor.vocabulary.characters[node.characters[node.next]]
            heapq.heappush(self.open, (-node.totals[node.next], text, node))
        else:
            self.used -= node.size

    def _expand(self, cursors: list[Cursor], prefixes: list[tuple[str, float, int]]) -> None:
        """Read the last character of each prefix; record the line that ends there, and queue its children."""
        predicted = self.predictor.predict(cursors)
        closing, constraint = self.predictor.end, self.constraint
        for cursor, totals, (text, total, allowed) in zip(cursors, predicted, prefixes, strict=True):
            totals += total
            end = float(totals[closing])
            totals[closing] = -math.inf
            forbidden = constraint.table[allowed, constraint.classes] < 0
            totals[forbidden] = -math.inf
            if end > -math.inf and not forbidden[closing]:
                self._add_line(end, text)
            if len(text) >= self.length:
                continue
            bound = self._bound()
            wanted = np.flatnonzero((totals >= bound) & (totals > -math.inf))
            if not len(wanted):
                continue
            order = wanted[np.argsort(-totals[wanted], kind="stable")]  # ids are in the order of code points
            size = NODE_BYTES + len(order) * 64 + size_of(cursor.state)
            node = _Node(text, cursor.state, allowed, order.tolist(), totals[order].tolist(), size)
            self.used += node.size
            self._push(node)
        if self.used > self.memory:
            self._give_up()

    def _add_line(self, total: float, text: str) -> None:
        if total < self._bound():
            return
        heapq.heappush(self.complete, (-total, text))
        self.used += _line_size(text)
        if self.count == sys.maxsize:  # `above` alone decides
            return
        heapq.heappush(self.best, total)
        if len(self.best) > self.count:
            heapq.heappop(self.best)

    def _give_up(self) -> None:
        """Drop what is below the bound, then the least probable until half the memory is free."""
        bound = self._bound()
        kept: list[tuple[float, str, int, _Open | None]]
        kept = [(entry[0], entry[1], entry[2].size, entry) for entry in self.open if -entry[0] >= bound]
        kept += [(total, text, _line_size(text), None) for total, text in self.complete if -total >= bound]
        kept.sort(key=lambda entry: entry[:2])
        sizes = list(accumulate(size for _, _, size, _ in kept))
        fitting = bisect_right(sizes, self.memory // 2)
        if fitting < len(kept):
            self.dropped = max(self.dropped, -kept[fitting][0])
            del kept[fitting:]
        # Sorted lists are heaps.
        self.open = [entry for *_, entry in kept if entry is not None]
        self.complete = [(total, text) for total, text, _, entry in kept if entry is None]
        self.used = sizes[len(kept) - 1] if kept else 0


def _line_size(text: str) -> int:
    """Bytes of a complete line."""
    return LINE_BYTES + len(text)
