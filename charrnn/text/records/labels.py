"""The labels of a corpus: cut off the beginnings of its records, or taken from the names of its files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from charrnn.config import MOST_COLUMNS, MOST_LABELS, TextConfig
from charrnn.errors import CorpusError, VocabularyError, quoted
from charrnn.labels import Column, Columns, names
from charrnn.text.files.decoding import MARK, NEWLINE, CodePoints
from charrnn.text.files.sources import Source
from charrnn.vocabulary import text_of

HIDDEN_TOGETHER = 2048  # characters of a long text over which its labels are hidden or not
TAB = ord("\t")
Ids = npt.NDArray[np.int32]
Where = Callable[[int], str]  # the place of a code point in messages
Pieces = Iterator[tuple[CodePoints, Where]]  # of a file
Places = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False, slots=True)
class Labelling:
    """The labels of a text's parts, which begin at `starts`."""

    starts: Places  # (R,), indices of the array of characters; sorted, from 0
    ids: Ids  # (R, columns); one beyond the last of its column is unknown

    def parts(self, places: Places) -> Places:
        """The part in which each place lies."""
        found: Places = np.searchsorted(self.starts, places, side="right") - 1
        return found

    def after(self, place: int) -> Labelling:
        """The same for the array from this place on."""
        first = int(self.parts(np.array([place]))[0])
        return Labelling(np.maximum(self.starts[first:] - place, 0), self.ids[first:])

    def at(self, places: Places, hidden: float = 0.0, key: int = 0) -> Ids:
        """The labels at these places, (.., columns); the share `hidden` of the parts has none.

        Of several columns, each is also hidden as often by itself. The key decides where; a part of more than
        HIDDEN_TOGETHER characters has labels in some of its places, and none in others.
        """
        parts = self.parts(places)
        ids = self.ids[parts]
        if not hidden:
            return ids
        columns = ids.shape[-1]
        blocks = (places - self.starts[parts]) // HIDDEN_TOGETHER
        with np.errstate(over="ignore"):  # SplitMix64 of the part, the block and the column
            z = (parts.astype(np.uint64) << np.uint64(24)) + blocks.astype(np.uint64)
            z = z[..., None] * np.uint64(MOST_COLUMNS + 1) + np.arange(columns + 1, dtype=np.uint64)
            z = (z + np.uint64(key)) * np.uint64(0x9E3779B97F4A7C15)
            for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
                z = (z ^ (z >> np.uint64(shift))) * np.uint64(factor)
        without = (z ^ (z >> np.uint64(31))).astype(np.float64) < hidden * 2.0**64
        both = without[..., :1] | without[..., 1:] if columns > 1 else without[..., :1]
        return np.where(both, np.int32(MOST_LABELS), ids)


class Numbers(dict[str, int]):
    """Labels -> their numbers: those of a column, or by first appearance. The empty label has -1."""

    def __init__(self, known: Column | None = None, *, skips: bool = False) -> None:
        super().__init__(zip(known.labels if known else (), range(MOST_LABELS), strict=False))
        self.known, self.skips = known, skips
        self.skipped = 0  # how often a label that is not known was taken as unknown

    def __missing__(self, label: str) -> int:
        if not label.strip():
            return -1
        if self.known is None:
            if len(self) == MOST_LABELS:
                raise CorpusError(
                    f"there are more than {MOST_LABELS:,} different labels",
                    "give the label first, then a tab",
                )
            self[label] = len(self)
            return self[label]
        if not self.skips:
            self.known.id_of(label)  # raises an error
        self.skipped += 1
        return -1

    def finish(self, name: str, rows: Ids) -> tuple[Column, Ids]:
        """The column, and its ids for numbers (n,). Without known labels, counts are those of the rows."""
        if self.known is not None:
            return self.known, np.where(rows < 0, len(self), rows)
        order = sorted(self)
        ids = {label: n for n, label in enumerate(order)}
        table = np.array([*(ids[label] for label in self), len(self)], np.int32)
        found = table[rows]  # -1: the last
        counts = np.bincount(found, minlength=len(self) + 1)[: len(self)]
        return Column(name, tuple(order), tuple(counts.tolist())), found


