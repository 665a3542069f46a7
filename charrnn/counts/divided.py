"""Counts of long texts, whose grams are divided into parts, which ranks hold in turn; the result is the same.

A part has the grams whose contexts end with some symbols, S of them, so all of a context of S symbols or more
is in one part. Contexts of S symbols are put together, and make the shorter ones. Longer ones take much more
memory than grams: three sweeps make those of one part after the other anew. The first finds how often counts
occur, the second how much is gained, the third what is kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import reduce
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from charrnn.counts import building
from charrnn.counts.building import ONCE, Grams, Keys, build, layout_of
from charrnn.counts.counts import Array, Counts
from charrnn.kernels.loops.beside import grams as kernels
from charrnn.kernels.loops.beside.grams import Level, Order
from charrnn.ranks.arrays import Shared, ranks_of
from charrnn.ranks.ranks import Ranks
from charrnn.text.corpus import Documents
from charrnn.vocabulary import id_dtype

PART = 2**20  # characters of a text, for each part of its grams
TOGETHER = 2**19  # positions that a rank sorts together
SAMPLES, SAMPLE = 64, 2**13  # passages by which grams are divided, and positions in each
FEW = 256  # characters of a vocabulary: grams of larger ones are divided by one symbol, others by three
_NOTHING = np.zeros(0, np.uint8), np.zeros(0, np.int32)
_NONE_KEPT = np.zeros(0, np.uint8), np.zeros(0, np.uint8)


def gathered(documents: Documents, order: int, labels: tuple[int, ...] = ()) -> Grams | DividedGrams:
    """The grams of documents, divided if these are long, or if ranks share them, and there are no labels."""
    ranks, parts = ranks_of(documents.ids), -(-len(documents) // PART)
    if labels or (parts <= 1 and ranks.size == 1):
        return Grams.of(documents, order, labels)
    divided = DividedGrams(_division(documents, order, max(parts, 2 * ranks.size)), ranks)
    divided.add(documents)
    return divided


def built(grams: Grams | DividedGrams, most_bytes: int | None = None, **how: Any) -> Counts:
    """The counts of a text, from its grams; see charrnn.counts.building.build."""
    return build(grams, most_bytes, **how) if isinstance(grams, Grams) else grams.build(most_bytes, **how)


class Division(NamedTuple):
    """How grams are divided."""

    layout: Order
    symbols: int  # S
    ends: npt.NDArray[np.uint64]  # (P - 1,) the first S symbols of the keys with which the next parts begin

    @property
    def parts(self) -> int:
        """P."""
        return len(self.ends) + 1

    def beginnings(self, keys: Keys) -> npt.NDArray[np.uint64]:
        """The first S symbols of keys (G, W), as one number."""
        unread = 64 // self.layout.bits - self.symbols
        found: npt.NDArray[np.uint64] = keys[:, 0] >> np.uint64(self.layout.bits * unread)
        return found

    def divided(self, grams: Grams) -> list[Grams]:
        """The grams of each part, not copied."""
        cuts = np.searchsorted(self.beginnings(grams.keys), self.ends)
        pairs = zip(np.split(grams.keys, cuts), np.split(grams.counts, cuts), strict=True)
        return [Grams(keys, counts, self.layout) for keys, counts in pairs]


def _division(documents: Documents, order: int, parts: int) -> Division:
    """Parts with about as many grams each, by a sample."""
    V, N = documents.vocab_size, len(documents)
    division = Division(layout_of(V, order), min(3 if V <= FEW else 1, order - 1), np.zeros(0, np.uint64))
    starts = {max(0, N - SAMPLE) * n // SAMPLES for n in range(SAMPLES)}
    passages = (documents.between(low, min(low + SAMPLE, N)) for low in sorted(starts))
    sample = reduce(Grams.merged, (Grams.of(passage, order) for passage in passages))
    beginnings = division.beginnings(sample.keys)
    return division._replace(ends=np.unique(beginnings[len(beginnings) * np.arange(1, parts) // parts]))


class DividedGrams(Shared):
    """The grams of a text; see Grams."""

    def __init__(self, division: Division, ranks: Ranks) -> None:
        super().__init__(ranks)
        self.division = division
        self.ask(_begin, [(self.number, division)] * ranks.size)

    def add(self, documents: Documents) -> None:
        """Count what is in these documents, too."""
        size, before = self.ranks.size, self.division.layout.n - 1
        lows = range(0, len(documents), TOGETHER)
        nothing = self.number, documents.between(0, 1), 1
        for first in range(0, len(lows), size):
            parts = [nothing] * size
            for rank, low in enumerate(lows[first : first + size]):
                start = max(0, low - before)  # by what comes before, the first contexts are known
                own = documents.between(start, min(low + TOGETHER, len(documents)))
                parts[rank] = self.number, own, low - start
            self.ask(_count, parts)

    def merged(self, other: Grams) -> DividedGrams:
        """These grams, which have now those of the others as well."""
        parts, size = self.division.divided(other), self.ranks.size
        self.ask(_take, [(self.number, parts[rank::size]) for rank in range(size)])
        return self

    def build(self, most_bytes: int | None = None, *, once: int = ONCE, exact: bool = False) -> Counts:
        """The counts of the text; see charrnn.counts.building.build."""
        S, layout, size = self.division.symbols, self.division.layout, self.ranks.size
        V, how, has_longer = layout.vocab_size, (self.number, once), layout.n > S + 1
        surveys: list[Survey] = self.ask(_survey, [how] * size)
        seams: list[Seam] = self._by_part([survey.seams for survey in surveys])
        levels = _put_together(seams, self.division)
        tables = [_table(k, level) for k, level in enumerate(levels)]
        tables += [_sum(*own) for own in zip(*(survey.tables for survey in surveys), strict=True)]
        discounts = np.array([_discounts(table) for table in tables], np.int64)

        def bytes_by_gain(gains: list[Array], swept: list[Swept]) -> npt.NDArray[np.int64]:
            total: npt.NDArray[np.int64] = np.sum([own.bytes for own in swept], axis=0)
            total[-1] += 6 * layout.n + 2 * 4 * building.CODES
            best = np.concatenate(self._by_part([own.best for own in swept]))
            longer = (np.zeros(len(best), np.uint8), best) if has_longer else _NOTHING
            _tally(levels, gains, 0, longer, V, total)
            return total

        gains = [_marked(k, level, _zeros(level), once) for k, level in enumerate(levels)]
        chances: list[list[Array | None]] = [[None] * len(survey.seams) for survey in surveys]
        least = np.float32(0)
        if most_bytes is not None and bytes_by_gain(gains, [own.swept for own in surveys]).sum() > most_bytes:
            weighed = _weigh(levels, 0, (levels[0], np.zeros(0, np.float32)), discounts, V)
            gains = [_marked(k, levels[k], gain, once) for k, (_, gain) in enumerate(weighed)]
            each = np.split(weighed[S][0], np.cumsum([len(seam.level.following) for seam in seams])[:-1])
            chances = [list(each[rank::size]) for rank in range(size)]
            swept = self.ask(_weigh_parts, [(*how, discounts, own) for own in chances])
            least = _least(bytes_by_gain(gains, swept), most_bytes)
        count_values, code_of = _codes(_sum(*tables)[0], exact)
        into = discounts, code_of, least
        thinned: list[Thinned] = self._by_part(self.ask(_thin_parts, [(*how, into, own) for own in chances]))
        below = _children(np.concatenate([part.kept for part in thinned]), S) if has_longer else _NONE_KEPT
        tree, _ = _thin(levels, gains, 0, below, into, V)
        for own in zip(*(part.levels for part in thinned), strict=True):
            tree.append([np.concatenate(arrays) for arrays in zip(*own, strict=True)])
        return _counts_of(tree, discounts, count_values, V, exact)

    def _by_part(self, found: list[list[Any]]) -> list[Any]:
        """What the ranks have found of their parts, by parts."""
        size = self.ranks.size
        return [found[part % size][part // size] for part in range(self.division.parts)]


class Seam(NamedTuple):
    """The contexts of S symbols in a part, and the first key of each."""

    level: Level
    keys: Keys


class Swept(NamedTuple):
    """What a sweep finds in the parts of a rank; see charrnn.kernels.loops.beside.grams.tally."""

    best: list[Array]  # of each part, by contexts of S symbols, what the longer ones gain at most
    bytes: npt.NDArray[np.int64]  # of the longer ones, by classes of gains


class Survey(NamedTuple):
    """What the first sweep finds."""

    seams: list[Seam]
    tables: list[Table]  # of the counts after contexts of S + 1 .. n - 1 symbols
    swept: Swept  # where nothing gains anything


class Thinned(NamedTuple):
    """What is kept of a part: the longer contexts' arrays, and how many go on from each of S symbols."""

    levels: list[list[Array]]
    kept: Array


