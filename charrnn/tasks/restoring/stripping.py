"""What stripping leaves of a text, and what may be put back.

A text consists of sources, the characters that stripping leaves, and of what it takes: from É the accent, if
it strips diacritics, and the upper case, if it strips that; spaces and punctuation as a whole. What stands
between two sources, such as a combining accent or a space, belongs to the first; before a line's first source
there is a line end. A source with what belongs to it is a cluster.

Where punctuation is stripped and spaces are not, one space is left of those that then stand side by side, and
none at a line's end: `so -- it is` becomes `so it is`.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from charrnn.vocabulary import code_points, text_of

Points = npt.NDArray[np.unsignedinteger[Any]]
Places = npt.NDArray[np.int64]

BREAKS = "\n\r\0"  # lines end in these
# What is taken from a source is put back only as far as the next one is no further away than LONGEST. In what
# is longer than FORCED, every FORCED-th character counts as a source, so that clusters are bounded.
LONGEST, FORCED = 32, 128
MOST_IN_A_GAP, MOST_MARKS = 16, 4  # characters, of what is put back after a source
# Letters whose marks Unicode does not decompose. The stroke of i takes its dot.
_STROKES = {"đ": "d\u0335", "ħ": "h\u0335", "ı": "i\u0335", "ł": "l\u0335", "ø": "o\u0338", "ŧ": "t\u0335"}
_STROKES |= {c.upper(): s.upper() for c, s in _STROKES.items() if c != "ı"}
_STROKED = {parts: letter for letter, parts in _STROKES.items()}
# Letters that are written by a key of their own, and never without their marks.
_WHOLE = frozenset("йЙўЎїЇѓЃќЌ")


class Operation(NamedTuple):
    """What is put back at a source: the label that a network tells of it."""

    marks: str = ""  # combining characters, or a stroke
    upper: bool = False
    gap: str = ""  # what is inserted after it

    @property
    def label(self) -> str:
        """`=` or, for upper case, `^`; the marks; `|` and the gap, if there is one."""
        return ("^" if self.upper else "=") + self.marks + (f"|{self.gap}" if self.gap else "")

    @classmethod
    def of(cls, label: str) -> Operation:
        """The operation with this label."""
        marks, _, gap = label[1:].partition("|")
        return cls(marks, label[:1] == "^", gap)


NOTHING = Operation().label


class Clusters(NamedTuple):
    """The n clusters of a text of N characters."""

    begins: Places  # (n,)
    sources: Points  # (n,), code points
    loose: npt.NDArray[np.bool_]  # (n,), whether stripping takes spaces after it
    frozen: npt.NDArray[np.bool_]  # (n,), whether it is left as it is
    solid: npt.NDArray[np.bool_]  # (n,), whether it begins one in any text that begins here


@cache
def is_space(character: str) -> bool:
    """Whether it separates words in a line."""
    return character == "\t" or unicodedata.category(character) == "Zs"


@cache
def is_punctuation(character: str) -> bool:
    """Whether Unicode calls it that."""
    return unicodedata.category(character)[0] == "P"


@cache
def is_mark(character: str) -> bool:
    """Whether it is a combining mark that people leave out: an accent or a vowel point, but no vowel sign."""
    kind = unicodedata.combining(character)
    return (10 <= kind <= 36 or kind >= 200) and unicodedata.category(character) == "Mn"


@lru_cache(1 << 14)
def decomposed(character: str) -> tuple[str, str]:
    """A letter without its marks, and these; any other character as it is."""
    if character.isascii() or character in _WHOLE:
        return character, ""
    parts = unicodedata.normalize("NFD", character)
    base, marks = parts[0], parts[1:]
    if base in _STROKES:
        stroked = _STROKES[base]
        base, marks = stroked[0], stroked[1] + marks
    of_letters = {unicodedata.category(c)[0] for c in (character, base)} == {"L"}
    if not of_letters or not marks or not all(is_mark(c) for c in marks[base + marks[0] in _STROKED :]):
        return character, ""
    return base, marks


def lowered(character: str) -> str:
    """In lower case, if there is one character for each case."""
    lower = character.lower()
    return lower if len(lower) == 1 and lower.upper() == character else character


def composed(base: str, marks: str) -> str:
    """A letter with its marks, as few characters as there are for it."""
    if base + marks[:1] in _STROKED:
        base, marks = _STROKED[base + marks[0]], marks[1:]
    return unicodedata.normalize("NFC", base + marks) if marks else base


class Stripping:
    """Strips kinds of things, of charrnn.config.STRIPS, from texts."""

    def __init__(self, kinds: Sequence[str]) -> None:
        self.kinds = tuple(kinds)
        self._diacritics, self._case, self._spaces, self._punctuation = (
            kind in kinds for kind in ("diacritics", "case", "spaces", "punctuation")
        )
        self.joins_spaces = self._punctuation and not self._spaces
        self._sources: dict[int, int] = {}  # code point -> that of its source, or -1: taken

    def source(self, character: str) -> str:
        """What is left of a character by itself; "" if it is taken."""
        if self._spaces and is_space(character):
            return ""
        if self._punctuation and is_punctuation(character):
            return ""
        if self._diacritics:
            if is_mark(character):
                return ""
            character, _ = decomposed(character)
        return lowered(character) if self._case else character

    def strip(self, text: str) -> str:
        """The sources of a text that begins where a line does."""
        return text_of(self.clusters(code_points("\n" + text)).sources[1:])

    def clusters(self, points: Points) -> Clusters:
        """The clusters of a text's code points (N,), of which the first counts as a source."""
        distinct, which = np.unique(points, return_inverse=True)
        known = self._sources
        for point in distinct.tolist():
            if point not in known:
                source = self.source(chr(point))
                known[point] = ord(source) if source else -1
        table = np.array([known[point] for point in distinct.tolist()], np.int64)
        among = [self.joins_spaces and is_space(chr(point)) for point in distinct.tolist()]
        sources, spaces = table[which], np.array(among, np.bool_)[which]
        alone = (sources >= 0) & ~spaces
        alone[:1] = True
        solid = _forced(np.flatnonzero(alone), len(points))
        ends = np.array([chr(point) in BREAKS for point in distinct.tolist()], np.bool_)[which]
        kept = np.zeros(len(points), np.bool_)
        kept[solid] = True
        if self.joins_spaces:
            places = np.flatnonzero(spaces & ~kept)
            after = np.searchsorted(solid, places)
            last = np.diff(after, append=-1) != 0
            inside = (after > 0) & (after < len(solid))
            beside = np.where(inside, after, 1 if len(solid) > 1 else 0)
            inside &= ~(ends[solid[beside - 1]] | ends[solid[beside]])
            kept[places[last & inside]] = True
        begins = np.flatnonzero(kept)
        left = np.where(sources[begins] < 0, points[begins], sources[begins]).astype(np.uint32)
        beside_spaces = (spaces | ends)[np.append(begins[1:], begins[-1:])]
        beside_spaces[-1:] = True
        loose = ends[begins] | (beside_spaces & ~spaces[begins])
        long = np.diff(solid, append=len(points)) > LONGEST
        frozen = long[np.searchsorted(solid, begins, side="right") - 1]
        own = np.zeros(len(points), np.bool_)
        own[solid] = True
        return Clusters(begins, left, loose & self.joins_spaces, frozen, own[begins])

    def has(self, kind: str, gap: str) -> bool:
        """Whether there is something of this kind in what stands between two sources."""
        return any((is_space if kind == "spaces" else is_punctuation)(c) for c in gap)

    def taken(self, cluster: str) -> Operation | None:
        """What stripping takes from a cluster; None if it is not in the order source, marks, gap."""
        character, marks, gap = cluster[0], "", ""
        if self._diacritics:
            character, marks = decomposed(character)
        lower = lowered(character) if self._case else character
        for c in cluster[1:]:
            if not (self._diacritics and is_mark(c)):
                gap += c
            elif gap:
                return None
            else:
                marks += c
        if self.joins_spaces and not self.has("punctuation", gap):
            gap = ""
        return Operation(marks, lower != character, gap)

    def put_back(self, source: str, operation: Operation, *, loose: bool) -> str | None:
        """A source after an operation; None if stripping would leave anything else of it.

        A gap has no marks, as `taken` tells it: they would be those of the letter before.

        `loose`: whether stripping takes spaces after it.
        """
        character = source
        if operation.upper:
            character = source.upper()
        if operation.marks:
            if unicodedata.category(source)[0] != "L":
                return None
            character = composed(character, operation.marks)
        if len(character) > 1 and any(self.source(c) for c in character[1:]):
            return None
        if not character or self.source(character[0]) != source:
            return None
        for c in operation.gap:
            if is_mark(c) or (self.source(c) and not (loose and is_space(c))):
                return None
        return character + operation.gap


def _forced(solid: Places, N: int) -> Places:
    """These places (n,) and, where they are far from one another, every FORCED-th between them."""
    gaps = np.diff(solid, append=N)
    more = np.maximum(gaps - 1, 0) // FORCED
    if not more.any():
        return solid
    times = more + 1
    within = np.arange(int(times.sum())) - np.repeat(np.cumsum(times) - times, times)
    found: Places = np.repeat(solid, times) + FORCED * within
    return found