class Cutter:
    """Cuts labels off the beginnings of records: the code points of one file after another, in pieces.

    Each record begins with its labels, each followed by a tab. If there is more than one, or if the columns
    are known and have names, the first record of a file may be a header that names them, and the text. Those
    of tables have none: their columns are known by name.
    """

    def __init__(self, text: TextConfig, columns: Columns | None, *, skips: bool) -> None:
        """Without `columns`, a header says which there are."""
        self._end, self._bytes = ord(text.end), text.bytes
        self._has_header = not text.label_fields
        self.names = None if columns is None else names(columns)
        if text.label_fields:
            known = {column.name: column for column in columns or ()}
            self.names = text.label_fields
            self.numbers = [Numbers(known.get(name), skips=skips) for name in self.names]
        else:
            self.numbers = [Numbers(column, skips=skips) for column in columns or ()]
        self.rows: list[Ids] = []  # a row for each record, in pieces
        self.count = 0  # of these rows
        self._first, self._inside = self._has_header, False
        self._rest: CodePoints = np.zeros(0, np.uint8)
        self._place = ""  # where the record begins that is held back
        self._origins: Places = np.zeros(0, np.int64)  # of what was returned last, in what was cut ..
        self._where: Where = lambda n: ""  # .. whose places in messages this gives

    def add(self, points: CodePoints, where: Where) -> CodePoints:
        """What the next piece (n,) of the file makes certain, without labels.

        `where` gives the place of a code point of the piece in messages.

        Raises:
            CorpusError: a record has no label.
            VocabularyError: a label is not known.
        """
        held = len(self._rest)
        if held:
            points = np.concatenate([self._rest, points])
        if self._first:
            stop = np.flatnonzero(points == self._end)
            if not len(stop):
                self._rest, self._place = points, where(0)
                return points[:0]
            if self._is_header(text_of(points[: stop[0]])):
                points, held = points[stop[0] + 1 :], held - int(stop[0]) - 1
            self._first = False
        place = self._place
        return self._cut(points, lambda n: place if n < held else where(n - held))

    def finish(self, where: Where) -> CodePoints:
        """The rest of the file; a record that was held back is ended."""
        found = self.add(np.array([self._end], np.uint32), where) if len(self._rest) else self._rest
        self._first, self._inside = self._has_header, False
        return found

    def _is_header(self, record: str) -> bool:
        fields = record.split("\t")
        if self.names is None:
            self.names = tuple(fields[:-1]) if len(fields) > 2 else ("",)
            if len(fields) > 2 and ("" in fields or len(set(fields)) < len(fields) <= MOST_COLUMNS + 1):
                raise CorpusError(
                    f"the first line, {quoted(record)}, does not name its columns",
                    "with several labels, give a line such as origin<TAB>era<TAB>text first",
                )
            self.numbers = [Numbers() for _ in self.names]
            return self.names != ("",)
        return self.names != ("",) and tuple(fields[:-1]) == self.names

    def _cut(self, points: CodePoints, where: Where) -> CodePoints:
        n, width = len(points), len(self.numbers)
        stops = np.flatnonzero(points == self._end)
        starts = np.concatenate([[0], stops + 1])  # of the records; the last one has no end yet
        stops = np.append(stops, n)
        if self._inside:  # the labels of the first one are cut
            starts, stops = starts[1:], stops[1:]
        tabs = np.append(np.flatnonzero(points == TAB), np.full(width, n))
        tab = tabs[np.searchsorted(tabs, starts) + width - 1]  # the last one before each record's text
        has, empty = tab < stops, starts == stops
        if len(starts) and not (has[-1] and tab[-1] + 1 < n):  # so that an empty text has its end beside it
            self._rest, self._place = points[starts[-1] :].copy(), where(int(starts[-1]))
            points, self._inside = points[: starts[-1]], False
            starts, tab, has, empty = starts[:-1], tab[:-1], has[:-1], empty[:-1]
        else:
            self._rest, self._inside = points[:0], True
        text = text_of(points)
        labels = [text[a:b] for a, b in zip(starts[has].tolist(), tab[has].tolist(), strict=True)]
        bad = ~has & ~empty
        if self._end != NEWLINE:
            bad[np.flatnonzero(has)] = ["\n" in label for label in labels]
        if bad.any():
            first = int(starts[bad.argmax()])
            what = "a label" if width == 1 else f"{width} labels"
            raise CorpusError(
                f"a text has no {'label' if width == 1 else what}, {where(first)}",
                f"begin each with {what} and a tab after {'it' if width == 1 else 'each'}",
            )
        rows = np.full((len(starts), width), -1, np.int32)
        self._number(labels, rows, has, lambda k: where(int(starts[np.flatnonzero(has)[k]])))
        self.rows.append(rows)
        self.count += len(rows)
        steps = np.zeros(len(points) + 1, np.int8)
        steps[starts[has]] = 1
        steps[tab[has] + 1] = -1
        self._origins = np.flatnonzero(np.cumsum(steps[:-1], dtype=np.int8) == 0)
        self._where = where
        kept: CodePoints = points[self._origins]
        return kept

    def where(self, n: int) -> str:
        """The place of a code point that was returned last, in messages."""
        return self._where(int(self._origins[n]))

    def _number(self, labels: list[str], rows: Ids, has: Any, where: Callable[[int], str]) -> None:
        """Fill the rows of records that have labels."""
        width = len(self.numbers)
        if self._bytes:
            labels = [label.encode("latin-1").decode("utf-8", "replace") for label in labels]
        columns = zip(*(label.split("\t") for label in labels), strict=True) if width > 1 else [labels]
        for column, (numbers, values) in enumerate(zip(self.numbers, columns, strict=False)):
            try:
                rows[has, column] = list(map(numbers.__getitem__, values))
            except VocabularyError:
                k = next(k for k, value in enumerate(values) if value and value not in numbers)
                assert numbers.known is not None
                numbers.known.id_of(values[k], f", {where(k)}")


