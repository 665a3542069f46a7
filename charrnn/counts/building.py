"""Texts -> their n-grams -> counts, within a bound of bytes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import reduce
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from charrnn.counts.counts import MOST_ORDER, MOST_VALUE, UNIT, Array, Counts
from charrnn.kernels.coefficients import LABEL_SHARE
from charrnn.kernels.loops.beside import grams as kernels
from charrnn.kernels.loops.beside.grams import Level, Order, Text
from charrnn.ranks.arrays import ranks_of
from charrnn.text.corpus import Documents
from charrnn.vocabulary import id_dtype

CHUNK = 2**23  # positions that are sorted together
MOST_WORDS = 2  # of a key
CODES = 256  # of counts, and of masses
_GAIN_SHIFT = 20  # of a float32: three bits after the exponent remain
# On five texts, grams of 12 symbols bring 0.000 to 0.013 nats, and take half as long again; those of more
# than 5 that occur once bring 0.004 nats at most, and take as many bytes as all others, or three times more.
ORDER, ONCE = 10, 5
LONG = 10_000_000  # characters: the keys of longer texts have one word, which are sorted several times faster
MOST_BYTES, BYTES_EACH = 12_000_000, 4  # in all, and for each character of the text

Keys = npt.NDArray[np.uint64]


def longest_order(vocab_size: int) -> int:
    """The longest grams whose keys are short enough: 16 of up to 254 characters, 10 of up to 4094."""
    return min(MOST_WORDS * (64 // _bits(vocab_size)), MOST_ORDER)


def _bits(vocab_size: int) -> int:
    return (vocab_size + 1).bit_length()


@dataclass(frozen=True, eq=False, slots=True)
class Grams:
    """How often each n-gram occurs in a text, exactly; see charrnn.kernels.loops.beside.grams."""

    keys: Keys  # (G, W) sorted
    counts: npt.NDArray[np.uint32]  # (G,)
    layout: Order
    labels: tuple[int, ...] = ()  # how many each column of labels has
    behind: Grams | None = None  # those behind labels; None: there are no labels

    @classmethod
    def of(cls, documents: Documents, order: int, labels: tuple[int, ...] = ()) -> Grams:
        """The grams of documents, which have at least one character; order from 2 to `longest_order`.

        `labels` says how many each column of their labels has.
        """
        V = documents.vocab_size
        if not 2 <= order <= longest_order(V):
            raise ValueError(f"the order is {order}, not from 2 to {longest_order(V)}")
        layout = layout_of(V, order)
        chunks = (_counted(keys, layout) for _, keys in _packed(documents, layout))
        found = reduce(Grams.merged, _balanced(chunks))
        if not labels:
            return found
        layout = _layout_behind(layout, sum(labels))
        return replace(found, labels=labels, behind=_behind(documents, layout, labels))

    def merged(self, other: Grams) -> Grams:
        """The grams of both texts, which have the same order, vocabulary and labels."""
        if (self.layout, self.labels) != (other.layout, other.labels):
            raise ValueError("these grams do not have the same order, vocabulary and labels")
        keys = np.empty((len(self.keys) + len(other.keys), self.keys.shape[1]), np.uint64)
        counts = np.empty(len(keys), np.uint32)
        pairs = ((grams.keys, grams.counts) for grams in (self, other))
        found = kernels.merge(keys, counts, *pairs)
        behind = None
        if self.behind is not None and other.behind is not None:
            behind = self.behind.merged(other.behind)
        return Grams(keys[:found].copy(), counts[:found].copy(), self.layout, self.labels, behind)


def layout_of(vocab_size: int, order: int) -> Order:
    """Of the keys of such grams."""
    return Order(order, _bits(vocab_size), vocab_size)


def text_of(documents: Documents) -> Text:
    """What kernels read of documents."""
    if ranks_of(documents.ids).size > 1:
        documents = documents.between(0, len(documents))
    pieces, nothing = documents.pieces, np.zeros(1, np.int64)
    first, shift = (nothing, nothing) if pieces is None else (pieces.first, pieces.shift)
    return Text(
        documents.array, first, shift, documents.starts, documents.cuts, documents.end, documents.vocab_size
    )


def _layout_behind(layout: Order, labels: int) -> Order:
    """Of the grams that begin with one of so many labels: one symbol more, if as many words hold it."""
    bits, words = _bits(layout.vocab_size + labels), _words(layout)
    return Order(min(layout.n + 1, words * (64 // bits)), bits, layout.vocab_size)


def _words(layout: Order) -> int:
    return -(-layout.n // (64 // layout.bits))


def _packed(documents: Documents, layout: Order) -> Iterator[tuple[int, Keys]]:
    """The keys of all positions, in chunks, and where each chunk begins."""
    words, text = _words(layout), text_of(documents)
    context = np.zeros(words, np.uint64)
    for low in range(0, len(documents), CHUNK):
        keys = np.empty((min(CHUNK, len(documents) - low), words), np.uint64)
        places = (
            int(np.searchsorted(text.first, low, side="right")) - 1,
            int(np.searchsorted(documents.starts, low)),
            int(np.searchsorted(documents.cuts, low)),
        )
        kernels.pack(keys, text, low, places, context, layout)
        yield low, keys


def _counted(keys: Keys, layout: Order) -> Grams:
    """The grams of these keys, whose array is used up."""
    if keys.shape[1] == 1:
        keys.reshape(-1).sort()
    elif len(keys) and kernels.sort(keys, spare := np.empty_like(keys)):
        keys = spare
    counts = np.empty(len(keys), np.uint32)
    found = kernels.distinct(keys, counts)
    return Grams(keys[:found], counts[:found], layout)


def _behind(documents: Documents, layout: Order, labels: tuple[int, ...]) -> Grams:
    """The grams behind labels, of each column and text of which the label is known."""
    sizes, V = np.array(labels), documents.vocab_size
    first = V + 2 + np.cumsum(sizes) - sizes

    def parts() -> Iterator[Grams]:
        for low, keys in _packed(documents, layout):
            ids = documents.labels_at(np.arange(low, low + len(keys)))
            for column, size in enumerate(labels):
                own = np.full(len(keys), size) if ids is None else ids[:, column]
                has = own < size
                some, symbols = keys[has], own[has] + first[column]
                kernels.put_first(some, symbols, layout)
                yield _counted(some, layout)

    return reduce(Grams.merged, _balanced(parts()))


def _balanced(parts: Iterator[Grams]) -> list[Grams]:
    """The parts, merged where those before have the same size: each gram is merged a few times only."""
    merged: list[Grams] = []
    for part in parts:
        merged.append(part)
        while len(merged) > 1 and len(merged[-1].keys) * 2 > len(merged[-2].keys):
            merged[-2:] = [merged[-2].merged(merged[-1])]
    return merged


def default_bytes(characters: int) -> int:
    """The bound for a text of so many characters: more brings little."""
    return min(max(MOST_BYTES // 12, BYTES_EACH * characters), MOST_BYTES)


def order_of(characters: int, vocab_size: int) -> int:
    """The order for a text of so many characters, of which so many are different."""
    return min(ORDER, longest_order(vocab_size) if characters <= LONG else 64 // _bits(vocab_size))


def learned(documents: Documents, most_bytes: int | None = None) -> Counts:
    """The counts of documents, which have at least one character, within most_bytes or `default_bytes`."""
    order = order_of(len(documents), documents.vocab_size)
    return build(Grams.of(documents, order), most_bytes or default_bytes(len(documents)))


class _Part(NamedTuple):
    """The contexts of all texts, or those behind labels, by how many characters they have."""

    levels: list[Level]
    unreal: list[npt.NDArray[np.bool_] | None]  # see _after_nothing
    tables: list[Array]  # how often each count occurs
    discounts: Array  # (n, 4)
    labels: int  # symbols of labels in a context: 0 or 1

    @classmethod
    def of(cls, levels: list[Level], labels: int) -> _Part:
        unreal = [_after_nothing(level) if k > 0 else None for k, level in enumerate(levels)]
        tables = [
            np.bincount(level.counts if left_out is None else level.counts[~left_out], minlength=5)
            for level, left_out in zip(levels, unreal, strict=True)
        ]
        return cls(
            levels, unreal, tables, np.array([_discounts(table) for table in tables], np.int64), labels
        )

    def marked(self, gains: list[Array], once: int) -> list[Array]:
        """The gains, negative where something is left out however much it gains."""
        for k, (gain, level, left_out) in enumerate(zip(gains, self.levels, self.unreal, strict=True)):
            if k >= once:
                gain[level.occurrences == 1] = -1
            if left_out is not None:
                gain[left_out] = -1
        if not self.labels:
            gains[0][:] = np.inf
        return gains


def build(grams: Grams, most_bytes: int | None = None, *, once: int = ONCE, exact: bool = False) -> Counts:
    """The counts of a text, from its grams.

    Of the grams longer than `once`, those that occur a single time are left out; and of all, those that gain
    the least, until the arrays take no more than `most_bytes`: only the characters' own counts always remain.
    With `exact`, no value is rounded, which takes more bytes.
    """
    V, parts = grams.layout.vocab_size, [_Part.of(_levels(grams), 0)]
    if grams.behind is not None:
        parts.append(_Part.of(_levels(grams.behind)[1:], 1))
    gains = [
        part.marked([np.zeros(len(level.following), np.float32) for level in part.levels], once)
        for part in parts
    ]
    least, symbols = np.float32(0), V + 1 + sum(grams.labels)
    if most_bytes is not None and _bytes_by_gain(parts, gains, V, symbols).sum() > most_bytes:
        weighed = _weigh(parts, V)
        gains = [part.marked(gain, once) for part, gain in zip(parts, weighed, strict=True)]
        left = np.cumsum(_bytes_by_gain(parts, gains, V, symbols)[::-1])[::-1]
        least = _least_of(int(np.argmax(left <= most_bytes)) if left[-1] <= most_bytes else len(left) - 1)
    coded = _count_codes([table for part in parts for table in part.tables], exact)
    return _thinned(parts, gains, least, coded, grams, exact)


def _after_nothing(level: Level) -> npt.NDArray[np.bool_] | None:
    """Which characters follow contexts that hold a symbol for nothing; None: none do."""
    nothing = level.oldest == 0
    return np.repeat(nothing, np.diff(level.begin)) if nothing.any() else None


def _levels(grams: Grams, shortest: int = 0) -> list[Level]:
    """The contexts of shortest .. n - 1 symbols."""
    G = len(grams.keys)
    level = _empty(G, G)
    level = _first(level, kernels.group(level, grams.keys, grams.counts, grams.layout), G)
    ks = range(grams.layout.n - 2, shortest - 1, -1)
    return shorter(level, level.begin[:-1].copy(), grams.keys, ks, grams.layout)


def shorter(longest: Level, gram: Array, keys: Keys, ks: range, layout: Order) -> list[Level]:
    """Contexts, and those of ks symbols, the shortest first; gram (contexts,) is the first key of each."""
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


def _discounts(counts_of_counts: Array) -> list[int]:
    """Those of the counts 0, 1, 2 and more, times UNIT; 1/2, 1 and 3/2 where there are too few counts."""
    n1, n2, n3, n4 = (counts_of_counts[1:5].tolist() + [0] * 4)[:4]
    if not (n1 and n2 and n3 and n4):
        return [0, UNIT // 2, UNIT, 3 * UNIT // 2]
    y = n1 / (n1 + 2 * n2)
    values = (1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3)
    return [0, *(min(max(round(value * UNIT), UNIT // 16), (j + 1) * UNIT) for j, value in enumerate(values))]


def _weigh(parts: list[_Part], V: int) -> list[list[Array]]:
    """What each character gains in each level's contexts, by parts."""
    whole: list[list[Array]] = []
    root = parts[0].levels[0], np.zeros(0, np.float32)
    for part in parts:
        (above, above_chances), gains = root, []
        for k, level in enumerate(part.levels, part.labels):
            chances, gain = (np.empty(len(level.following), np.float32) for _ in range(2))
            discounts = part.discounts[k - part.labels]
            kernels.weigh(level, above, k, discounts, V, (chances, above_chances), gain)
            above, above_chances = level, chances
            root = root if len(root[1]) else (level, chances)  # behind which labels stand
            gains.append(gain * np.float32(LABEL_SHARE) if part.labels else gain)
        whole.append(gains)
    return whole


