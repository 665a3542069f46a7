"""The counts of a text and of a model that it is learned from -> counts of both, within a bound of bytes.

The grams of the model's text are not in its file: there are counts that were pruned and rounded. So both are
merged as they are. What either says after a context c is a sum of counts, less their discounts, and of a mass
that is left to the shorter context; see charrnn.counts.counts. With a weight for the model,

    own(c w) = weight own_model(c w) + own_text(c w)        mass(c) = weight mass_model(c) + mass_text(c)

So whichever has seen a context more often decides what follows it, and the probabilities sum to one. That is
how Bacchiani and Roark (2003) merge counts; docs/counts.md shows what else was tried.

Merged counts have no discounts, since these are off already: instead they are MERGED_SCALE times as large.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from charrnn.counts.counts import MERGED_SCALE, MOST_VALUE, UNIT, Array, Counts
from charrnn.counts.gate import PREFIX as GATE
from charrnn.counts.gate import Gate
from charrnn.counts.learning import levels as contexts
from charrnn.counts.learning.building import fixed_bytes
from charrnn.counts.learning.levels import Sizes
from charrnn.counts.lookup import Tree
from charrnn.kernels.coefficients import LABEL_SHARE
from charrnn.text.documents import Documents
from charrnn.vocabulary import id_dtype

HALVINGS = 10  # weights are 1, 1/2, .. 1/2^HALVINGS, or none
# Nats a character by which counts of both must be better, on text that neither has seen: what is held out of
# a text is more like the rest of it than another text is.
MARGIN = 0.005
_PREFIX = "earlier."

Whole = npt.NDArray[np.int64]
Wide = npt.NDArray[np.float64]
Gains = npt.NDArray[np.float32]
Seen = list[
    tuple[Wide, Wide, Wide]
]  # by symbols of a context: own, mass and total, (2, N), the model's first


class EarlierCounts(NamedTuple):
    """What stands beside a model that a text is learned from."""

    counts: Counts
    gate: Gate
    symbols: Whole  # those of the text's counts for its own, of characters, START and labels; -1: left out

    def tensors(self) -> dict[str, Array]:
        """All arrays, for a resume file."""
        sizes = np.array([self.counts.vocab_size, *self.counts.labels], np.int64)
        found = {"sizes": sizes, "symbols": self.symbols, **self.counts.tensors(), **self.gate.tensors()}
        return {_PREFIX + name: array for name, array in found.items()}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Array]) -> EarlierCounts | None:
        """What `tensors` gave, among others; None: nothing. ValueError: it is anything else."""
        own = {name.removeprefix(_PREFIX): a for name, a in tensors.items() if name.startswith(_PREFIX)}
        if not own:
            return None
        sizes, symbols = (own.pop(name, np.zeros(0, np.int64)) for name in ("sizes", "symbols"))
        if any(a.dtype != np.int64 or a.ndim != 1 for a in (sizes, symbols)) or not len(sizes):
            raise ValueError("it does not say what the counts of the earlier text are about")
        V, *labels = sizes.tolist()
        if min(sizes) < 1 or len(symbols) != V + 1 + sum(labels):
            raise ValueError("it does not say what the counts of the earlier text are about")
        gate = {name: own.pop(name) for name in list(own) if name.startswith(GATE)}
        return cls(Counts.from_tensors(own, V, tuple(labels)), Gate.from_tensors(gate), symbols)


class _Part(NamedTuple):
    """The contexts of k symbols in one table; numbers "of UNIT" are multiples of 1 / UNIT."""

    parents: Whole  # (contexts,) their places among those of k - 1 symbols
    symbols: Whole  # (contexts,) as the text's counts have them; -1: is left out
    masses: Whole  # (contexts,) of UNIT MERGED_SCALE
    nodes: Whole  # (S,) the context that a character follows
    following: Whole  # (S,) ids, as the text's counts have them; -1: is left out
    own: Whole  # (S,) counts less their discounts, of UNIT MERGED_SCALE
    counts: Wide  # (S,)


class _Level(NamedTuple):
    """The contexts of k symbols in both tables, the model's first; what a table lacks is 0 there."""

    keys: Whole  # (contexts,) ascending: the place of the shorter context, times all symbols, and the symbol
    pairs: Whole  # (S,) ascending: the context's place, times V, and the id that follows
    masses: Whole  # (2, contexts) of UNIT MERGED_SCALE
    own: Whole  # (2, S) of UNIT MERGED_SCALE
    counts: Wide  # (2, S)


