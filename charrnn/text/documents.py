"""Characters as ids, cut into documents; what is read before each of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from charrnn.ranks import arrays
from charrnn.text.files.decoding import CHUNK, Ids
from charrnn.text.records.labels import Labelling
from charrnn.vocabulary import IdArray

Inputs = tuple[npt.NDArray[np.int32], npt.NDArray[np.int32], npt.NDArray[np.bool_]]  # x, y, reset


@dataclass(frozen=True, eq=False, slots=True)
class Pieces:
    """K slices of an array, read as if they were concatenated, without a copy."""

    first: npt.NDArray[np.int64]  # (K,), each slice's start in the concatenation; sorted, from 0
    shift: npt.NDArray[np.int64]  # (K,), what to add to get the position in the array
    total: int  # elements of the concatenation

    @classmethod
    def between(cls, starts: npt.NDArray[np.int64], ends: npt.NDArray[np.int64]) -> Pieces:
        """The slices from `starts` to `ends`, both (K,); empty ones are dropped."""
        kept = starts < ends
        starts, lengths = starts[kept], (ends - starts)[kept]
        first = np.cumsum(lengths) - lengths
        return cls(first, starts - first, int(lengths.sum()))

    def places(self, positions: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """The array indices of these positions, 0 .. total-1, in the concatenation."""
        places: npt.NDArray[np.int64] = np.searchsorted(self.first, positions, side="right")
        places -= 1
        places = self.shift[places]
        places += positions
        return places


def _are_among(positions: npt.NDArray[np.int64], some: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """A mask of the positions, of any shape, that occur in the sorted `some` (n,)."""
    if not len(some):
        return np.zeros(positions.shape, np.bool_)
    found: npt.NDArray[np.bool_] = some[np.searchsorted(some, positions, side="right") - 1] == positions
    return found


@dataclass(frozen=True, eq=False, slots=True)
class Documents:
    """N characters, cut into documents. The arrays are read-only.

    A document starts at each of `starts` and after each `end`. At each of `cuts` a document continues after
    characters that belong to the other side of the validation split.
    """

    # (N,), the smallest type that holds 0 .. vocab_size-1; with pieces, the array they index; perhaps shared
    ids: Ids
    vocab_size: int  # V, the end of a record included
    starts: npt.NDArray[np.int64]  # sorted
    end: int = -1  # the id that ends each record, or -1: there are no records
    pieces: Pieces | None = None  # whole lines, or blocks of prose
    # Sorted; if N > 0, position 0 is a start or a cut.
    cuts: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    labels: Labelling | None = None

    def __post_init__(self) -> None:
        for name in ("ids", "starts", "cuts"):
            if isinstance(array := getattr(self, name), np.ndarray):
                view = array.view()
                view.flags.writeable = False
                object.__setattr__(self, name, view)

    def __len__(self) -> int:
        return len(self.ids) if self.pieces is None else self.pieces.total

    @property
    def array(self) -> IdArray:
        """The ids, which no ranks share."""
        assert isinstance(self.ids, np.ndarray)
        return self.ids

    def in_epoch(self, epoch: int) -> Documents:
        """The same in every epoch."""
        return self

    def head(self, count: int) -> Documents:
        """The first `count` characters, or all if there are fewer."""
        part = replace(self, starts=self.starts[self.starts < count], cuts=self.cuts[self.cuts < count])
        if self.pieces is None:
            return replace(part, ids=arrays.view(self.ids, 0, count))
        return replace(part, pieces=replace(self.pieces, total=min(count, self.pieces.total)))

    def at(self, positions: npt.NDArray[np.int64]) -> IdArray:
        """The ids at these positions, 0 .. N-1, of any shape."""
        ids: IdArray = self.ids[self._places(positions)]
        return ids

    def look_up(self, positions: npt.NDArray[np.int64]) -> Inputs:
        """Inputs x, targets y and resets at the positions 0 .. N-1, of any shape.

        y is the character at the position, x the one before it or, at a document's start, START = V. A reset
        zeroes the state: at a document's start, and at a cut, whose x comes from the split's other side.
        """
        places = self._places(positions)
        y = self.ids[places].astype(np.int32)
        places -= 1
        x = self.ids[places].astype(np.int32)
        reset = _are_among(positions, self.starts)
        if self.end >= 0:
            reset |= x == self.end  # also at the start of a piece, which follows another line's end
        x[reset] = self.vocab_size
        if len(self.cuts):
            reset |= _are_among(positions, self.cuts)
        return x, y, reset

    def ends(self) -> Iterator[npt.NDArray[np.int64]]:
        """The positions in the array of ids after the ends of records, chunk by chunk."""
        for low in range(0, len(self.ids), CHUNK):
            yield np.flatnonzero(self.ids[low : low + CHUNK] == self.end) + (low + 1)

    def records(self) -> npt.NDArray[np.int64]:
        """Where records start in the array of ids."""
        starts = np.concatenate([np.zeros(1, np.int64), *self.ends()])
        return starts[starts < len(self.ids)]

    def shuffled(self, seed: int) -> Documents:
        """The same records in another order."""
        starts = self.records()
        ends = np.append(starts[1:], len(self.ids))
        if self.pieces is not None:
            first, kept = (
                self.pieces.first + self.pieces.shift,
                np.append(self.pieces.first, self.pieces.total),
            )
            piece = np.searchsorted(first, starts, side="right") - 1
            inside = (piece >= 0) & (starts - first[piece] < np.diff(kept)[piece])
            starts, ends = starts[inside], ends[inside]
        order = np.random.default_rng([seed, 3]).permutation(len(starts))
        return replace(self, pieces=Pieces.between(starts[order], ends[order]))

    def labels_at(
        self, positions: npt.NDArray[np.int64], hidden: float = 0.0, key: int = 0
    ) -> npt.NDArray[np.int32] | None:
        """The labels of the texts at these positions, (.., columns), see Labelling; None: there are none."""
        return None if self.labels is None else self.labels.at(self._places(positions), hidden, key)

    def between(self, low: int, high: int) -> Documents:
        """The characters low .. high - 1 in an array of their own, which also has the one before each piece.

        They have no labels.
        """
        if self.pieces is None:
            first = shift = np.zeros(1, np.int64)
        else:
            inside = slice(
                int(np.searchsorted(self.pieces.first, low, side="right")) - 1,
                int(np.searchsorted(self.pieces.first, high)),
            )
            first, shift = self.pieces.first[inside], self.pieces.shift[inside]
        bounds = np.append(np.maximum(first, low), high)
        begins, lengths = bounds[:-1] + shift, np.diff(bounds)
        ids, places = self._apart(begins, lengths)
        pieces = Pieces(bounds[:-1] - low, places - (bounds[:-1] - low), high - low)
        starts, cuts = (marks[(low <= marks) & (marks < high)] - low for marks in (self.starts, self.cuts))
        return Documents(ids, self.vocab_size, starts, self.end, pieces, cuts)

    def _apart(self, begins: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]) -> tuple[IdArray, Any]:
        """An array with these pieces of the array of ids, each after the one before it, and their places."""
        ends, first = begins + lengths, int(begins[0]) - 1
        if (begins[1:] >= ends[:-1]).all() and ends[-1] - first <= 2 * lengths.sum() + 1:  # all in one read
            ids = self.ids[max(0, first) : ends[-1]]
            return (ids if first >= 0 else np.concatenate([self.ids[-1:], ids])), begins - first
        within = np.arange(lengths.sum() + len(lengths)) + np.repeat(
            begins - np.cumsum(lengths + 1) + lengths, lengths + 1
        )
        return self.ids[within], np.cumsum(lengths + 1) - lengths

    def _places(self, positions: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """The positions' indices in `ids`, as a new array."""
        return positions.copy() if self.pieces is None else self.pieces.places(positions)


@dataclass(frozen=True, eq=False, slots=True)
class Passage:
    """The characters low .. high - 1 of documents, read like an array of ids, of which none is made."""

    documents: Documents
    low: int
    high: int

    def __len__(self) -> int:
        return self.high - self.low

    def __getitem__(self, key: Any) -> IdArray:
        places = np.arange(*key.indices(len(self))) if isinstance(key, slice) else np.asarray(key)
        return self.documents.at(places + self.low)
