"""Code points of texts -> code points of their records, each followed by END.

A cutter takes the text of one file after another, in pieces of any size, and works on all records of a piece
at once. What separates records is no part of them; a file's end ends its last record, which has no END yet.

    line    ends with its "\\n", which is its end: nothing is cut
    blank   ends before one or more empty lines, or lines of spaces and tabs alone
    nul     ends before a NUL; line ends are characters like others
    file    is a whole file without its last line end
    a line  ends before a line that is equal to it

For `blank` and a line, the line end before the separator belongs to it: the records of "a\\n%\\nb\\n" are "a"
and "b", as are those of "a\\0b\\0" with `nul`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

from charrnn.config import END, SEPARATIONS, Form, TextConfig
from charrnn.errors import CorpusError, quoted
from charrnn.system.spelling import distance
from charrnn.text.files.decoding import MARK, NEWLINE, CodePoints
from charrnn.text.files.normalization import normalised, separating
from charrnn.vocabulary import code_points

LONGEST_EMPTY = 1000  # characters of a line that counts as empty
LONGEST_NAMED = 24  # characters of a line that a message names as a likely separator
EXAMINED = 1000  # different lines, the most frequent ones, among which likely separators are sought
MOST_NAMED = 3
LONGEST_DECOMPOSED = 4  # code points that normalisation joins to one

Positions = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
_NONE: CodePoints = np.zeros(0, np.uint8)


class Cutter:
    """Cuts nothing: prose, or lines, whose ends are characters."""

    leaves_none_empty = False  # whether no record that is returned is empty

    def __init__(self, marks: bool = True) -> None:
        """`marks`: whether MARK stands for END in pieces of bytes, which then hold ASCII alone."""
        self.separators = 0
        self.empty = 0  # records without any place in the text, as between two separators
        self._marks = marks
        self._masks = np.ones((2, 0), np.bool_)  # used again, since new memory is slow
        self.start()

    def start(self) -> None:
        """Begin a file."""
        self._line = 1  # of the first code point of `_piece`
        self._piece: CodePoints = _NONE  # that was added last
        self._dropped: Positions | None = None  # in `_piece`, when it was returned

    def add(self, points: CodePoints) -> CodePoints:
        """What the next piece (n,) of the file makes certain."""
        self._note(points)
        return points

    def finish(self) -> CodePoints:
        """The rest of the file."""
        return _NONE

    def line_of(self, index: int) -> int:
        """The line of a code point that was returned last."""
        if self._dropped is not None:
            index = int(np.delete(np.arange(len(self._piece)), self._dropped)[index])
        return self._line + int(np.count_nonzero(self._piece[:index] == NEWLINE))

    def _note(self, piece: CodePoints, dropped: Positions | None = None) -> None:
        """Note what is about to be returned: the next piece, but for these positions."""
        self._line += int(np.count_nonzero(self._equal(self._piece, NEWLINE)))
        self._piece, self._dropped = piece, dropped

    def _mask(self, n: int, size: int) -> Mask:
        """Mask n = 0, 1 of this size, as it was left; all of mask 1 is true when it is taken."""
        if self._masks.shape[1] < size:
            self._masks = np.ones((2, size), np.bool_)
        return self._masks[n, :size]

    def _equal(self, points: CodePoints, point: int) -> Mask:
        """points == point, until the next call."""
        return np.equal(points, point, out=self._mask(0, len(points)))

    def _ended(self, points: CodePoints, places: Positions | Mask) -> CodePoints:
        """The code points, which are overwritten if they are ASCII, with END in these places."""
        in_place = self._marks and points.dtype == np.uint8
        result = points if in_place else points.astype(np.uint32)
        result[places] = MARK if in_place else ord(END)
        return result


class Nuls(Cutter):
    """Records that end before a NUL."""

    def add(self, points: CodePoints) -> CodePoints:
        self._note(points)
        marks = np.flatnonzero(self._equal(points, 0))
        self.separators += len(marks)
        return self._ended(points.copy(), marks)


class Files(Cutter):
    """Each file is a record, without the line end of its last line."""

    def start(self) -> None:
        super().start()
        self._waits = False  # whether a line end is held back

    def add(self, points: CodePoints) -> CodePoints:
        if self._waits:
            points = np.concatenate([_points("\n"), points])
        self._waits = bool(points[-1] == NEWLINE)
        return super().add(points[: len(points) - self._waits])


class Lines(Cutter):
    """Records that end before lines of some kind. The line end before such a line belongs to it, too.

    A line that is incomplete and may be one is held back, and so is the line end before it.
    """

    longest: int  # characters of a line that separates records
    closing: str  # such a line
    repeats = False  # whether several in a row are one separator
    leaves_none_empty = True

    def find(self, points: CodePoints) -> tuple[Positions, Positions]:
        """Where the lines that separate records start and stop, (n,) each, their line ends included.

        `points` begin with a line, unless they are `_inside` one.
        """
        raise NotImplementedError

    def may_separate(self, part: CodePoints) -> bool:
        """Whether a line that begins like this may separate records."""
        raise NotImplementedError

    def start(self) -> None:
        super().start()
        self._rest = _NONE  # what is held back
        self._at_line_start = True
        self._begun = False  # whether a part of the current record was returned
        self._inside = False  # whether `_rest`, or what comes next, begins within a line, or at its end

    def add(self, points: CodePoints) -> CodePoints:
        self._at_line_start = bool(points[-1] == NEWLINE)
        if len(self._rest):
            points = np.concatenate([self._rest, points])
        starts, stops = self.find(points)

        # The incomplete line at the end, if it is short enough.
        tail = points[-self.longest - 1 :]
        line_ends = np.flatnonzero(tail == NEWLINE)
        cut = len(points)
        last = cut - len(tail) + int(line_ends[-1]) + 1 if len(line_ends) else 0
        known = len(line_ends) > 0 or (cut <= self.longest and not self._inside)
        if known and self.may_separate(points[last:]):
            self._inside = last > 0 and not (len(stops) and stops[-1] == last)
            cut = last - self._inside
        else:
            self._inside = True
        self._rest = points[cut:].copy()
        return self._without(points[:cut], starts, stops)

    def finish(self) -> CodePoints:
        separators, empty = self.separators, self.empty
        found = self.add(_points("" if self._at_line_start else "\n", self.closing, "\n"))
        self.separators, self.empty = separators, empty
        return found

    def _without(self, points: CodePoints, starts: Positions, stops: Positions) -> CodePoints:
        """A piece without its separators, which are points[starts:stops], (separators,) each."""
        if not len(starts):
            self._begun = self._begun or len(points) > 0
            self._note(points)
            return points
        # The start of the record before each. One that is empty, or an empty line, goes with its separator.
        records = np.concatenate([[-2 if self._begun else 0], stops[:-1]])
        real = starts > records + 1
        starts = np.where(real, starts, records)
        self.separators += len(starts)
        if not self.repeats:
            self.empty += int(np.count_nonzero(~real))
        self._begun = bool(stops[-1] < len(points))
        dropped = _ranges(starts, stops)
        self._note(points, dropped)
        kept = self._mask(1, len(points))
        kept[dropped] = False
        result = points[kept]
        kept[dropped] = True
        lengths = stops - starts
        ends = starts - 1 - (np.cumsum(lengths) - lengths)  # the line ends before them, in what is kept
        return self._ended(result, ends[real])


def _ranges(starts: Positions, stops: Positions) -> Positions:
    """All positions in the ranges starts:stops, (n,) each."""
    lengths = stops - starts
    if lengths.min() == lengths.max():
        return (starts[:, None] + np.arange(lengths[0])).ravel()
    before = np.cumsum(lengths) - lengths
    return np.repeat(starts - before, lengths) + np.arange(lengths.sum())


def _points(*parts: str) -> CodePoints:
    return code_points("".join(parts))


class SeparatorLines(Lines):
    """Records that end before a line that is equal to another."""

    def __init__(self, line: str, marks: bool = True) -> None:
        self.closing, self.longest = line, len(line)
        self._line_points = _points(line, "\n")
        super().__init__(marks)

    def find(self, points: CodePoints) -> tuple[Positions, Positions]:
        length = len(self._line_points)
        starts = np.flatnonzero(self._equal(points, int(self._line_points[0])))
        starts = starts[starts <= len(points) - length]
        for n, point in enumerate(self._line_points[1:], 1):
            starts = starts[points[starts + n] == point]
        begins = points[starts - 1] == NEWLINE  # at 0, this is some other point
        begins[:1] = begins[:1] & (starts[:1] > 0) | (starts[:1] == 0) & (not self._inside)
        starts = starts[begins]
        return starts, starts + length

    def may_separate(self, part: CodePoints) -> bool:
        return bool((part == self._line_points[: len(part)]).all())


class EmptyLines(Lines):
    """Records that end before one or more empty lines, or lines of spaces."""

    longest, closing, repeats = LONGEST_EMPTY, "", True

    def find(self, points: CodePoints) -> tuple[Positions, Positions]:
        # Line ends before a line end or a space; most texts have few of these.
        is_end = self._equal(points, NEWLINE)
        starts = np.flatnonzero(is_end[:-1] & (points[1:] <= ord(" "))) + 1
        if not self._inside:
            starts = np.concatenate([[0], starts])
        stops, left = starts.copy(), np.arange(len(starts))
        for _ in range(self.longest):  # steps over spaces, of lines that may still be empty
            left = left[_are_spaces(points[stops[left]])]
            stops[left] += 1
            left = left[stops[left] < len(points)]
            if not len(left):
                break
        whole = stops < len(points)
        whole[whole] = points[stops[whole]] == NEWLINE
        return starts[whole], stops[whole] + 1

    def may_separate(self, part: CodePoints) -> bool:
        return bool(_are_spaces(part).all())


def _are_spaces(points: CodePoints) -> Mask:
    found: Mask = (points <= ord(" ")) & (points != NEWLINE) & ((points == ord(" ")) | (points - 9 <= 4))
    return found


def cutter(text: TextConfig) -> Cutter:
    """The cutter of texts that are read like this."""
    if text.split is None:
        return Cutter()
    named = {"nul": Nuls, "file": Files, "blank": EmptyLines}
    if text.split in named:
        return named[text.split](not text.bytes)
    return SeparatorLines(separating(text.split, text), not text.bytes)


def spelled(pieces: Iterable[str], text: TextConfig) -> Iterator[str]:
    """A file's text in pieces, with the separating line as it was given where it is spelled otherwise.

    Training cuts texts that are in their form already. Filters cut texts as they come, and bring them to the
    form later: for these, a line separates if it does so in the form. All else stays as it is.
    """
    if text.split is None or text.split in SEPARATIONS or text.form == Form():
        yield from pieces
        return
    split, wanted = text.split, separating(text.split, text)
    longest = LONGEST_DECOMPOSED * len(wanted)
    short_line = re.compile(f"^.{{1,{longest}}}$", re.MULTILINE)

    def respelled(lines: str) -> str:
        return short_line.sub(lambda m: split if normalised(m[0], text.form) == wanted else m[0], lines)

    rest, inside = "", False  # what is held back of a line, and whether the part before was not
    for piece in pieces:
        piece = rest + piece
        cut = piece.rfind("\n") + 1
        begin = (piece.find("\n") + 1 or len(piece)) if inside else 0
        if cut or not inside:
            inside = len(piece) - cut > longest
        stop = len(piece) if inside else cut
        rest = piece[stop:]
        yield piece[:begin] + respelled(piece[begin:stop])
    yield respelled(rest)


def never_separated(split: str, beginning: str) -> CorpusError:
    """The error for a text, of which this is the beginning, in which records are never separated."""
    what = {"nul": "NUL character", "blank": "empty line"}.get(split, f"line {quoted(split)}")
    lines = Counter(line for line in beginning.split("\n") if len(line) <= LONGEST_NAMED)
    hints = ["--split blank cuts at empty lines"] if lines.pop("", 0) > 1 else []
    if like := _like_separators(split, lines):
        named = ", ".join(f"{quoted(line)} ({lines[line]:,})" for line in like)
        hints.insert(0, f"lines that look like one, and how often: {named}")
    instead = "--split line makes every line a text, --split file every file"
    return CorpusError(f"there is no {what} to separate texts", "; ".join(hints) or instead)


def _like_separators(split: str, lines: Counter[str]) -> list[str]:
    """Lines that may be meant as separators, the likeliest first."""
    rated = []
    for line, count in lines.most_common(EXAMINED):
        bare = line.strip()
        near = bare == split.strip() or set(bare) == set(split) or distance(bare, split) <= len(split) // 3
        if near or (count > 1 and not any(c.isalnum() for c in bare)):
            rated.append((not near, -count, line))
    return [line for *_, line in sorted(rated)[:MOST_NAMED]]