class _Merged(NamedTuple):
    """The contexts of k symbols in one table that both make."""

    parents: Whole  # (contexts,)
    symbols: Whole  # (contexts,)
    masses: Whole  # (contexts,) of UNIT MERGED_SCALE
    pairs: Whole  # (S,)
    nodes: Whole  # (S,)
    following: Whole  # (S,)
    values: Whole  # (S,) of MERGED_SCALE

    @property
    def totals(self) -> Whole:
        """(contexts,) of UNIT MERGED_SCALE."""
        return self.masses + _sums(self.nodes, self.values * UNIT, len(self.masses))


class Both:
    """What a model's counts and those of a text say."""

    def __init__(self, model: EarlierCounts, text: Counts) -> None:
        self._V, self._labels = text.vocab_size, text.labels
        self._n = max(model.counts.order, text.order)
        self._sizes = Sizes(self._V, self._V + 1 + sum(self._labels))
        unchanged = np.arange(self._sizes.symbols)
        symbols = np.where(model.symbols < len(unchanged), model.symbols, -1)  # counts may know no labels
        tables = [list(_parts(model.counts, symbols)), list(_parts(text, unchanged))]
        self._levels = list(_together(tables, self._sizes, self._n + bool(self._labels)))

    # --- how much the model is worth ------------------------------------------------------------

    def best_halvings(self, documents: Documents) -> int | None:
        """How often the model's weight is halved, by the loss of documents that neither table has seen.

        None: the text's own counts predict them as well.
        """
        seen = self._seen(documents)
        losses = [_loss(seen, 0.5**halvings, self._V) for halvings in range(HALVINGS + 1)]
        best = int(np.argmin(losses))
        return best if losses[best] < _loss(seen, 0.0, self._V) - MARGIN else None

    def _seen(self, documents: Documents) -> Seen:
        """What is known of each character of documents (N,) after its contexts of 0, 1, .. symbols."""
        positions = np.arange(len(documents))
        x, y, reset = documents.look_up(positions)
        since = positions - np.maximum.accumulate(np.where(reset, positions, 0))
        nodes, known, seen = np.zeros(len(x), np.int64), np.ones(len(x), np.bool_), []
        for k, level in enumerate(self._levels[: self._n]):
            if not len(level.pairs):
                break
            if k:
                past = x[np.maximum(positions - (k - 1), 0)].astype(np.int64)
                found = _find(level.keys, nodes * self._sizes.symbols + past)
                known = known & (since >= k - 1) & (found >= 0)
                nodes = np.where(known, found, 0)
            places, of = _find(level.pairs, nodes * self._V + y), level.pairs // self._V
            own = np.where(known & (places >= 0), level.own[:, places], 0)
            mass = np.where(known, level.masses[:, nodes], 0)
            sums = np.stack([_sums(of, row, len(level.keys)) for row in level.own])
            seen.append((own, mass, mass + np.where(known, sums[:, nodes], 0)))
        return seen

    # --- one table of both ----------------------------------------------------------------------

    def merged(self, halvings: int, most_bytes: int) -> Counts:
        """The counts of both, the model's halved so often; those that gain least are left out."""
        levels = [self._weighed(level, halvings) for level in self._levels]
        gains = self._gains(levels, 0.5**halvings)
        best = _best(levels, gains)
        total = contexts.no_bytes()
        total[-1] = fixed_bytes(self._n * (2 if self._labels else 1))
        for own, of_contexts in zip(gains, best, strict=True):
            contexts.add_bytes(own, self._sizes.character, total)
            contexts.add_bytes(of_contexts, self._sizes.context, total)
        fits = total.sum() <= most_bytes
        return self._written(
            levels, gains, best, np.float32(0) if fits else contexts.least_gain(total, most_bytes)
        )

    def _weighed(self, level: _Level, halvings: int) -> _Merged:
        own, masses = ((of[0] >> halvings) + of[1] for of in (level.own, level.masses))
        nodes, values = level.pairs // self._V, (own + UNIT // 2) // UNIT
        masses += _sums(nodes, np.where(values == 0, own, 0), len(masses))
        parents, symbols = np.divmod(level.keys, self._sizes.symbols)
        return _Merged(
            parents, symbols, np.maximum(masses, 1), level.pairs, nodes, level.pairs % self._V, values
        )

    def _gains(self, levels: list[_Merged], weight: float) -> list[Gains]:
        """What it gains to keep a character after a context, as in learning; -1: there is nothing to keep."""
        gains: list[Gains] = []
        chances: list[Wide] = []
        shares = [level.masses / level.totals for level in levels]

        def chance(k: int, nodes: Whole, ids: Whole) -> Wide:
            """The probabilities of ids after contexts of k symbols."""
            if k < 0:
                return np.full(len(nodes), 1 / self._V)
            places = _find(levels[k].pairs, nodes * self._V + ids)
            p, lacks = chances[k][places], places < 0
            some = nodes[lacks]
            p[lacks] = shares[k][some] * chance(k - 1, levels[k].parents[some], ids[lacks])
            return p

        times, behind = self._occurrences(levels), np.zeros(1, np.bool_)
        for k, level in enumerate(levels):
            if k:
                behind = level.symbols > self._V if k == 1 else behind[level.parents]
            own, mass = level.values * UNIT, level.masses[level.nodes]
            before = chance(k - 1, level.parents[level.nodes], level.following)
            chances.append((own + mass * before) / level.totals[level.nodes])
            gain = np.log((own + mass * before) / ((own + mass) * before)) * (
                weight * times[k][0] + times[k][1]
            )
            gain = np.where(behind[level.nodes], LABEL_SHARE * gain, gain)
            # Not -0, whose bits are those of a negative number.
            gains.append(np.where(level.values > 0, np.maximum(gain, 0) + 0.0, -1).astype(np.float32))
        gains[0][gains[0] >= 0] = np.inf
        return gains

    def _occurrences(self, levels: list[_Merged]) -> list[Wide]:
        """How often characters followed contexts in either text (2, S), by levels, as far as counts tell.

        A count of Kneser and Ney is that of the symbols that precede: each did so once at least.
        """
        times = [level.counts.copy() for level in self._levels]
        for k in range(len(levels) - 1, 1, -1):
            level = levels[k]
            places = _find(levels[k - 1].pairs, level.parents[level.nodes] * self._V + level.following)
            known = places >= 0
            for own, shorter in zip(times[k], times[k - 1], strict=True):
                shorter += np.bincount(places[known], np.maximum(own[known] - 1, 0), len(shorter))
        return times

    def _written(
        self, levels: list[_Merged], gains: list[Gains], best: list[Gains], least: np.float32
    ) -> Counts:
        """The arrays of what gains as much."""
        found: list[list[Array]] = [[] for _ in range(6)]
        for k, level in enumerate(levels):
            kept, stays = best[k] >= least, gains[k] >= least
            masses = level.masses + _sums(level.nodes, np.where(stays, 0, level.values * UNIT), len(kept))
            most = masses.copy()  # of the largest contexts, files hold proportions alone
            np.maximum.at(most, level.nodes[stays], level.values[stays])
            shift = np.maximum(np.frexp(most / MOST_VALUE)[1], 0)
            longer = (
                levels[k + 1].parents[best[k + 1] >= least] if k + 1 < len(levels) else np.zeros(0, np.int64)
            )
            own = (
                level.symbols, np.bincount(longer, minlength=len(kept)),
                np.bincount(level.nodes[stays], minlength=len(kept)), np.maximum(masses >> shift, 1),
            )  # fmt: skip
            values = np.maximum(level.values >> shift[level.nodes], 1)
            rows = [*(array[kept] for array in own), level.following[stays], values[stays]]
            for arrays, array in zip(found, rows, strict=True):
                arrays.append(array)
        longest = len(found[0][-1])
        symbols, children, successors, masses, following, values = map(np.concatenate, found)
        occurring = np.unique(values)
        count_values, codes = contexts.coded(occurring, exact=False)
        mass_values, mass_codes = contexts.coded(masses, exact=False)
        none = np.zeros((self._n, 3), np.uint16)
        numbers = id_dtype(self._sizes.symbols + 1)
        return Counts(
            discounts=none,
            symbols=symbols.astype(id_dtype(self._sizes.symbols)),
            children=children[: len(children) - longest].astype(numbers),
            successors=successors.astype(numbers),
            masses=mass_codes,
            following=following.astype(id_dtype(self._V)),
            codes=codes[np.searchsorted(occurring, values)],
            count_values=count_values,
            mass_values=mass_values,
            vocab_size=self._V,
            labels=self._labels,
            label_discounts=none if self._labels else None,
        )