# --- what the leader asks all ranks for ---------------------------------------------------------


class _Parts:
    """The parts of a rank, each of which is a few lists of grams that are not merged yet."""

    def __init__(self, division: Division, ranks: Ranks) -> None:
        self.division = division
        self.parts: list[list[Grams]] = [[] for _ in range(ranks.rank, division.parts, ranks.size)]

    def take(self, part: int, grams: Grams) -> None:
        """Merge copies of these grams with those of a part."""
        if len(grams.keys):
            own = Grams(grams.keys.copy(), grams.counts.copy(), grams.layout)
            self.parts[part] = building._balanced(iter([*self.parts[part], own]))

    def longer(self) -> Iterator[tuple[Keys, Level, list[Level]]]:
        """Of each part its keys, the contexts of S symbols, and those of S + 1 .. n - 1 symbols."""
        layout = self.division.layout
        nothing = Grams(np.empty((0, building._words(layout)), np.uint64), np.empty(0, np.uint32), layout)
        for n, part in enumerate(self.parts):
            whole = reduce(Grams.merged, part) if part else nothing
            self.parts[n] = [whole]
            first, *others = building._levels(whole, self.division.symbols)
            yield whole.keys, first, others


def _begin(ranks: Ranks, number: int, division: Division) -> None:
    ranks.arrays[number] = _Parts(division, ranks)


