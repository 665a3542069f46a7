"""How a network uses its past: gradients by lag, gates, units that never move, and the norms of its steps.

Axes: T steps, B characters side by side, S numbers of a part of the state.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, replace
from typing import Any

import numpy as np

from charrnn.checkpoint.model_file import Checkpoint
from charrnn.config import TrainConfig
from charrnn.diagnosis import advice
from charrnn.diagnosis.findings import Clipping, Diagnosis, Layer
from charrnn.errors import CheckpointError, ConfigError, CorpusError
from charrnn.nn.network import Model, Seen
from charrnn.nn.parameters import Array
from charrnn.nn.passes import mix
from charrnn.nn.workers import Workers
from charrnn.text.batches import Batches
from charrnn.text.documents import Documents

PLACES = 64  # characters whose losses are followed back
TOGETHER = 16  # of them at a time: no more memory than training takes
BEFORE = 256  # characters that are read before a window, as far as their text goes back
LEAST_PLACES = 8  # of a lag: a mean of fewer says little
STEPS = 8  # of training, whose norms are taken
MOST_LAGS = 4096
# By activation, where the lower and the upper end of a gate begin. What equations activate counts as a tanh.
ENDS = {"sigmoid": (0.05, 0.95), "relu": (0.0, math.inf), "tanh": (-0.95, 0.95)}
STILL = 0.01  # the range of a unit that never moves

Report = Callable[[str, float], None]


def diagnose(
    checkpoint: Checkpoint, documents: Documents, lags: int | None, threads: int | None, report: Report
) -> Diagnosis:
    """Look at a network that reads a text. Counts beside it have no gradient, and no part in this.

    Without `lags`, gradients are followed twice as far back as in training. Results do not depend on threads.

    Raises:
        ConfigError: the number of lags is out of range.
        CorpusError: no text goes back so far that there is a lag.
    """
    train = training(checkpoint.settings)
    if checkpoint.config.recurrence.is_made:
        raise CheckpointError(
            "the model is a reservoir, through which no gradient goes back", "give one whose layers learn"
        )
    if checkpoint.config.has_memory:
        raise CheckpointError("the model has a memory, whose heads `looks` follows", "ask that")
    lags = min(2 * train.seq_len, MOST_LAGS) if lags is None else lags
    if not 1 <= lags <= MOST_LAGS:
        raise ConfigError(f"lags is {lags}", f"give a whole number from 1 to {MOST_LAGS:,}")
    model = Model(checkpoint.config, workers=Workers(threads))
    model.load_tensors(checkpoint.tensors)
    sums = _Sums(model, lags)
    places = spread(len(documents))
    for n in range(0, len(places), TOGETHER):
        report("looking back", n / len(places))
        sums.add(*_look(model, documents, places[n : n + TOGETHER], lags))
    layers, known = sums.layers()
    if not known:
        raise CorpusError("there is no text in which a gradient could go back", "give a longer one")
    found = Diagnosis(
        layers, known, sums.characters, _clipping(model, documents, train, report), train.seq_len, ""
    )
    return replace(found, advice=advice.of_network(found, model.config, train))


def spread(N: int) -> Array:
    """At most PLACES of N characters: one of each of as many parts, at random, since lines may be regular."""
    parts = min(PLACES, N)
    edges = N * np.arange(parts + 1) // parts
    places: Array = np.random.default_rng(1).integers(edges[:-1], edges[1:])
    return places


def training(settings: Mapping[str, Any]) -> TrainConfig:
    """The settings of a model's training, or the defaults where its file does not have them."""
    names = {setting.name for setting in fields(TrainConfig)}
    try:
        return TrainConfig(**{name: value for name, value in settings.items() if name in names})
    except ConfigError:
        return TrainConfig(steps=1)


def _look(model: Model, documents: Documents, places: Array, lags: int) -> tuple[list[Seen], Array, Array]:
    """What is seen in windows that end with these places; where there is text; and whether it has begun.

    Both masks are (T, B). Text that a window has from before the first character counts as none.
    """
    before = places - lags - np.arange(BEFORE - 1, -1, -1)[:, None]
    inside = places - np.arange(lags - 1, -1, -1)[:, None]

    def read(positions: Array) -> tuple[Any, Any]:
        positions = np.maximum(positions, 0)  # the first character again and again, each time from its start
        return documents.look_up(positions), documents.labels_at(positions)

    (x, _, reset), labels = read(before)
    _, state = model.forward(x, None, reset, labels)
    (x, y, reset), labels = read(inside)
    return model.look_back(x, y, state, reset, labels), inside >= 0, reset


