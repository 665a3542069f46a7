"""How selective units are, and how well each tells a feature of a text.

Selectivity is the lifetime sparseness of Treves and Rolls (1991), as Vinje and Gallant (2000) normed it, of
how far a unit is from where it rests, its median:

    r = |value - median|,    S = (1 - mean(r)^2 / mean(r^2)) / (1 - 1/n)

over n characters. 0: it is as far from there everywhere; near 1: it rests, but for a few characters.

A feature is told by the area under the ROC curve (Mann and Whitney 1947): how often a value inside is above
one outside, of all pairs; ties count half. 0.5: it tells nothing; below, the unit goes down inside.

Values are counted in BINS of equal width, so that memory depends on the units alone.

Axes: U units, of all layers, K bins, H units of a layer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from charrnn.errors import CorpusError, SearchError, quoted
from charrnn.neurons.activations import Block, Network, Reading, blocks, windows
from charrnn.neurons.features import Feature
from charrnn.neurons.units import Unit, is_bounded
from charrnn.nn.network import Model
from charrnn.nn.parameters import Array

BINS = 1024
SHOWN = 24  # characters before and at the place where a unit is furthest from rest


class RankedUnit(NamedTuple):
    """A unit, and what is known of it."""

    unit: Unit
    selectivity: float
    rest: float  # the median of its values
    peak: float  # its value that is furthest from there
    after: str  # the text up to that character
    auc: float | None = None  # of the feature
    inside: float | None = None  # its mean value where the feature is, and where it is not
    outside: float | None = None


class Ranking(NamedTuple):
    """The units, the first of which are the most selective, or tell the feature best."""

    units: list[RankedUnit]
    characters: int  # that were read
    feature: str  # in a few words; "": none
    share: float  # of the characters that have it
    is_all: bool = True  # of the text was read


class _Tally:
    """What has been seen of all units."""

    def __init__(self, network: Network) -> None:
        self.network, self.L, self.H = network, network.checkpoint.config.num_layers, network.H
        self.U = self.L * self.H
        self.counts = np.zeros((2, self.U, BINS), np.int64)  # outside and inside
        self.low, self.high = np.full(self.U, np.inf), np.full(self.U, -np.inf)
        self.texts = [[""] * self.U, [""] * self.U]  # before the lowest and the highest value

    def add(self, block: Block, places: Array, layers: list[Array], inside: Array) -> None:
        for k, values in enumerate(layers):
            own = slice(k * self.H, (k + 1) * self.H)
            bins = np.clip((_squeezed(self.network, values) + 1) * (BINS / 2), 0, BINS - 1).astype(np.int64)
            flat = bins + (inside[:, None] * self.H + np.arange(self.H)) * BINS
            counted = np.bincount(flat.reshape(-1), minlength=2 * self.H * BINS)
            self.counts[:, own] += counted.reshape(2, self.H, BINS)
            if len(places):
                self._extremes(block, places, values, k * self.H)

    def _extremes(self, block: Block, places: Array, values: Array, first: int) -> None:
        for side, found, better in ((0, values.argmin(0), np.less), (1, values.argmax(0), np.greater)):
            record = (self.low, self.high)[side]
            reached = values[found, np.arange(self.H)]
            for unit in np.flatnonzero(better(reached, record[first : first + self.H])).tolist():
                record[first + unit] = reached[unit]
                self.texts[side][first + unit] = _text(self.network, block, int(places[found[unit]]))

    def units(self, *, featured: bool) -> list[RankedUnit]:
        """All units, layer by layer."""
        n = int(self.counts[:, 0].sum())
        centres = self.network.shown(_stretched(self.network, (np.arange(BINS) + 0.5) * (2 / BINS) - 1))
        both = self.counts.sum(0)
        rest = centres[np.argmax(np.cumsum(both, 1) * 2 >= n, axis=1)]
        selectivity = np.array(
            [_sparseness(np.abs(centres - m), c, n) for m, c in zip(rest, both, strict=True)]
        )
        shown = self.network.shown
        low, high = shown(self.low.astype(np.float32)), shown(self.high.astype(np.float32))
        tops = np.where(high - rest >= rest - low, 1, 0)
        aucs = _areas(self.counts) if featured else None
        means = (self.counts @ centres) / np.maximum(self.counts.sum(2), 1)
        found = []
        for u in range(self.U):
            peak, after = (low, high)[tops[u]][u], self.texts[tops[u]][u]
            told: dict[str, Any] = {}
            if aucs is not None:
                told = {"auc": float(aucs[u]), "inside": float(means[1, u]), "outside": float(means[0, u])}
            unit = Unit(u // self.H + 1, u % self.H)
            found.append(RankedUnit(unit, float(selectivity[u]), float(rest[u]), float(peak), after, **told))
        return found


def _squeezed(network: Network, values: Array) -> Array:
    """The values between -1 and 1, in order; those without bounds so that large ones are told apart."""
    return values if is_bounded(network.cell) else values / (1 + np.abs(values))


def _stretched(network: Network, values: Array) -> Array:
    """The inverse of `_squeezed`."""
    return values if is_bounded(network.cell) else values / (1 - np.abs(values))


def _text(network: Network, block: Block, place: int) -> str:
    before = np.concatenate([block.before, block.ids[: place + 1]])[-SHOWN:]
    begun = np.flatnonzero(before == network.start)
    return network.checkpoint.vocabulary.decode(before[begun[-1] + 1 :] if len(begun) else before)


def _sparseness(r: Array, counts: Array, n: int) -> float:
    squares = float(counts @ np.square(r)) / n
    if n < 2 or squares == 0:
        return 0.0
    return (1 - (float(counts @ r) / n) ** 2 / squares) / (1 - 1 / n)


def _areas(counts: Array) -> Array:
    """The area under the ROC curve of each unit, (U,)."""
    outside, inside = counts.astype(np.float64)
    below = np.cumsum(outside, axis=1) - outside / 2
    areas: Array = (inside * below).sum(1) / (inside.sum(1) * outside.sum(1))
    return areas


def rank(network: Network, texts: Reading, feature: Feature | None, report: Callable[[int], None]) -> Ranking:
    """Rank all units; `report` is called with the characters that were read, several times a second.

    Raises:
        CorpusError: there is no text.
        SearchError: no character has the feature, or each of them has it.
    """
    model = network.model(predicts=False)
    assert isinstance(model, Model)
    tally, done, having = _Tally(network), 0, 0
    for block in blocks(network, texts, feature.ahead if feature else 0):
        inside = np.zeros(block.N, np.bool_) if feature is None else feature.inside(block)
        for places, layers in windows(network, model, block):
            tally.add(block, places, layers, inside[places].astype(np.int64))
            done += len(places)
            having += int(np.count_nonzero(inside[places]))
            report(done)
    if not done:
        raise CorpusError("there is no text in what was given", "give one")
    if feature is None:
        units = sorted(tally.units(featured=False), key=lambda found: (found.unit.layer, -found.selectivity))
        return Ranking(units, done, "", 0.0)
    if having in (0, done):
        which = "no character has" if having == 0 else "each character has"
        raise SearchError(
            f"of {done:,} characters, {which} what is looked for: {quoted(feature.about)}",
            "look for something else, or give more of the text",
        )
    units = tally.units(featured=True)
    units.sort(key=lambda found: -abs((found.auc or 0.0) - 0.5))
    return Ranking(units, done, feature.about, having / done)
