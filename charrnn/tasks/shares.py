"""Shares: how much of what is read in an epoch comes from each part of a text, whatever their lengths."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from charrnn.tasks.evaluation import next_start
from charrnn.text.documents import Documents, Pieces

Range = tuple[Documents, int, int, int]  # of a part: from where, to where, how many times in a row


class Weighted:
    """Parts of a text, of which epochs read as many characters as all have, divided by the shares.

    Of each part an epoch reads its share of characters, from where the epoch before ended, and from the
    beginning again after the end: several times if the part is short, else a piece. Where texts are records,
    all pieces are whole ones: over any number of epochs, a part has had its share up to one record.
    """

    def __init__(self, parts: Sequence[Documents], shares: Sequence[float]) -> None:
        """The parts have pieces of the same array, and none of them is empty."""
        self.parts = parts
        self._total = sum(map(len, parts))
        self.shares = [share / sum(shares) for share in shares]

    def __len__(self) -> int:
        return self._total

    @property
    def times(self) -> list[float]:
        """How often an epoch reads each part."""
        return [share * self._total / len(part) for part, share in zip(self.parts, self.shares, strict=True)]

    def in_epoch(self, epoch: int) -> Documents:
        """What is read in this epoch: a pure function of it."""
        both = zip(self.parts, self.shares, strict=True)
        ranges = (found for part, share in both for found in self._ranges(part, share, epoch))
        return joined(self.parts[0], ranges)

    def _ranges(self, part: Documents, share: float, epoch: int) -> list[Range]:
        """What is read of a part: the rest of a pass, whole passes, and the beginning of one."""
        first, start = _place(part, int(epoch * share * self._total))
        last, stop = _place(part, int((epoch + 1) * share * self._total))
        if first == last:
            return [(part, start, stop, 1)]
        end = len(part)
        return [(part, start, end, 1), (part, 0, end, last - first - 1), (part, 0, stop, 1)]


def _place(part: Documents, position: int) -> tuple[int, int]:
    """The pass in which the position lies, and where; of records, the next start of one."""
    passes, place = divmod(position, len(part))
    return passes, place if part.end < 0 else next_start(part, part.starts, place)


def joined(whole: Documents, ranges: Iterable[Range]) -> Documents:
    """Ranges of documents, all with pieces of the array that `whole` has, one after the other."""
    starts, cuts, begins, ends = ([np.zeros(0, np.int64)] for _ in range(4))
    total = 0
    for part, low, high, times in ranges:
        if low == high or not times:
            continue
        assert part.pieces is not None
        first, shift = part.pieces.first, part.pieces.shift
        inside = slice(int(np.searchsorted(first, low, side="right")) - 1, int(np.searchsorted(first, high)))
        bounds = np.append(np.maximum(first[inside], low), high)
        begins.append(np.tile(bounds[:-1] + shift[inside], times))
        ends.append(np.tile(bounds[1:] + shift[inside], times))
        # A pass that begins within a document goes on there, and so does one at a start.
        again = total + (high - low) * np.arange(times)[:, None] - low
        within = [marks[(low <= marks) & (marks < high)] for marks in (part.starts, part.cuts)]
        starts.append((again + within[0]).ravel())
        if part.end < 0:
            cut = np.setdiff1d([low], within[0])
            cuts.append((again + np.union1d(within[1], cut)).ravel())
        total += (high - low) * times
    pieces = Pieces.between(np.concatenate(begins), np.concatenate(ends))
    return replace(whole, starts=np.concatenate(starts), cuts=np.concatenate(cuts), pieces=pieces)