def _count(ranks: Ranks, number: int, documents: Documents, known: int) -> None:
    """Count the grams of documents but for those of the first `known` positions, and exchange them."""
    own: _Parts = ranks.arrays[number]
    size, mine, layout = ranks.size, len(own.parts), own.division.layout
    documents = replace(documents)  # with arrays that are read-only, as kernels know them
    packed, nothing = (np.zeros((rows, building._words(layout)), np.uint64) for rows in (len(documents), 1))
    kernels.pack(packed, building.text_of(documents), 0, (0, 0, 0), nothing[0], layout)
    parts = own.division.divided(building._counted(packed[known:], layout))
    sent = [part for rank in range(size) for part in parts[rank::size]]
    each = [len(parts[rank::size]) for rank in range(size)]
    lengths, expected = np.array([len(part.keys) for part in sent]), np.empty(mine * size, np.int64)
    ranks.exchange(lengths, each, expected, [mine] * size)
    given = [int(some.sum()) for some in np.split(lengths, np.cumsum(each)[:-1])]
    wanted = expected.reshape(size, mine).sum(axis=1).tolist()
    keys = np.empty((sum(wanted), building._words(layout)), np.uint64)
    counts = np.empty(len(keys), np.uint32)
    flat, W = np.concatenate([part.keys for part in sent]).reshape(-1), keys.shape[1]
    ranks.exchange(flat, [W * n for n in given], keys.reshape(-1), [W * n for n in wanted])
    ranks.exchange(np.concatenate([part.counts for part in sent]), given, counts, wanted)
    cuts = np.cumsum(expected)[:-1]
    for n, pair in enumerate(zip(np.split(keys, cuts), np.split(counts, cuts), strict=True)):
        own.take(n % mine, Grams(*pair, layout))


def _take(ranks: Ranks, number: int, parts: list[Grams]) -> None:
    for n, grams in enumerate(parts):
        ranks.arrays[number].take(n, grams)


def _survey(ranks: Ranks, number: int, once: int) -> Survey:
    own: _Parts = ranks.arrays[number]
    S, layout = own.division.symbols, own.division.layout
    seams, best, total = [], [], _no_bytes()
    tables: list[Table] = [(np.zeros(0, np.int64), np.zeros(0, np.int64))] * (layout.n - S - 1)
    for keys, first, levels in own.longer():
        beginnings = own.division.beginnings(keys)
        differ = np.append(beginnings[:1] == beginnings[:1], beginnings[1:] != beginnings[:-1])
        seams.append(Seam(Level(*(array.copy() for array in first)), keys[differ]))
        tables = [_sum(table, _table(k, levels[n])) for n, (k, table) in enumerate(enumerate(tables, S + 1))]
        gains = [_marked(k, level, _zeros(level), once) for k, level in enumerate(levels, S + 1)]
        best.append(_best(levels, gains, S, layout.vocab_size, total))
    return Survey(seams, tables, Swept(best, total))