class _Sums:
    """Sums over places, and over characters."""

    def __init__(self, model: Model, lags: int) -> None:
        self.cell, H = model.config.recurrence, model.config.hidden_size
        self.H, self.lags, self.characters = H, lags, 0
        self.places = np.zeros(lags, np.int64)
        count = len(model.network.states)
        self.norms: list[dict[str, Array]] = [
            {part: np.zeros(lags) for part in self.cell.state} for _ in range(count)
        ]
        self.ends: list[dict[str, Array]] = [
            {gate: np.zeros(2) for gate in self.cell.gates} for _ in range(count)
        ]
        self.low, self.high = np.full((count, H), np.inf), np.full((count, H), -np.inf)

    def add(self, seen: list[Seen], there: Array, reset: Array) -> None:
        """Add what was seen at some places; see `_look`."""
        # A gradient goes back to the state before a step if no text has begun since, there or later.
        reached = ~np.logical_or.accumulate((reset | ~there)[::-1], axis=0)  # (lags, B): from lag 1 on
        self.places += reached.sum(axis=1)
        self.characters += int(there.sum())
        moving = there & ~reset
        for k, layer in enumerate(seen):
            for part, gradient in layer.gradients.items():
                norms = np.sqrt(np.sum(np.square(gradient[::-1], dtype=np.float64), axis=2))
                self.norms[k][part] += np.where(reached, norms, 0).sum(axis=1)
            for gate, values in layer.gates.items():
                low, high = ENDS[self.cell.gates[gate] or "tanh"]
                own = values[there]
                self.ends[k][gate] += np.count_nonzero(own <= low), np.count_nonzero(own >= high)
            if moving.any():
                h = layer.states["h"][moving]
                self.low[k] = np.minimum(self.low[k], h.min(axis=0))
                self.high[k] = np.maximum(self.high[k], h.max(axis=0))

    def layers(self) -> tuple[tuple[Layer, ...], list[int]]:
        """The means, for the lags that enough places have; and how many have each."""
        # The first ones: a place that has a lag has all below it.
        known = self.places[self.places >= max(1, min(LEAST_PLACES, self.places[0]))]
        values = max(1, self.characters * self.H)
        found = []
        for k, (norms, ends) in enumerate(zip(self.norms, self.ends, strict=True)):
            idle = np.flatnonzero(self.high[k] - self.low[k] < STILL)
            found.append(
                Layer(
                    self.H,
                    {part: (sums[: len(known)] / known).tolist() for part, sums in norms.items()},
                    {gate: (float(low) / values, float(high) / values) for gate, (low, high) in ends.items()},
                    tuple(idle.tolist()),
                )
            )
        return tuple(found), known.tolist()


def _clipping(model: Model, documents: Documents, train: TrainConfig, report: Report) -> Clipping:
    """The norms of the first steps that training would take with this text, from these weights on."""
    norms = np.array(list(_norms(model, documents, train, report)))
    finite = norms[np.isfinite(norms)]
    return Clipping(
        train.clip,
        len(norms),
        int(np.count_nonzero(~(norms <= train.clip))),
        float(np.median(finite)) if len(finite) else math.nan,
        float(finite.max()) if len(finite) else math.nan,
        len(norms) - len(finite),
    )


def _norms(model: Model, documents: Documents, train: TrainConfig, report: Report) -> Iterator[float]:
    batches = Batches(documents, train.batch_size, train.seq_len, train.seed)
    state, steps = None, min(STEPS, batches.windows_per_epoch)
    for k in range(steps):
        report("measuring steps", k / steps)
        labels = batches.labels(0, k, train.label_dropout)
        x, y, reset = batches.window(0, k)
        _, state = model.gradient(x, y, state, reset, mix(train.seed, k), labels=labels)
        yield float(np.sqrt(np.sum(np.square(model.gradients.flat, dtype=np.float64))))