def _bytes_by_gain(
    parts: list[_Part], gains: list[list[Array]], V: int, symbols: int
) -> npt.NDArray[np.int64]:
    """The bytes of what gains so much, by classes of gains, see `_least_of`; a negative gain takes none."""
    context = id_dtype(symbols).itemsize + 2 * id_dtype(symbols + 1).itemsize + 1
    character = id_dtype(V).itemsize + 1
    total = np.zeros((0x7F800000 >> _GAIN_SHIFT) + 1, np.int64)
    # Discounts, and the tables of values.
    total[-1] = 6 * len(parts) * len(parts[0].levels) + 2 * 4 * CODES
    for part, own in zip(parts, gains, strict=True):
        longer = np.zeros(0, np.uint8), np.zeros(0, np.int32)
        for k, (level, gain) in reversed([*enumerate(zip(part.levels, own, strict=True), part.labels)]):
            best = np.empty(len(level.same), np.int32)
            kernels.tally(
                level, k, gain.view(np.int32), longer, best, total, (character, context, _GAIN_SHIFT)
            )
            longer = level.same, best
    return total


def _least_of(gain_class: int) -> np.float32:
    """The least gain of a class, which is the leading bits of a float32."""
    return np.float32(np.array(gain_class << _GAIN_SHIFT, np.int32).view(np.float32))