def _weigh_parts(ranks: Ranks, number: int, once: int, discounts: Array, chances: list[Array]) -> Swept:
    own: _Parts = ranks.arrays[number]
    S, V = own.division.symbols, own.division.layout.vocab_size
    best, total = [], _no_bytes()
    for above, (_, first, levels) in zip(chances, own.longer(), strict=True):
        gains = _gains(levels, S, (first, above), discounts, V, once)
        best.append(_best(levels, gains, S, V, total))
    return Swept(best, total)


def _thin_parts(ranks: Ranks, number: int, once: int, into: Into, chances: list[Any]) -> list[Thinned]:
    own: _Parts = ranks.arrays[number]
    S, V, found = own.division.symbols, own.division.layout.vocab_size, []
    for above, (_, first, levels) in zip(chances, own.longer(), strict=True):
        gains = _gains(levels, S, (first, above), into[0], V, once)
        tree, kept = _thin(levels, gains, S + 1, _NONE_KEPT, into, V)
        sums = np.add.reduceat(kept, _groups(levels[0], S), dtype=np.int64) if levels else kept
        found.append(Thinned(tree, sums))
    return found


# --- contexts of some lengths -------------------------------------------------------------------

Table = tuple[Array, Array]  # which counts occur, and how often each
Into = tuple[Array, Array, np.float32]  # discounts, the codes of counts, and the least gain
Above = tuple[Level, Any]  # the contexts of one symbol less, and the chances in them; None: nothing is gained


