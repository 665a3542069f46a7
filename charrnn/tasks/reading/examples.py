"""Whole texts, and batches of those of about the same length."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from charrnn.nn.parameters import Array
from charrnn.nn.reader import window_length

Rows = npt.NDArray[np.int64]

POOL = 64  # batches among whose texts those of about the same length are found


@dataclass(frozen=True, eq=False, slots=True)
class Ragged:
    """R sequences of different lengths in one array: row r is values[begins[r] : ends[r]]."""

    values: Array  # (N,)
    begins: Rows  # (R,)
    ends: Rows  # (R,)

    def __len__(self) -> int:
        return len(self.begins)

    @property
    def lengths(self) -> Rows:
        """(R,)"""
        return self.ends - self.begins

    def row(self, r: int) -> Array:
        """The sequence r."""
        found: Array = self.values[self.begins[r] : self.ends[r]]
        return found

    def take(self, rows: Rows) -> Ragged:
        """Some of the sequences, of the same array."""
        return Ragged(self.values, self.begins[rows], self.ends[rows])

    def window(self, rows: Rows, T: int, fill: int = 0) -> npt.NDArray[np.int32]:
        """The sequences side by side, (T, B), with `fill` behind their ends."""
        steps = np.arange(T)[:, None]
        places = self.begins[rows] + steps
        inside = places < self.ends[rows]
        if not len(self.values):
            return np.full(inside.shape, fill, np.int32)
        return np.where(inside, self.values[np.where(inside, places, 0)], fill).astype(np.int32)

    @classmethod
    def of(cls, sequences: list[Array]) -> Ragged:
        """A copy of these."""
        ends = np.cumsum([len(sequence) for sequence in sequences], dtype=np.int64)
        begins = np.concatenate([np.zeros(1, np.int64), ends[:-1]])[: len(ends)]
        return cls(np.concatenate(sequences) if sequences else np.zeros(0, np.int32), begins, ends)


def pieces(texts: Ragged, most: int) -> tuple[Ragged, Rows]:
    """The sequences in pieces of at most so many elements, and the number of that of each piece."""
    counts = -(-texts.lengths // most)
    rows = np.repeat(np.arange(len(texts)), counts)
    within = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    begins = texts.begins[rows] + within * most
    return Ragged(texts.values, begins, np.minimum(begins + most, texts.ends[rows])), rows


class Batches:
    """B of R texts at a time, each once an epoch, in an order that the seed and the epoch decide.

    The last batch may have fewer.
    """

    def __init__(self, sizes: Rows, B: int, seed: int) -> None:
        self.B = min(B, len(sizes))
        self.count = -(-len(sizes) // self.B)  # in an epoch
        self._sizes, self._seed = sizes, seed
        self._epoch: tuple[int, list[Rows]] = -1, []

    def rows(self, epoch: int, k: int) -> Rows:
        """The texts of a batch."""
        if self._epoch[0] != epoch:
            random = np.random.default_rng([self._seed, epoch, 4])
            order = random.permutation(len(self._sizes))
            found = [part for pool in _parts(order, POOL * self.B) for part in self._similar(pool)]
            self._epoch = epoch, [found[n] for n in random.permutation(len(found))]
        return self._epoch[1][k]

    def _similar(self, pool: Rows) -> Iterator[Rows]:
        return _parts(pool[np.argsort(self._sizes[pool], kind="stable")], self.B)


def in_order(lengths: Rows, most: int) -> Iterator[Rows]:
    """All texts, those of about the same length together, in batches of at most `most` characters."""
    order = np.argsort(lengths, kind="stable")
    steps = np.array([window_length(int(n)) for n in lengths[order]])
    cuts = np.flatnonzero(np.diff(steps)) + 1
    for rows in np.split(order, cuts):
        if len(rows):
            yield from _parts(rows, max(1, most // window_length(int(lengths[rows[-1]]))))


def _parts(rows: Rows, size: int) -> Iterator[Rows]:
    return (rows[low : low + size] for low in range(0, len(rows), size))


def held_out(groups: npt.NDArray[np.int64], fraction: float, seed: int) -> npt.NDArray[np.bool_]:
    """A mask of the texts (R,) that are held out: about this share, and all of a group or none of it."""
    _, group = np.unique(groups, return_inverse=True)
    count = int(group.max()) + 1 if len(group) else 0
    wanted = round(fraction * count)
    if fraction > 0 and count > 1:
        wanted = min(max(wanted, 1), count - 1)
    chosen = np.zeros(count, np.bool_)
    chosen[np.random.default_rng([seed, 5]).permutation(count)[:wanted]] = True
    found: npt.NDArray[np.bool_] = chosen[group]
    return found


def same_texts(texts: Ragged) -> npt.NDArray[np.int64]:
    """A number for each text, (R,), that equal ones share."""
    numbers: dict[bytes, int] = {}
    rows = (texts.row(r).tobytes() for r in range(len(texts)))
    return np.fromiter((numbers.setdefault(row, len(numbers)) for row in rows), np.int64, len(texts))
