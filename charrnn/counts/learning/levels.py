"""The contexts of a text by how many symbols they have: what follows them, what it gains, and what is kept.

Lists of levels have those of k symbols first, then those of k + 1, and so on.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from charrnn.counts.counts import MOST_VALUE, UNIT, Array
from charrnn.counts.learning.grams import Grams, Keys
from charrnn.kernels.loops.beside import grams as kernels
from charrnn.kernels.loops.beside.grams import Level, Order
from charrnn.vocabulary import id_dtype

CODES = 256  # of counts, and of masses
_GAIN_SHIFT = 20  # of a float32: three bits after the exponent remain
_TALLIED = 2**20  # counts below are tallied in an array of as many numbers, larger ones by sorting
NOTHING = np.zeros(0, np.uint8), np.zeros(0, np.int32)  # longer contexts, for `tally`
NONE_KEPT = np.zeros(0, np.uint8), np.zeros(0, np.uint8)  # and for `thin`

Table = tuple[Array, Array]  # which counts occur, and how often each
Above = tuple[Level, Array]  # the contexts of one symbol less, and the chances in them


class Sizes(NamedTuple):
    """What arrays of counts have to hold."""

    characters: int  # V
    symbols: int  # V, that for nothing, and labels

    @property
    def context(self) -> int:
        """Bytes of a context: its symbol, its children and successors, and its mass."""
        return id_dtype(self.symbols).itemsize + 2 * id_dtype(self.symbols + 1).itemsize + 1

    @property
    def character(self) -> int:
        """Bytes of a character that follows a context, and its count."""
        return id_dtype(self.characters).itemsize + 1


class Coding(NamedTuple):
    """The codes of the counts that occur."""

    counts: Array  # sorted
    codes: Array

    def up_to(self, most: int) -> Array:
        """The codes by counts, up to this one; up to the largest, they would take a byte for each space."""
        some = np.searchsorted(self.counts, most, side="right")
        found = np.zeros(most + 1, self.codes.dtype)
        found[self.counts[:some]] = self.codes[:some]
        return found


class Into(NamedTuple):
    """How levels are thinned."""

    coding: Coding
    least: np.float32  # the gain of what is kept
    sizes: Sizes


def levels_of(grams: Grams, shortest: int = 0) -> list[Level]:
    """The contexts of shortest .. n - 1 symbols."""
    G = len(grams.keys)
    level = _empty(G, G)
    level = _first(level, kernels.group(level, grams.keys, grams.counts, grams.layout), G)
    ks = range(grams.layout.n - 2, shortest - 1, -1)
    return shorter(level, level.begin[:-1].copy(), grams.keys, ks, grams.layout)


def shorter(longest: Level, gram: Array, keys: Keys, ks: range, layout: Order) -> list[Level]:
    """Those of ks symbols, the fewest first, and longer ones, of which gram (contexts,) is the first key."""
    levels = [longest]
    for k in ks:
        level = _empty(len(levels[-1].same), len(levels[-1].following))
        level = _first(level, *kernels.shorten(level, levels[-1], gram, k, keys, layout))
        levels.append(level)
        gram = gram[: len(level.same)]
    return levels[::-1]


def _empty(contexts: int, characters: int) -> Level:
    return Level(
        np.empty(contexts, np.uint8), np.empty(contexts, np.uint32), np.empty(contexts + 1, np.uint32),
        *(np.empty(characters, np.uint32) for _ in range(3)),
    )  # fmt: skip


def _first(level: Level, contexts: int, characters: int) -> Level:
    """The level's arrays, cut to what is used."""
    same, oldest, begin, *others = level
    return Level(same[:contexts], oldest[:contexts], begin[: contexts + 1], *(a[:characters] for a in others))


# --- how often counts occur ---------------------------------------------------------------------


def table(level: Level, *, is_root: bool) -> Table:
    """Of the counts in a level, but for those after nothing, which are none of the text."""
    left_out = None if is_root else _after_nothing(level)
    counts = level.counts if left_out is None else level.counts[~left_out]
    large = counts >= _TALLIED
    values, numbers = np.unique(counts[large], return_counts=True)
    times = np.bincount(counts[~large] if len(values) else counts)
    few = np.flatnonzero(times)
    return np.concatenate([few, values.astype(np.int64)]), np.concatenate([times[few], numbers])


def added(*tables: Table) -> Table:
    """The table of the counts of all."""
    values, times = map(np.concatenate, zip(*tables, strict=True))
    occurring, places = np.unique(values, return_inverse=True)
    total = np.zeros(len(occurring), np.int64)
    np.add.at(total, places, times)
    return occurring, total