def _put_together(seams: list[Seam], division: Division) -> list[Level]:
    """The contexts of 0, 1, .. S symbols, of all parts."""
    S, keys = division.symbols, np.concatenate([seam.keys for seam in seams])
    same, oldest, _, *others = map(np.concatenate, zip(*(seam.level for seam in seams), strict=True))
    beginnings = division.beginnings(keys)
    for first in np.cumsum([len(seam.keys) for seam in seams])[:-1]:  # of a part: what it shares
        if 0 < first < len(keys):
            different = int(beginnings[first] ^ beginnings[first - 1])
            same[first] = S - -(-different.bit_length() // division.layout.bits)
    lengths = np.concatenate([np.diff(seam.level.begin) for seam in seams])
    begin = np.append(0, np.cumsum(lengths)).astype(np.uint32)
    first_keys = np.arange(len(keys), dtype=np.uint32)
    longest = Level(same, oldest, begin, *others)
    return building.shorter(longest, first_keys, keys, range(S - 1, -1, -1), division.layout)


def _table(k: int, level: Level) -> Table:
    """Of the counts after contexts of k symbols."""
    left_out = building._after_nothing(level) if k > 0 else None
    counts = level.counts if left_out is None else level.counts[~left_out]
    values, times = np.unique(counts, return_counts=True)
    return values.astype(np.int64), times


def _sum(*tables: Table) -> Table:
    values, times = map(np.concatenate, zip(*tables, strict=True))
    occurring, places = np.unique(values, return_inverse=True)
    total = np.zeros(len(occurring), np.int64)
    np.add.at(total, places, times)
    return occurring, total


def _discounts(table: Table) -> list[int]:
    values, times = table
    few = np.zeros(5, np.int64)
    few[values[values < 5]] = times[values < 5]
    return building._discounts(few)


def _codes(occurring: Array, exact: bool) -> tuple[Array, Array]:
    """The values that stand for counts, and the code of each count."""
    values, codes = building._coded(occurring, exact)
    code_of = np.zeros(occurring[-1] + 1, codes.dtype)
    code_of[occurring] = codes
    return values, code_of


def _groups(longer: Level, k: int) -> Array:
    """Where the contexts begin that end with the same k symbols."""
    return np.flatnonzero(longer.same < k) if k else np.zeros(1, np.int64)


def _children(numbers: Array, k: int) -> tuple[Array, Array]:
    """What `thin` asks of longer contexts, of which so many are kept for each of k symbols."""
    each = np.maximum(numbers, 1)
    same, kept = np.full(each.sum(), k, np.uint8), np.ones(each.sum(), np.uint8)
    first = np.cumsum(each) - each
    same[first], kept[first[numbers == 0]] = 0, 0
    return same, kept


def _zeros(level: Level) -> Array:
    return np.zeros(len(level.following), np.float32)


def _marked(k: int, level: Level, gain: Array, once: int) -> Array:
    """The gains after contexts of k symbols, negative where something is left out whatever it gains."""
    if k >= once:
        gain[level.occurrences == 1] = -1
    if k > 0 and (left_out := building._after_nothing(level)) is not None:
        gain[left_out] = -1
    if k == 0:
        gain[:] = np.inf
    return gain


def _weigh(levels: list[Level], k: int, above: Above, discounts: Array, V: int) -> list[tuple[Array, Array]]:
    """The chances after contexts of k symbols and more, and what each gains."""
    found = []
    for n, level in enumerate(levels):
        chances, gain = (np.empty(len(level.following), np.float32) for _ in range(2))
        kernels.weigh(level, above[0], k + n, discounts[k + n], V, (chances, above[1]), gain)
        above = level, chances
        found.append((chances, gain))
    return found


def _gains(levels: list[Level], S: int, above: Above, discounts: Array, V: int, once: int) -> list[Array]:
    """What is gained after contexts of more than S symbols, and marked."""
    if above[1] is None:
        gains = [_zeros(level) for level in levels]
    else:
        gains = [gain for _, gain in _weigh(levels, S + 1, above, discounts, V)]
    return [_marked(k, *pair, once) for k, pair in enumerate(zip(levels, gains, strict=True), S + 1)]


def _no_bytes() -> npt.NDArray[np.int64]:
    return np.zeros((0x7F800000 >> building._GAIN_SHIFT) + 1, np.int64)


def _least(total: npt.NDArray[np.int64], most_bytes: int) -> np.float32:
    """The least gain with which what is kept takes no more than so many bytes."""
    left = np.cumsum(total[::-1])[::-1]
    found = int(np.argmax(left <= most_bytes)) if left[-1] <= most_bytes else len(left) - 1
    return building._least_of(found)


def _tally(levels: list[Level], gains: list[Array], k: int, longer: Any, V: int, total: Array) -> Array:
    """Adds the bytes of contexts of k symbols and more to `total`; what those of k symbols gain at most."""
    sizes = id_dtype(V).itemsize + 1, id_dtype(V + 1).itemsize + 2 * id_dtype(V + 2).itemsize + 1
    for n in range(len(levels) - 1, -1, -1):
        best = np.empty(len(levels[n].same), np.int32)
        gain = gains[n].view(np.int32)
        kernels.tally(levels[n], k + n, gain, longer, best, total, (*sizes, building._GAIN_SHIFT))
        longer = levels[n].same, best
    found: Array = longer[1]
    return found


def _best(levels: list[Level], gains: list[Array], S: int, V: int, total: Array) -> Array:
    """Adds the bytes of contexts of more than S symbols to `total`; their largest gains, by those of S."""
    best = _tally(levels, gains, S + 1, _NOTHING, V, total)
    return np.maximum.reduceat(best, _groups(levels[0], S)) if levels else best


def _thin(
    levels: list[Level], gains: list[Array], k: int, below: tuple[Array, Array], into: Into, V: int
) -> tuple[list[list[Array]], Array]:
    """What is kept of contexts of k symbols and more, and which of those of k symbols."""
    (discounts, code_of, least), sizes, found = into, id_dtype(V + 2), []
    for n in range(len(levels) - 1, -1, -1):
        contexts, characters = len(levels[n].same), len(levels[n].following)
        nodes = (np.empty(contexts, id_dtype(V + 1)), *(np.empty(contexts, sizes) for _ in range(2)))
        follow = (np.empty(characters, id_dtype(V)), np.empty(characters, code_of.dtype))
        masses, kept = np.empty(contexts, np.int64), np.empty(contexts, np.uint8)
        written = (*nodes, masses, *follow, code_of, kept)
        some, total = kernels.thin(levels[n], k + n, gains[n], least, discounts[k + n], below, written)
        found.append([*(a[:some].copy() for a in (*nodes, masses)), *(a[:total].copy() for a in follow)])
        below = levels[n].same, kept
    return found[::-1], below[1]


def _counts_of(tree: list[list[Array]], discounts: Array, count_values: Array, V: int, exact: bool) -> Counts:
    """The counts whose arrays are those of contexts of 0 .. n - 1 symbols."""
    symbols, children, successors, masses, following, codes = map(np.concatenate, zip(*tree, strict=True))
    symbols[0] = 0  # of the root, which has none
    mass_values, mass_codes = building._coded(masses, exact)
    return Counts(
        discounts=discounts[:, 1:].astype(np.uint16),
        symbols=symbols,
        children=children[: len(children) - len(tree[-1][0])],
        successors=successors,
        masses=mass_codes,
        following=following,
        codes=codes,
        count_values=count_values,
        mass_values=mass_values,
        vocab_size=V,
    )