def name_of_file(path: Path, by: str) -> str:
    """The label that a file's name, without its suffixes, or its folder's gives to all its texts."""
    if by == "folder":
        return path.resolve().parent.name
    name = path.name.removesuffix(".gz")
    return name.rpartition(".")[0] or name


class Labels:
    """Reads the labels of a corpus: those before its records, or those in the names of its files."""

    def __init__(self, text: TextConfig, columns: Columns | None, *, skips: bool) -> None:
        self._by = text.label_by
        self._end, self._bytes = ord(text.end or "\0"), text.bytes
        self._cutter = Cutter(text, columns, skips=skips) if text.label_by == "column" else None
        self._files = Numbers(columns[0] if columns else None, skips=skips)
        self._starts: list[int] = []  # of the files, and their labels
        self._of_files: list[int] = []
        self._kept: list[npt.NDArray[np.bool_]] = []  # whether each record is in the text, by piece
        self._noted = 0  # records in these

    def cut(self, pieces: Pieces, source: Source, start: int) -> Pieces:
        """The code points of a file, whose ids begin at `start`, without labels."""
        if self._cutter is None:
            if source.path is None:
                raise CorpusError(f"{source.name} has no name that could be a label", "give files or folders")
            self._starts.append(start)
            self._of_files.append(self._files[name_of_file(source.path, str(self._by))])
            yield from pieces
            return
        where: Where = lambda n: f"in {source.name}"  # noqa: E731
        for points, where in pieces:
            if points.dtype == np.uint8 and not self._bytes and self._end != NEWLINE:
                points = np.where(points == MARK, np.uint32(self._end), points)
            yield self._cutter.add(points, where), self._cutter.where
        yield self._cutter.finish(where), self._cutter.where

    def note(self, kept: npt.NDArray[np.bool_]) -> None:
        """Note of the next records that have ended whether they are in the text: empty ones are not."""
        self._kept.append(kept)
        self._noted += len(kept)

    def finish_file(self) -> None:
        """Note the end of a file: a last record without an end is not in the text."""
        if self._cutter is not None:
            self.note(np.zeros(self._cutter.count - self._noted, np.bool_))

    def finish(self, records: Places, fits: npt.NDArray[np.bool_]) -> tuple[Columns, Labelling]:
        """The columns, and the labels of the text's parts: records, which start in these places, or files.

        Of the records that were kept, those are in the text that fit, (records kept,) or (1,) for all.

        Raises:
            CorpusError: there are no labels.
        """
        if self._cutter is not None:
            numbers, starts = self._cutter.numbers, records
            rows = np.concatenate(self._cutter.rows)[np.concatenate(self._kept)]
            rows = rows[np.broadcast_to(fits, len(rows))]
        else:
            numbers, starts = [self._files], np.array(self._starts, np.int64)
            rows = np.array(self._of_files, np.int32)[:, None]
            if len(records):
                rows, starts = rows[np.searchsorted(starts, records, side="right") - 1], records
        named = (self._cutter and self._cutter.names) or ("",)
        found = [n.finish(name, rows[:, k]) for k, (n, name) in enumerate(zip(numbers, named, strict=True))]
        columns = tuple(column for column, _ in found)
        for column in columns:
            if not column.labels:
                of = f" of {column.name}" if column.name else ""
                raise CorpusError(f"no text has a label{of}", "leave out --labels")
        return columns, Labelling(starts, np.stack([ids for _, ids in found], axis=1))

    @property
    def skipped(self) -> int:
        """How many labels were not known, and taken as unknown."""
        return sum(n.skipped for n in (self._cutter.numbers if self._cutter else [self._files]))