def _count_codes(tables: list[Array], exact: bool) -> tuple[Array, Array]:
    """The values that stand for counts, and the code of each count, from the counts of counts."""
    total = np.zeros(max(map(len, tables)), np.int64)
    for table in tables:
        total[: len(table)] += table
    occurring = np.flatnonzero(total)
    values, codes = _coded(occurring, exact)
    code_of = np.zeros(len(total), codes.dtype)
    code_of[occurring] = codes
    return values, code_of


def _coded(values: Array, exact: bool) -> tuple[Array, Array]:
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


def _thinned(
    parts: list[_Part], gains: list[list[Array]], least: np.float32, coded: tuple[Array, Array],
    grams: Grams, exact: bool,
) -> Counts:  # fmt: skip
    """The counts of what gains enough."""
    V, n, labels = grams.layout.vocab_size, grams.layout.n, grams.labels
    symbols = V + 1 + sum(labels)
    plain, *behind = (
        [*_levels_of_tree(part, own, least, coded[1], V, symbols)]
        for part, own in zip(parts, gains, strict=True)
    )
    tree = [[level] for level in plain]
    if behind:
        nothing = [array[:0] for array in plain[0]]
        for k, level in enumerate([*behind[0], *[nothing] * (n - len(behind[0]))], 1):
            tree[k : k + 1] = [[*(tree[k] if k < n else []), level]]
        plain[0][1][0] += len(behind[0][0][0])  # the root's children
    found = map(np.concatenate, zip(*(arrays for level in tree for arrays in level), strict=True))
    names, children, successors, masses, following, codes = found
    names[0] = 0  # of the root, which has none
    longest = sum(len(arrays[0]) for arrays in tree[-1])
    mass_values, mass_codes = _coded(masses, exact)
    discounts = [part.discounts[:, 1:].astype(np.uint16) for part in parts]
    if behind and len(discounts[1]) < n:
        usual = np.array([_discounts(np.zeros(5, np.int64))[1:]] * (n - len(discounts[1])), np.uint16)
        discounts[1] = np.concatenate([discounts[1], usual])
    return Counts(
        discounts=discounts[0],
        symbols=names,
        children=children[: len(children) - longest],
        successors=successors,
        masses=mass_codes,
        following=following,
        codes=codes,
        count_values=coded[0],
        mass_values=mass_values,
        vocab_size=V,
        labels=labels,
        label_discounts=discounts[1] if behind else None,
    )


def _levels_of_tree(
    part: _Part, gains: list[Array], least: np.float32, code_of: Array, V: int, symbols: int
) -> list[list[Array]]:
    """The arrays of what gains enough: of contexts their symbols, children, successors and masses, and then
    what follows, and its codes."""
    below, sizes = (np.zeros(0, np.uint8), np.zeros(0, np.uint8)), id_dtype(symbols + 1)
    found: list[list[Array]] = []
    for k, (level, gain) in reversed([*enumerate(zip(part.levels, gains, strict=True), part.labels)]):
        contexts, characters = len(level.same), len(level.following)
        nodes = (np.empty(contexts, id_dtype(symbols)), *(np.empty(contexts, sizes) for _ in range(2)))
        masses = np.empty(contexts, np.int64)
        follow = (np.empty(characters, id_dtype(V)), np.empty(characters, code_of.dtype))
        kept = np.empty(contexts, np.uint8)
        into = (*nodes, masses, *follow, code_of, kept)
        discounts = part.discounts[k - part.labels]
        written, total = kernels.thin(level, k, gain, least, discounts, below, into)
        found.append([*(a[:written] for a in (*nodes, masses)), *(a[:total] for a in follow)])
        below = (level.same, kept)
    return found[::-1]
