"""Counts of long texts, whose grams are divided into parts, which ranks hold; the result is the same.

A part has the grams whose contexts end with some symbols, S of them, so all of a context of S symbols or more
is in one part. Contexts of S symbols are put together, and make the shorter ones. Longer ones take much more
memory than grams: three sweeps make those of one part after the other anew. The first finds how often counts
occur, the second how much is gained, the third what is kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import reduce
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from charrnn.counts.counts import Array, Counts
from charrnn.counts.learning import levels as contexts
from charrnn.counts.learning.building import ONCE, assembled, build, fixed_bytes
from charrnn.counts.learning.grams import Grams, Keys, balanced, counted, layout_of, text_of, words
from charrnn.counts.learning.levels import NONE_KEPT, NOTHING, Into, Sizes, Table, added
from charrnn.kernels.loops.beside import grams as kernels
from charrnn.kernels.loops.beside.grams import Level, Order
from charrnn.ranks.arrays import Shared, ranks_of
from charrnn.ranks.ranks import Ranks, wait_for
from charrnn.system.memory import give_back
from charrnn.text.documents import Documents

PART = 2**20  # characters of a text, for each part of its grams
TOGETHER = 2**19  # positions that a rank sorts together
SAMPLES, SAMPLE = 64, 2**13  # passages by which grams are divided, and positions in each
FEW = 256  # characters of a vocabulary: grams of larger ones are divided by one symbol, others by three


def gathered(documents: Documents, order: int, labels: tuple[int, ...] = ()) -> Grams | DividedGrams:
    """The grams of documents, divided if these are long, or if ranks share them, and there are no labels."""
    ranks, parts = ranks_of(documents.ids), -(-len(documents) // PART)
    if labels or (parts <= 1 and ranks.size == 1):
        return Grams.of(documents, order, labels)
    divided = DividedGrams(_division(documents, order, max(parts, 2 * ranks.size), ranks.size), ranks)
    divided.add(documents)
    return divided


def built(grams: Grams | DividedGrams, most_bytes: int | None = None, **how: Any) -> Counts:
    """The counts of a text, from its grams; see charrnn.counts.learning.building.build."""
    return build(grams, most_bytes, **how) if isinstance(grams, Grams) else grams.build(most_bytes, **how)


class Division(NamedTuple):
    """How grams are divided."""

    layout: Order
    symbols: int  # S
    ends: npt.NDArray[np.uint64]  # (P - 1,) the first S symbols of the keys with which the next parts begin
    held: list[list[int]]  # of each rank, the numbers of its parts

    @property
    def parts(self) -> int:
        """P."""
        return len(self.ends) + 1

    def dealt(self, parts: Sequence[Any]) -> list[list[Any]]:
        """What belongs to the parts, by the ranks that hold these."""
        return [[parts[number] for number in numbers] for numbers in self.held]

    def in_order(self, dealt: list[list[Any]]) -> list[Any]:
        """What ranks have of their parts, in the order of the parts."""
        pairs = zip(self.held, dealt, strict=True)
        found = {
            number: own for numbers, of_rank in pairs for number, own in zip(numbers, of_rank, strict=True)
        }
        return [found[number] for number in range(self.parts)]

    @property
    def sizes(self) -> Sizes:
        """What the arrays of counts have to hold."""
        return Sizes(self.layout.vocab_size, self.layout.vocab_size + 1)

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


def _division(documents: Documents, order: int, parts: int, ranks: int) -> Division:
    """Parts with about as many grams each, and ranks with about as many grams each, by a sample."""
    V, N = documents.vocab_size, len(documents)
    division = Division(layout_of(V, order), min(3 if V <= FEW else 1, order - 1), np.zeros(0, np.uint64), [])
    starts = {max(0, N - SAMPLE) * n // SAMPLES for n in range(SAMPLES)}
    passages = (documents.between(low, min(low + SAMPLE, N)) for low in sorted(starts))
    sample = reduce(Grams.merged, (Grams.of(passage, order) for passage in passages))
    beginnings = division.beginnings(sample.keys)
    division = division._replace(ends=np.unique(beginnings[len(beginnings) * np.arange(1, parts) // parts]))
    return division._replace(held=_balanced([len(part.keys) for part in division.divided(sample)], ranks))


def _balanced(sizes: list[int], ranks: int) -> list[list[int]]:
    """The numbers of the parts that each rank gets: the largest first, to the rank that has the least.

    In turn, parts of a text of 400 MB made ranks that differed by 10 %.
    """
    held: list[list[int]] = [[] for _ in range(ranks)]
    loads = [0] * ranks
    for number in sorted(range(len(sizes)), key=lambda number: -sizes[number]):
        rank = loads.index(min(loads))
        held[rank].append(number)
        loads[rank] += sizes[number]
    return held


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
        parts = self.division.dealt(self.division.divided(other))
        self.ask(_take, [(self.number, own) for own in parts])
        return self

    def build(self, most_bytes: int | None = None, *, once: int = ONCE, exact: bool = False) -> Counts:
        """The counts of the text; see charrnn.counts.learning.building.build."""
        S, size, sizes = self.division.symbols, self.ranks.size, self.division.sizes
        how, has_longer = (self.number, once), self.division.layout.n > S + 1
        surveys: list[Survey] = self.ask(_survey, [how] * size)
        seams: list[Seam] = self.division.in_order([survey.seams for survey in surveys])
        levels = _put_together(seams, self.division)
        tables = [contexts.table(level, is_root=k == 0) for k, level in enumerate(levels)]
        tables += [added(*own) for own in zip(*(survey.tables for survey in surveys), strict=True)]
        discounts = np.array([contexts.discounts_of(table) for table in tables], np.int64)

        def total_bytes(swept: list[Swept]) -> npt.NDArray[np.int64]:
            total: npt.NDArray[np.int64] = np.sum([own.bytes for own in swept], axis=0)
            total[-1] += fixed_bytes(len(tables))
            best = np.concatenate(self.division.in_order([own.best for own in swept]))
            longer = (np.zeros(len(best), np.uint8), best) if has_longer else NOTHING
            contexts.tally(levels, gains, 0, longer, sizes, total)
            return total

        gains = _marked(levels, contexts.zeros(levels), once)
        chances: list[list[Array | None]] = [[None] * len(survey.seams) for survey in surveys]
        least = np.float32(0)
        if most_bytes is not None and total_bytes([own.swept for own in surveys]).sum() > most_bytes:
            root = levels[0], np.zeros(0, np.float32)
            weighed, gains = contexts.weigh(levels, 0, root, discounts, sizes.characters)
            gains = _marked(levels, gains, once)
            each = np.split(weighed[S], np.cumsum([len(seam.level.following) for seam in seams])[:-1])
            chances = self.division.dealt(each)
            swept = self.ask(_weigh_parts, [(*how, discounts, own) for own in chances])
            least = contexts.least_gain(total_bytes(swept), most_bytes)
        values, coding = contexts.codes_of(added(*tables)[0], exact=exact)
        into = Into(coding, least, sizes)
        asked = [(*how, discounts, into, own) for own in chances]
        thinned: list[Thinned] = self.division.in_order(self.ask(_thin_parts, asked))
        below = _children(np.concatenate([part.kept for part in thinned]), S) if has_longer else NONE_KEPT
        tree, _ = contexts.thin(levels, gains, 0, below, discounts, into)
        for own in zip(*(part.levels for part in thinned), strict=True):
            tree.append([np.concatenate(arrays) for arrays in zip(*own, strict=True)])
        return assembled([tree], [discounts], values, sizes.characters, exact=exact)


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
        self.parts: list[list[Grams]] = [[] for _ in division.held[ranks.rank]]

    def take(self, part: int, grams: Grams) -> None:
        """Merge copies of these grams with those of a part."""
        if len(grams.keys):
            own = Grams(grams.keys.copy(), grams.counts.copy(), grams.layout)
            self.parts[part] = balanced(iter([*self.parts[part], own]))

    def longer(self) -> Iterator[tuple[Keys, Level, list[Level]]]:
        """Of each part its keys, the contexts of S symbols, and those of S + 1 .. n - 1 symbols."""
        layout = self.division.layout
        nothing = Grams(np.empty((0, words(layout)), np.uint64), np.empty(0, np.uint32), layout)
        for n, part in enumerate(self.parts):
            whole = reduce(Grams.merged, part) if part else nothing
            self.parts[n] = [whole]
            first, *others = contexts.levels_of(whole, self.division.symbols)
            yield whole.keys, first, others
            del whole, first, others
            give_back()  # arrays of all sizes leave holes: a fourth of what the grams take


def _begin(ranks: Ranks, number: int, division: Division) -> None:
    ranks.arrays[number] = _Parts(division, ranks)


def _count(ranks: Ranks, number: int, documents: Documents, known: int) -> None:
    """Count the grams of documents but for those of the first `known` positions, and exchange them."""
    own: _Parts = ranks.arrays[number]
    size, mine, layout = ranks.size, len(own.parts), own.division.layout
    documents = replace(documents)  # with arrays that are read-only, as kernels know them
    packed, nothing = (np.zeros((rows, words(layout)), np.uint64) for rows in (len(documents), 1))
    kernels.pack(packed, text_of(documents), 0, (0, 0, 0), nothing[0], layout)
    parts = own.division.dealt(own.division.divided(counted(packed[known:], layout)))
    sent, each = [part for some in parts for part in some], [len(some) for some in parts]
    lengths, expected = np.array([len(part.keys) for part in sent]), np.empty(mine * size, np.int64)
    wait_for(ranks.exchange(lengths, each, expected, [mine] * size))
    given = [int(some.sum()) for some in np.split(lengths, np.cumsum(each)[:-1])]
    wanted = expected.reshape(size, mine).sum(axis=1).tolist()
    keys = np.empty((sum(wanted), words(layout)), np.uint64)
    counts = np.empty(len(keys), np.uint32)
    flat, W = np.concatenate([part.keys for part in sent]).reshape(-1), keys.shape[1]
    wait_for(ranks.exchange(flat, [W * n for n in given], keys.reshape(-1), [W * n for n in wanted]))
    wait_for(ranks.exchange(np.concatenate([part.counts for part in sent]), given, counts, wanted))
    bounds = np.append(0, np.cumsum(expected)).tolist()
    for n, (low, high) in enumerate(pairwise(bounds)):
        own.take(n % mine, Grams(keys[low:high], counts[low:high], layout))


def _take(ranks: Ranks, number: int, parts: list[Grams]) -> None:
    for n, grams in enumerate(parts):
        ranks.arrays[number].take(n, grams)


def _survey(ranks: Ranks, number: int, once: int) -> Survey:
    own: _Parts = ranks.arrays[number]
    S, layout = own.division.symbols, own.division.layout
    seams, best, total = [], [], contexts.no_bytes()
    tables: list[Table] = [(np.zeros(0, np.int64), np.zeros(0, np.int64))] * (layout.n - S - 1)
    for keys, first, levels in own.longer():
        beginnings = own.division.beginnings(keys)
        differ = np.append(beginnings[:1] == beginnings[:1], beginnings[1:] != beginnings[:-1])
        seams.append(Seam(Level(*(array.copy() for array in first)), keys[differ]))
        pairs = zip(tables, levels, strict=True)
        tables = [added(before, contexts.table(level, is_root=False)) for before, level in pairs]
        gains = contexts.zeros(levels)
        contexts.mark(levels, gains, S + 1, once)
        best.append(_best(levels, gains, own.division, total))
    return Survey(seams, tables, Swept(best, total))


def _weigh_parts(ranks: Ranks, number: int, once: int, discounts: Array, chances: list[Array]) -> Swept:
    own: _Parts = ranks.arrays[number]
    best, total = [], contexts.no_bytes()
    for above, (_, first, levels) in zip(chances, own.longer(), strict=True):
        gains = _gains(levels, (first, above), own.division, discounts, once)
        best.append(_best(levels, gains, own.division, total))
    return Swept(best, total)


def _thin_parts(
    ranks: Ranks, number: int, once: int, discounts: Array, into: Into, chances: list[Any]
) -> list[Thinned]:
    own: _Parts = ranks.arrays[number]
    S, found = own.division.symbols, []
    for above, (_, first, levels) in zip(chances, own.longer(), strict=True):
        gains = _gains(levels, (first, above), own.division, discounts, once)
        tree, kept = contexts.thin(levels, gains, S + 1, NONE_KEPT, discounts[S + 1 :], into)
        sums = np.add.reduceat(kept, _groups(levels[0], S), dtype=np.int64) if levels else kept
        found.append(Thinned(tree, sums))
    return found


# --- where parts meet ---------------------------------------------------------------------------


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
    return contexts.shorter(longest, first_keys, keys, range(S - 1, -1, -1), division.layout)


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


def _marked(levels: list[Level], gains: list[Array], once: int) -> list[Array]:
    """The gains from the root on, whose characters always remain."""
    contexts.mark(levels, gains, 0, once)
    gains[0][:] = np.inf
    return gains


def _gains(
    levels: list[Level], above: tuple[Level, Any], division: Division, discounts: Array, once: int
) -> list[Array]:
    """What is gained after contexts of more than S symbols, marked; without chances `above`, nothing."""
    S, V = division.symbols, division.layout.vocab_size
    if above[1] is None:
        gains = contexts.zeros(levels)
    else:
        _, gains = contexts.weigh(levels, S + 1, above, discounts[S + 1 :], V)
    contexts.mark(levels, gains, S + 1, once)
    return gains


def _best(levels: list[Level], gains: list[Array], division: Division, total: Array) -> Array:
    """Adds the bytes of contexts of more than S symbols to `total`; their largest gains, by those of S."""
    S = division.symbols
    best = contexts.tally(levels, gains, S + 1, NOTHING, division.sizes, total)
    return np.maximum.reduceat(best, _groups(levels[0], S)) if levels else best
