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
from charrnn.nn.reader import window_length
from charrnn.tasks.reading.examples import Ragged, in_order
from charrnn.tasks.reading.task import READ_TOGETHER, columns_of, reader_of, window_of
from charrnn.tasks.restoring.stripping import (
    BREAKS,
    FORCED,
    NOTHING,
    Clusters,
    Operation,
    Stripping,
    is_mark,
    lowered,
)
from charrnn.vocabulary import code_points, positions, text_of

INNER, BESIDE = 256, 48  # characters of a window, and more of its context on each side
# What is further than FORCED from the end of what has arrived does not depend on what follows.
CERTAIN = INNER + BESIDE + FORCED + 1
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
        self.reader = reader_of(checkpoint, threads)
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
        file = _File("", end, self, alone=alone)
        for name, piece in texts:
            if name != file.name:
                file = _File(name, end, self, alone=alone)
            windows = file.add(piece)
            if piece is None:
                file = _File(name, end, self, alone=alone)
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
        """The choices at the clusters of a text, (n,)."""
        text = text_of(points)
        begins = clusters.begins.tolist()
        texts = map(text.__getitem__, map(slice, begins, [*begins[1:], len(text)]))
        flags = (clusters.sources, clusters.loose, clusters.frozen)
        keys = zip(texts, *(array.tolist() for array in flags), strict=True)
        return np.fromiter(map(self._choices.row, keys), np.int64, len(begins))

    def _no_choices(self) -> _Choices:
        return _Choices(self.stripping, self._operations, self.checkpoint.vocabulary.characters, self._redo)

    def _restored(self, windows: list[_Window]) -> list[Restored]:
        texts = Ragged.of([window.ids for window in windows])
        found: list[Restored] = [window.line for window in windows]
        for rows in in_order(texts.lengths, READ_TOGETHER):
            x, lengths = window_of(texts, columns_of(rows, window_length(len(rows))))
            logits = self.reader.forward(x, lengths)
            read = [windows[r] for r in rows.tolist()]
            inner = [logits[w.first : w.first + len(w.rows), column] for column, w in enumerate(read)]
            chosen, surprises = self._choices.best(
                np.concatenate([w.rows for w in read]), np.concatenate(inner)
            )
            stop = 0
            for r, window in zip(rows.tolist(), read, strict=True):
                start, stop = stop, stop + len(window.rows)
                text = "".join(chosen[start:stop])[window.skipped :]
                found[r] = window.line._replace(
                    text=text, confidence=math.exp(-float(surprises[start:stop].sum()))
                )
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

    def row(self, key: tuple[str, int, bool, bool]) -> int:
        """The row of a cluster, its source, and whether it is loose and frozen; see Clusters."""
        row = self.rows.get(key)
        if row is None:
            row = self.rows[key] = len(self.results)
            self.results.append(self._results(key[0], chr(key[1]), key[2], key[3]))
        return row

    def best(self, rows: Array, logits: Array) -> tuple[list[str], Array]:
        """The most probable texts of clusters (n,) by logits (n, N), and their surprises (n,) in nats."""
        if len(self._bars) < len(self.results):
            new = self.results[len(self._bars) :]
            bars = [[0.0 if result is not None else -np.inf for result in results] for results in new]
            self._bars = np.concatenate([self._bars.reshape(-1, len(self.operations)), np.array(bars)])
        logits = logits.astype(np.float64) + self._bars[rows]
        best = logits.argmax(axis=1)
        surprises = np.log(np.exp(logits - logits.max(axis=1, keepdims=True)).sum(axis=1))
        results = self.results
        chosen = [results[row][n] or "" for row, n in zip(rows.tolist(), best.tolist(), strict=True)]
        return chosen, surprises

    def _results(self, cluster: str, source: str, loose: bool, frozen: bool) -> list[str | None]:
        """What each operation makes of a cluster."""
        own = None if frozen else self.stripping.taken(cluster)
        as_it_is: list[str | None] = [cluster, *[None] * (len(self.operations) - 1)]
        if own is None:
            return as_it_is
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
        if not any(possible):  # in a file that was not made by training
            return as_it_is
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


class _File:
    """Cuts the text of one file into windows as it arrives."""

    def __init__(self, name: str, end: str, restorer: Restorer, *, alone: bool) -> None:
        self.name = name
        self._end, self._restorer, self._alone = end, restorer, alone
        self._number = 1
        self._context = np.zeros(0, np.int64)  # ids before what is waiting
        self._waiting, self._at_start = "\n", True  # before the first character there is a line end

    def add(self, piece: str | None) -> list[_Window]:
        """The windows that are complete once this piece has come; None is the file's end."""
        if piece is None:
            return self._windows([self._waiting], [""]) if len(self._waiting) > self._at_start else []
        first, *more = piece.split(self._end)
        lines = [self._waiting + first, *("\n" + line for line in more)]
        self._waiting = lines[-1] if more else self._waiting + first
        ends: list[str | None] = [self._end] * len(more)
        if self._end == "\n":
            for n, line in enumerate(lines[:-1]):
                if line.endswith("\r"):
                    lines[n], ends[n] = line[:-1], "\r\n"
        if len(self._waiting) > CERTAIN:
            return self._windows(lines, [*ends, None])
        return self._windows(lines[:-1], ends) if more else []

    def _windows(self, lines: list[str], ends: list[str | None]) -> list[_Window]:
        """The windows of lines, each with the line end before it, with their ends; None: it goes on."""
        points = code_points("".join(lines))
        clusters = self._restorer.stripping.clusters(points)
        starts = np.cumsum([0, *map(len, lines)])
        bounds = np.searchsorted(clusters.begins, starts)
        clusters.frozen[bounds[:-1][np.diff(starts) == 1]] |= (
            self._at_start
        )  # nothing is put into empty lines
        ids, rows = self._restorer.ids(clusters.sources), self._restorer.rows(points, clusters)
        found: list[_Window] = []
        for low, high, end in zip(bounds[:-1].tolist(), bounds[1:].tolist(), ends, strict=True):
            while high - low > CERTAIN:
                cut = low + INNER
                cut += not clusters.solid[cut]  # of two, one is
                found.append(self._window(ids[low : min(cut + BESIDE, high)], rows[low:cut], None))
                low = cut
            if end is None:
                self._waiting = text_of(points[clusters.begins[low] :])
                break
            found.append(self._window(ids[low:high], rows[low:high], end))
            self._number += 1
            self._at_start = True
            if self._alone:
                self._context = self._context[:0]
        return found

    def _window(self, ids: Array, rows: Array, end: str | None) -> _Window:
        """A window of these clusters, of whose ids there may be more; None: the line goes on."""
        line = Restored("", 1.0, self.name, self._number, end or "", end is None)
        first = len(self._context)
        both = np.concatenate([self._context, ids])
        window = _Window(both, first, rows, int(self._at_start), line)
        self._context = both[: first + len(rows)][-BESIDE:]
        self._at_start = False
        return window
