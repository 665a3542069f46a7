"""Restoring texts as they arrive: line by line, long lines in windows that overlap."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from charrnn.checkpoint.model_file import Checkpoint
from charrnn.nn.parameters import Array
from charrnn.tasks.reading.examples import Ragged, in_order, window_length
from charrnn.tasks.reading.restore.stripping import (
    BREAKS,
    FORCED,
    NOTHING,
    Clusters,
    Operation,
    Stripping,
    is_mark,
    is_space,
    lowered,
)
from charrnn.tasks.reading.task import READ_TOGETHER, columns_of, reader_of, window_of
from charrnn.vocabulary import code_points, positions, text_of

INNER, BESIDE = 256, 48  # characters of a window, and more of its context on each side
MOST_CHOICES = 1 << 14  # different clusters that are remembered


class Restored(NamedTuple):
    """A line, or a part of a long one, restored."""

    text: str
    confidence: float  # the probability that all that was chosen in it is right
    file: str
    number: int  # of the line in its file, from 1 on
    end: str  # of the line: its line end or, where a part is followed by another or the file ends, ""
    continues: bool  # whether another part follows


class _Window(NamedTuple):
    """Consecutive clusters of a line, and what is around them."""

    ids: Array  # (T,), with the context on both sides
    first: int  # of the clusters within
    rows: Array  # (n,), of the choices
    skipped: int  # characters at the beginning that are not of the text
    line: Restored  # without its text


class Restorer:
    """A model that restores."""

    def __init__(self, checkpoint: Checkpoint, threads: int | None = None, *, redo: bool = False) -> None:
        """`redo`: what a text has already is chosen anew."""
        self.checkpoint = checkpoint
        self.stripping = Stripping(checkpoint.text.strip)
        self._reader = reader_of(checkpoint, threads)
        self._redo = redo
        self._operations = [Operation.of(label) for label in checkpoint.columns[0].labels]
        self._choices = self._no_choices()
        self._ids: dict[int, int] = {}  # those of characters that the vocabulary lacks

    def restore(self, text: str) -> str:
        """A whole text, restored."""
        found = self.lines([("", text), ("", None)])
        return "".join(part.text + part.end for parts in found for part in parts)

    def lines(self, texts: Iterable[tuple[str, str | None]], end: str = "\n") -> Iterator[list[Restored]]:
        """Files' names with pieces of their texts, None at a file's end -> their lines, which end in `end`.

        Each line is restored from what comes before it and from itself, however it arrives; in models of
        lines, and of texts that end in NULs, from itself alone.
        """
        alone = self.checkpoint.text.lines or end != "\n"
        line = _Line("", end, alone=alone)
        for name, piece in texts:
            if name != line.file:
                line = _Line(name, end, alone=alone)
            windows = line.add(piece, self)
            if piece is None:
                line = _Line(name, end, alone=alone)
            if windows:
                yield self._restored(windows)
            if len(self._choices.rows) > MOST_CHOICES:
                self._choices = self._no_choices()

    def ids(self, sources: npt.NDArray[np.uint32]) -> Array:
        """The ids of characters (n,) for the network."""
        vocabulary = self.checkpoint.vocabulary
        found = positions(vocabulary.code_points, sources)
        for n in np.flatnonzero(found < 0).tolist():
            point = int(sources[n])
            if point not in self._ids:
                stand_in = "\n" if chr(point) in BREAKS else lowered(chr(point))
                place = vocabulary.find(stand_in)
                unknown = vocabulary.unknown if vocabulary.rare else self.checkpoint.config.vocab_size
                self._ids[point] = place if place >= 0 else unknown
            found[n] = self._ids[point]
        return found

    def rows(self, points: npt.NDArray[np.uint32], clusters: Clusters) -> Array:
        """The choices at n clusters of a text; `begins` has the end of the last one, too."""
        first, *ends = clusters.begins.tolist()
        text = text_of(points[first : ends[-1]])
        texts = [text[a - first : b - first] for a, b in zip([first, *ends], ends, strict=False)]
        flags = (clusters.sources, clusters.loose, clusters.frozen)
        each = zip(texts, *(array.tolist() for array in flags), strict=True)
        return np.fromiter((self._choices.row(*key) for key in each), np.int64, len(ends))

    def _no_choices(self) -> _Choices:
        return _Choices(self.stripping, self._operations, self.checkpoint.vocabulary.characters, self._redo)

    def _restored(self, windows: list[_Window]) -> list[Restored]:
        texts = Ragged.of([window.ids for window in windows])
        found: list[Restored] = [window.line for window in windows]
        for rows in in_order(texts.lengths, READ_TOGETHER):
            x, lengths = window_of(texts, columns_of(rows, window_length(len(rows))))
            logits = self._reader.forward(x, lengths)
            for column, r in enumerate(rows.tolist()):
                window = windows[r]
                inner = logits[window.first : window.first + len(window.rows), column].astype(np.float64)
                text, surprise = self._choices.best(window.rows, inner)
                text = text[window.skipped :]
                found[r] = window.line._replace(text=text, confidence=math.exp(-surprise))
        return found


@dataclass
class _Choices:
    """What each cluster may become: one row a cluster, one column an operation."""

    stripping: Stripping
    operations: list[Operation]
    characters: str  # that the network knows
    redo: bool
    rows: dict[tuple[str, int, bool, bool], int] = field(default_factory=dict)
    results: list[list[str | None]] = field(default_factory=list)  # None: not possible
    _bars: Array = field(default_factory=lambda: np.zeros((0, 0)))  # -inf where it is not possible, else 0

    def row(self, cluster: str, source: int, loose: bool, frozen: bool) -> int:
        """The row of a cluster; see Clusters."""
        key = cluster, source, loose, frozen
        if key not in self.rows:
            self.rows[key] = len(self.results)
            self.results.append(self._results(cluster, chr(source), loose, frozen))
        return self.rows[key]

    def best(self, rows: Array, logits: Array) -> tuple[str, float]:
        """The most probable text of clusters (n,) by their logits (n, N), and its surprise in nats."""
        if len(self._bars) < len(self.results):
            new = self.results[len(self._bars) :]
            bars = [[0.0 if result is not None else -np.inf for result in results] for results in new]
            self._bars = np.concatenate([self._bars.reshape(-1, len(self.operations)), np.array(bars)])
        logits = logits + self._bars[rows]
        best = logits.argmax(axis=1)
        largest = logits.max(axis=1, keepdims=True)
        surprise = float(np.log(np.exp(logits - largest).sum(axis=1)).sum())
        chosen = (self.results[row][n] for row, n in zip(rows.tolist(), best.tolist(), strict=True))
        return "".join(text or "" for text in chosen), surprise

    def _results(self, cluster: str, source: str, loose: bool, frozen: bool) -> list[str | None]:
        """What each operation makes of a cluster."""
        own = None if frozen else self.stripping.taken(cluster)
        if own is None:
            return [cluster if operation.label == NOTHING else None for operation in self.operations]
        known = source in self.characters or lowered(source) in self.characters
        possible = []
        for operation in self.operations:
            there = self.stripping.put_back(source, operation, loose=loose) is not None
            changes_letter = operation.marks or operation.upper
            possible.append(operation.label == NOTHING or (there and (known or not changes_letter)))
        if not self.redo:
            for name in Operation._fields:
                kept = getattr(own, name)
                same = [
                    ok and getattr(o, name) == kept for ok, o in zip(possible, self.operations, strict=True)
                ]
                possible = same if kept and any(same) else possible
        return [
            self._result(cluster, source, own, operation) if ok else None
            for ok, operation in zip(possible, self.operations, strict=True)
        ]

    def _result(self, cluster: str, source: str, own: Operation, operation: Operation) -> str:
        """A cluster after an operation. What it has already is kept, unless it is to be chosen anew."""
        strips = self.stripping
        at = next((n for n, c in enumerate(cluster[1:], 1) if not is_mark(c)), len(cluster))
        letter, gap = cluster[:at], cluster[at:]
        marks, upper, inserted = operation
        if not self.redo:
            marks, upper, inserted = own.marks or marks, own.upper or upper, "" if own.gap else inserted
        elif own.gap:
            gap = ""
        if (marks, upper) != (own.marks, own.upper):
            changed = strips.put_back(source, Operation(marks, upper), loose=False)
            letter = letter if changed is None else changed
        return letter + inserted + gap


class _Line:
    """The current line of a file: what has come of it, and has not been restored yet."""

    def __init__(self, file: str, end: str, *, alone: bool) -> None:
        self.file = file
        self._end, self._alone = end, alone
        self._number = 1
        self._context = np.zeros(0, np.int64)  # ids before what is waiting
        self._waiting, self._at_start = "\n", True  # before the first character there is a line end

    def add(self, piece: str | None, restorer: Restorer) -> list[_Window]:
        """The windows that are complete once this piece has come; None is the file's end."""
        windows: list[_Window] = []
        if piece is None:
            if len(self._waiting) > self._at_start:
                self._finish("", restorer, windows)
            return windows
        *whole, rest = piece.split(self._end)
        for text in whole:
            self._waiting += text
            self._finish(self._end, restorer, windows)
        self._waiting += rest
        self._cut(restorer, windows)
        return windows

    def _finish(self, end: str, restorer: Restorer, windows: list[_Window]) -> None:
        """The rest of a line, whose end has come."""
        if end == "\n" and self._waiting.endswith("\r"):
            self._waiting, end = self._waiting[:-1], "\r\n"
        self._cut(restorer, windows)
        points = code_points(self._waiting)
        clusters = restorer.stripping.clusters(points)
        self._window(0, len(clusters.begins), (points, clusters), restorer, windows, end)
        self._waiting, self._at_start = "\n", True
        self._number += 1
        if self._alone:
            self._context = self._context[:0]

    def _cut(self, restorer: Restorer, windows: list[_Window]) -> None:
        """Windows of a line that is longer than one, as far as nothing in them depends on what follows."""
        certain = INNER + BESIDE + FORCED + 1  # what is further from the end than FORCED is
        if len(self._waiting) <= certain:
            return
        points = code_points(self._waiting)
        clusters = restorer.stripping.clusters(points)
        low = 0
        while len(clusters.begins) - low > certain:
            high = low + INNER
            if restorer.stripping.joins_spaces and is_space(chr(clusters.sources[high])):
                high += 1
            self._window(low, high, (points, clusters), restorer, windows, None)
            low = high
        if low:
            self._waiting = self._waiting[int(clusters.begins[low]) :]

    def _window(
        self,
        low: int,
        high: int,
        parts: tuple[Array, Clusters],
        restorer: Restorer,
        windows: list[_Window],
        end: str | None,
    ) -> None:
        """The clusters from `low` to `high`; `end` is the line's, or None where it goes on."""
        points, clusters = parts
        ids = restorer.ids(clusters.sources[low : high + BESIDE])
        line = Restored("", 1.0, self.file, self._number, end or "", end is None)
        begins = np.append(clusters.begins[low : high + 1], len(points))[: high - low + 1]
        empty = self._at_start and len(points) == 1
        inner = Clusters(
            begins, clusters.sources[low:high], clusters.loose[low:high], clusters.frozen[low:high] | empty
        )
        rows = restorer.rows(points, inner)
        both = np.concatenate([self._context, ids])
        windows.append(_Window(both, len(self._context), rows, int(self._at_start), line))
        self._context = both[: len(self._context) + high - low][-BESIDE:]
        self._at_start = False
