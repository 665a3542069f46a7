"""The validation split of a text: blocks scattered over it, or its end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from charrnn.config import TrainConfig, split_of
from charrnn.ranks.arrays import view
from charrnn.text.documents import Documents, Passage, Pieces
from charrnn.text.files.decoding import CHUNK, Ids, tally

BLOCK = 2_000  # fewest characters of a block, if the validation share allows
MOST_BLOCKS = 1_000  # in a text; a larger share makes longer blocks

Positions = npt.NDArray[np.int64]
Ranges = tuple[Positions, Positions]  # where they start and end, both (n,)


def split(documents: Documents, train: TrainConfig, newline: int) -> tuple[Documents, Documents]:
    """The disjoint training and validation documents, each in the text's order.

    Validation is about `train.val_fraction` of the characters or, where lines are documents, of the lines:
    scattered lines or blocks chosen by `train.seed`, or the last ones. `newline` is the id of "\\n", or -1.
    Each part gets at least one character or line if there are two; a fraction of 0 gives no validation.
    Both share the whole text's array of ids.
    """
    total = len(documents)
    scattered = _is_scattered(documents, train) and _val_count(train.val_fraction, total) > 0
    if documents.end < 0 and not scattered:
        return _split_end(documents, train.val_fraction)
    return _both(documents, 0, total, *_held_out(documents, train, newline))


def split_parts(
    documents: Documents, bounds: Sequence[int], train: TrainConfig, newline: int
) -> list[tuple[Documents, Documents]]:
    """The same for each part, between two of the bounds, of a text that is in one piece."""
    found = []
    for low, high in pairwise(bounds):
        starts = documents.starts[(low <= documents.starts) & (documents.starts < high)] - low
        part = replace(documents, ids=view(documents.ids, low, high), starts=starts)
        begins, ends = _held_out(part, train, newline)
        found.append(_both(documents, low, high, begins + low, ends + low))
    return found


def _is_scattered(documents: Documents, train: TrainConfig) -> bool:
    return split_of(train.val_split, lines=documents.end >= 0) == "scattered"


def _held_out(documents: Documents, train: TrainConfig, newline: int) -> Ranges:
    """What is held out for validation; see `split`."""
    seed = train.seed if _is_scattered(documents, train) else None
    if documents.end >= 0:
        return _val_lines(documents, train.val_fraction, seed)
    total = len(documents)
    count = _val_count(train.val_fraction, total)
    if seed is None or not count:
        return np.array([total - count]), np.array([total])
    return _val_blocks(documents, train.val_fraction, seed, newline)


def _both(
    documents: Documents, low: int, high: int, starts: Positions, ends: Positions
) -> tuple[Documents, Documents]:
    """The text from low to high without the ranges from `starts` to `ends`, and these."""
    take = _lines if documents.end >= 0 else _blocks
    return take(documents, np.append(low, ends), np.append(starts, high)), take(documents, starts, ends)


def _split_end(documents: Documents, val_fraction: float) -> tuple[Documents, Documents]:
    total = len(documents)
    cut = total - _val_count(val_fraction, total)
    inside = documents.starts[documents.starts > cut] - cut
    val_starts = np.concatenate((np.zeros(min(1, total - cut), np.int64), inside))
    labels = documents.labels and documents.labels.after(cut)
    own, held_out = view(documents.ids, 0, cut), view(documents.ids, cut, total)
    return (
        replace(documents, ids=own, starts=documents.starts[documents.starts < cut]),
        replace(documents, ids=held_out, starts=val_starts, labels=labels),
    )


def _val_count(val_fraction: float, total: int) -> int:
    """The number of validation characters or lines among `total`."""
    if val_fraction == 0 or total < 2:
        return 0
    return min(max(round(val_fraction * total), 1), total - 1)


def _val_blocks(documents: Documents, val_fraction: float, seed: int, newline: int) -> Ranges:
    """Blocks of a prose text: every file contributes its share; consecutive small files form a group.

    Each file or group is cut into equal parts, and each part contributes one block, placed by the seed.
    """
    ids, total = documents.ids, len(documents)
    random = np.random.default_rng([seed, 1])
    target = max(BLOCK, val_fraction * total / MOST_BLOCKS)
    starts, ends = [], []
    for low, high in _groups(documents.starts, total, target / val_fraction):
        parts = max(1, int((high - low) * val_fraction / target))
        bounds = np.linspace(low, high, parts + 1).astype(np.int64).tolist()
        for begin, end in pairwise(bounds):
            wanted = _val_count(val_fraction, end - begin)
            if wanted:
                start, stop = block(ids, begin, end, wanted, newline, float(random.random()))
                starts.append(start)
                ends.append(stop)
    return np.array(starts, np.int64), np.array(ends, np.int64)


def _groups(starts: Positions, total: int, least: float) -> Iterator[tuple[int, int]]:
    """The bounds of groups of whole files with `least` characters or more; the last takes the remainder."""
    bounds = [*starts[1:].tolist(), total]
    low = 0
    for high in bounds:
        if high - low >= least and (total - high >= least or high == total):
            yield low, high
            low = high
    if low < total:
        yield low, total


def block(ids: Ids | Passage, low: int, high: int, wanted: int, newline: int, coin: float) -> tuple[int, int]:
    """The bounds of a block of about `wanted` characters within low .. high.

    Both lie at the end of a nearby paragraph, or else of a line.
    """
    slack = min(wanted // 2, (high - low - wanted) // 2)
    start = _cut(ids, low + int(coin * (high - low - wanted - slack + 1)), slack, newline)
    return start, _cut(ids, start + wanted, min(slack, high - start - wanted), newline)


def _cut(ids: Ids | Passage, place: int, slack: int, newline: int) -> int:
    """The first end of a paragraph in `place` .. `place + slack`, else of a line, else `place`."""
    if place == 0:
        return 0
    first = max(0, place - 2)
    near = ids[first : place + slack + 1] == newline
    ended = np.flatnonzero(near[:-1]) + first + 1  # positions after a line end
    ended = ended[ended >= place]
    empty = ended[(ended >= 2) & (ids[ended - 2] == newline)]
    # Only after the last of several empty lines, or the next block would begin with one.
    empty = empty[(empty >= len(ids)) | (ids[np.minimum(empty, len(ids) - 1)] != newline)]
    found = empty if len(empty) else ended
    return int(found[0]) if len(found) else place


def _blocks(documents: Documents, starts: Positions, ends: Positions) -> Documents:
    """These pieces of a prose text; only the first and the last may be empty."""
    pieces = Pieces.between(starts, ends)
    places = pieces.first + pieces.shift  # of the pieces in the whole text
    piece = np.searchsorted(places, documents.starts, side="right") - 1  # that of each document's start
    kept = piece >= 0
    piece = piece[kept]
    inside = documents.starts[kept] - pieces.shift[piece]  # positions in the joined pieces
    lengths = np.diff(np.append(pieces.first, pieces.total))
    inside = inside[inside - pieces.first[piece] < lengths[piece]]
    cuts = np.setdiff1d(pieces.first, inside)
    return replace(documents, starts=inside, pieces=pieces, cuts=cuts)


def _val_lines(documents: Documents, val_fraction: float, seed: int | None) -> Ranges:
    """Lines chosen by the seed; without one, the last lines."""
    ids = documents.ids
    lines = sum(map(len, documents.ends()))
    lines += bool(len(ids)) and ids[-1] != documents.end
    is_val = np.zeros(lines, np.bool_)  # by line
    is_val[: _val_count(val_fraction, lines)] = True
    if seed is None:
        is_val = is_val[::-1]
    else:
        np.random.default_rng(seed).shuffle(is_val)

    # Bounds of the validation lines, chunk by chunk.
    starts, ends = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    line = begin = 0  # the first line that ends in the chunk or later, and its start
    for after in documents.ends():
        chosen = is_val[line : line + len(after)]
        starts.append(np.concatenate(([begin], after))[:-1][chosen])
        ends.append(after[chosen])
        line += len(after)
        begin = int(after[-1]) if len(after) else begin
    if is_val[line:].any():  # a last line without a line end
        starts.append(np.array([begin]))
        ends.append(np.array([len(ids)]))
    return np.concatenate(starts), np.concatenate(ends)


def _lines(documents: Documents, starts: Positions, ends: Positions) -> Documents:
    """These pieces of a text, all of whole lines."""
    pieces = Pieces.between(starts, ends)
    return replace(documents, starts=np.zeros(min(1, pieces.total), np.int64), pieces=pieces)


def unseen(corpus: Documents, validation: Documents, *, apart: bool) -> tuple[list[int], float]:
    """Characters that occur in validation but not in training, and the share of validation that they make up.

    The training text is the corpus minus the validation, or all of it if validation is a text `apart`.
    """
    shown, asked = tally(corpus.ids, corpus.vocab_size), np.zeros(corpus.vocab_size, np.int64)
    for low in range(0, len(validation), CHUNK):
        positions = np.arange(low, min(low + CHUNK, len(validation)))
        asked += np.bincount(validation.at(positions), minlength=len(asked))
    new = (asked > 0) & (shown == (0 if apart else asked))
    return np.flatnonzero(new).tolist(), float(asked[new].sum() / max(1, len(validation)))