def _parts(counts: Counts, called: Whole) -> Iterator[_Part]:
    """The contexts of 0, 1, .. symbols, which are `called` so in the text's counts."""
    tree, n = Tree.of(counts), counts.order
    scale = 1 if counts.is_merged else MERGED_SCALE
    parents, begin, end, behind = np.zeros(1, np.int64), 0, 1, 1
    for k in range(n + bool(counts.labels)):
        plain = np.arange(begin, end) < behind
        nodes = np.repeat(np.arange(end - begin), np.diff(tree.begin[begin : end + 1]))
        some = slice(tree.begin[begin], tree.begin[end])
        codes = tree.codes[some]
        yield _Part(
            parents,
            called[tree.symbols[begin:end].astype(np.int64)],
            tree.mass_values[tree.masses[begin:end]] * scale,
            nodes,
            called[tree.following[some].astype(np.int64)],
            tree.own[np.where(plain, k, n + k - 1)[nodes], codes] * scale,
            counts.count_values[codes] * (scale / MERGED_SCALE),
        )
        parents = np.repeat(np.arange(end - begin), np.diff(tree.child[begin : end + 1]))
        behind = int(tree.child[behind]) if k else 1 + counts.plain_children
        begin, end = end, int(tree.child[end])


def _together(tables: list[list[_Part]], sizes: Sizes, levels: int) -> Iterator[_Level]:
    """The contexts of both tables, of 0, 1, .. symbols."""
    before = [np.zeros(1, np.int64)] * 2  # the places of the shorter contexts; -1: left out
    for k in range(levels):
        parts = [table[k] if k < len(table) else _NOTHING for table in tables]
        keys, nodes = _united(
            before, [part.parents for part in parts], [part.symbols for part in parts], sizes.symbols
        )
        if k == 0:
            keys, nodes = np.zeros(1, np.int64), before
        pairs, places = _united(
            nodes, [part.nodes for part in parts], [part.following for part in parts], sizes.characters
        )
        yield _Level(
            keys,
            pairs,
            _spread(nodes, [part.masses for part in parts], len(keys)),
            _spread(places, [part.own for part in parts], len(pairs)),
            _spread(places, [part.counts for part in parts], len(pairs)),
        )
        before = nodes