def discounts_of(table: Table) -> list[int]:
    """Those of the counts 0, 1, 2 and more, times UNIT; 1/2, 1 and 3/2 where there are too few counts."""
    values, times = table
    few = np.zeros(5, np.int64)
    few[values[values < 5]] = times[values < 5]
    _, n1, n2, n3, n4 = few.tolist()
    if not (n1 and n2 and n3 and n4):
        return [0, UNIT // 2, UNIT, 3 * UNIT // 2]
    y = n1 / (n1 + 2 * n2)
    found = (1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3)
    return [0, *(min(max(round(value * UNIT), UNIT // 16), (j + 1) * UNIT) for j, value in enumerate(found))]


def codes_of(occurring: Array, *, exact: bool) -> tuple[Array, Coding]:
    """The values that stand for the counts that occur, and the code of each count."""
    values, codes = coded(occurring, exact=exact)
    return values, Coding(occurring, codes)


def coded(values: Array, *, exact: bool) -> tuple[Array, Array]:
    """Few values that stand for these positive integers (n,), and the place of each one's.

    Unless `exact`, there are at most CODES: the integers' leading bits, as many as that allows.
    """
    values = np.minimum(values, MOST_VALUE)
    if exact or len(values) <= CODES:
        table, codes = np.unique(values, return_inverse=True)
        return table.astype(np.uint32), codes.astype(id_dtype(len(table)))
    bits = values.astype(np.float32).view(np.int32)
    for kept in (6, 5, 4, 3):
        shift = 23 - kept
        classes = (bits + (1 << shift >> 1)) >> shift
        low = int(classes.min())
        classes -= low
        used = np.bincount(classes) > 0
        if np.count_nonzero(used) <= CODES:
            break
    codes = (np.cumsum(used) - 1).astype(np.uint8)[classes]
    table = (np.flatnonzero(used).astype(np.int32) + low) << np.int32(shift)
    return table.view(np.float32).astype(np.uint32), codes


def _after_nothing(level: Level) -> npt.NDArray[np.bool_] | None:
    """Which characters follow contexts that hold a symbol for nothing; None: none do."""
    nothing = level.oldest == 0
    return np.repeat(nothing, np.diff(level.begin)) if nothing.any() else None


# --- what is gained, and what is kept -----------------------------------------------------------


def weigh(
    levels: list[Level], k: int, above: Above, discounts: Array, V: int
) -> tuple[list[Array], list[Array]]:
    """The chances in contexts of k symbols and more, whose discounts these are, and what each gains."""
    chances, gains = [], []
    for n, level in enumerate(levels):
        chance, gain = (np.empty(len(level.following), np.float32) for _ in range(2))
        kernels.weigh(level, above[0], k + n, discounts[n], V, (chance, above[1]), gain)
        above = level, chance
        chances.append(chance)
        gains.append(gain)
    return chances, gains


def zeros(levels: list[Level]) -> list[Array]:
    """Gains of nothing."""
    return [np.zeros(len(level.following), np.float32) for level in levels]


def mark(levels: list[Level], gains: list[Array], k: int, once: int) -> None:
    """Let gains be negative where something is left out, in contexts of k characters and more.

    That is what follows nothing, and after `once` characters or more what occurs a single time.
    """
    for n, (level, gain) in enumerate(zip(levels, gains, strict=True), k):
        if n >= once:
            gain[level.occurrences == 1] = -1
        if n > 0 and (left_out := _after_nothing(level)) is not None:
            gain[left_out] = -1


def no_bytes() -> npt.NDArray[np.int64]:
    """Bytes by classes of gains, which are the leading bits of a float32."""
    return np.zeros((0x7F800000 >> _GAIN_SHIFT) + 1, np.int64)


def add_bytes(gains: Array, size: int, total: Array) -> None:
    """Adds what takes so many bytes each to `total`, by gains; a negative one takes none."""
    classes = gains[gains >= 0].view(np.int32) >> _GAIN_SHIFT
    total += size * np.bincount(classes, minlength=len(total))


def tally(
    levels: list[Level], gains: list[Array], k: int, longer: tuple[Array, Array], sizes: Sizes, total: Array
) -> Array:
    """Adds the bytes of contexts of k symbols and more to `total`; a negative gain takes none.

    `longer` are which symbols the longest have in common with the one before, and what still longer ones gain
    at most. Returns this for those of k symbols.
    """
    for n in range(len(levels) - 1, -1, -1):
        best = np.empty(len(levels[n].same), np.int32)
        gain, taken = gains[n].view(np.int32), (sizes.character, sizes.context, _GAIN_SHIFT)
        kernels.tally(levels[n], k + n, gain, longer, best, total, taken)
        longer = levels[n].same, best
    return longer[1]


def least_gain(total: npt.NDArray[np.int64], most_bytes: int) -> np.float32:
    """The least gain with which what is kept takes no more than so many bytes."""
    left = np.cumsum(total[::-1])[::-1]
    found = int(np.argmax(left <= most_bytes)) if left[-1] <= most_bytes else len(left) - 1
    return np.float32(np.array(found << _GAIN_SHIFT, np.int32).view(np.float32))


def thin(
    levels: list[Level], gains: list[Array], k: int, below: tuple[Array, Array], discounts: Array, into: Into
) -> tuple[list[list[Array]], Array]:
    """What is kept of contexts of k symbols and more, whose discounts these are; which of those of k symbols.

    Of each level: the contexts' symbols, children, successors and masses, and what follows, and its codes.
    """
    (V, symbols), found = into.sizes, []
    code_of = into.coding.up_to(max((int(level.counts.max(initial=0)) for level in levels), default=0))
    for n in range(len(levels) - 1, -1, -1):
        contexts, characters = len(levels[n].same), len(levels[n].following)
        numbers = (np.empty(contexts, id_dtype(symbols + 1)) for _ in range(2))
        nodes = np.empty(contexts, id_dtype(symbols)), *numbers, np.empty(contexts, np.int64)
        follow = np.empty(characters, id_dtype(V)), np.empty(characters, code_of.dtype)
        kept = np.empty(contexts, np.uint8)
        written = *nodes, *follow, code_of, kept
        some, total = kernels.thin(levels[n], k + n, gains[n], into.least, discounts[n], below, written)
        found.append([*(a[:some].copy() for a in nodes), *(a[:total].copy() for a in follow)])
        below = levels[n].same, kept
    return found[::-1], below[1]
