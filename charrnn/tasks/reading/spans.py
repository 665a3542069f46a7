"""Spans that tags mark, by the schemes BIO, IO, BIOES, BILOU and BMES: B-PER I-PER O, or BMEBES."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.integer]
SCHEMES = {"IO": "IO", "BIO": "BIO", "BIOES": "BIOES", "BILOU": "BILOU", "BMES": "BMESO"}
BEGINS, ENDS = "BSU", "ESLU"


@dataclass(frozen=True, slots=True)
class Spans:
    """How many spans there are, were found, and are among both: with the same ends and type."""

    scheme: str
    expected: int
    found: int
    right: int

    @property
    def precision(self) -> float:
        """The share of the found spans that are right; 1 if there are none."""
        return self.right / self.found if self.found else 1.0

    @property
    def recall(self) -> float:
        """The share of the expected spans that were found; 1 if there are none."""
        return self.right / self.expected if self.expected else 1.0

    @property
    def f1(self) -> float:
        """The harmonic mean of both."""
        total = self.expected + self.found
        return 2 * self.right / total if total else 1.0


def scheme_of(labels: Sequence[str]) -> str | None:
    """The first of SCHEMES that these tags are of; None: they mark no spans."""
    parts = {_cut(label)[0] for label in labels}
    fitting = (name for name, letters in SCHEMES.items() if parts <= set(letters))
    return next(fitting, None) if parts & set("BI") else None


def compared(expected: Ids, found: Ids, labels: Sequence[str], begins: Ids) -> Spans | None:
    """The spans of two rows of tags (n,), whose texts begin at `begins`; None: the labels mark none."""
    scheme = scheme_of(labels)
    if scheme is None:
        return None
    mine, theirs = (_spans(ids, labels, begins) for ids in (expected, found))
    return Spans(scheme, len(mine), len(theirs), len(mine & theirs))


def _cut(label: str) -> tuple[str, str]:
    """B-PER -> B, PER; B -> B, nothing; of others, which no scheme has: the label, nothing."""
    if len(label) == 1 or label[1] in "-_":
        return label[0].upper(), label[2:]
    return label, ""


def _spans(ids: Ids, labels: Sequence[str], begins: Ids) -> set[tuple[int, int, int]]:
    """The spans (begin, end, type) of tags, also of such as break their scheme: I begins one where none is.

    A span ends before another type, before O, and before a tag that begins one.
    """
    parts = [_cut(label) for label in labels]
    types = {kind: n for n, kind in enumerate(sorted({kind for _, kind in parts}))}
    inside = np.array([letter != "O" for letter, _ in parts])[ids]
    begin = np.array([letter in BEGINS for letter, _ in parts])[ids]
    end = np.array([letter in ENDS for letter, _ in parts])[ids]
    kind = np.array([types[kind] for _, kind in parts])[ids]
    fresh = np.ones(len(ids) + 1, np.bool_)  # whether a span that comes before cannot go on
    fresh[1:-1] = begin[1:] | end[:-1] | ~inside[1:] | ~inside[:-1] | (kind[1:] != kind[:-1])
    fresh[begins] = True
    places = np.flatnonzero(fresh)
    starts, stops = places[:-1], places[1:]
    own = inside[starts]
    return set(zip(starts[own].tolist(), stops[own].tolist(), kind[starts[own]].tolist(), strict=True))