def _united(
    before: list[Whole], numbers: list[Whole], symbols: list[Whole], size: int
) -> tuple[Whole, list[Whole]]:
    """The keys of either table, and the place of each table's; -1: it is left out."""
    keys = []
    for places, own, symbol in zip(before, numbers, symbols, strict=True):
        keys.append(np.where((places[own] >= 0) & (symbol >= 0), places[own] * size + symbol, -1))
    united = np.sort(
        np.concatenate(keys), kind="stable"
    )  # of two runs that ascend, which are merged in one go
    united = united[(united >= 0) & np.append(True, united[1:] != united[:-1])[: len(united)]]
    return united, [_find(united, own) for own in keys]


def _spread(places: list[Whole], values: list[Array], size: int) -> Array:
    """The values of both tables at their places, (2, size)."""
    found = np.zeros((2, size), values[0].dtype)
    for row, own, value in zip(found, places, values, strict=True):
        row[own[own >= 0]] = value[own >= 0]
    return found


def _best(levels: list[_Merged], gains: list[Gains]) -> list[Gains]:
    """What contexts gain: as much as the best of what follows them, and of the longer ones."""
    best: list[Gains] = []
    for k in range(len(levels) - 1, -1, -1):
        own = np.full(len(levels[k].masses), -1, np.float32)
        np.maximum.at(own, levels[k].nodes, gains[k])
        if best:
            np.maximum.at(own, levels[k + 1].parents, best[0])
        best.insert(0, own)
    return best


def _loss(seen: Seen, weight: float, V: int) -> float:
    """In nats a character, with such a weight of the model."""
    p: Any = 1 / V
    for own, mass, total in seen:
        has = weight * total[0] + total[1]
        told = weight * own[0] + own[1] + (weight * mass[0] + mass[1]) * p
        p = np.where(has > 0, told / np.maximum(has, 1e-9), p)
    return -float(np.log(p).mean())


def _find(keys: Whole, wanted: Whole) -> Whole:
    """Their places among ascending keys; -1: it is none."""
    if not len(keys):
        return np.full(len(wanted), -1)
    places = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[places] == wanted, places, -1)


def _sums(nodes: Whole, values: Whole, size: int) -> Whole:
    """The sum of the values of each node, exactly: no total has more than 52 bits."""
    return np.bincount(nodes, values, size).astype(np.int64)


_NONE = np.zeros(0, np.int64)
_NOTHING = _Part(_NONE, _NONE, _NONE, _NONE, _NONE, _NONE, np.zeros(0))
