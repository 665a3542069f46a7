"""Models whose columns are read by several ranks, each of which holds the same model; see charrnn.ranks.

What a column is read to does not depend on the others, so the results are those of one process.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from charrnn.config import ModelConfig
from charrnn.nn.learning.compilation import model_of
from charrnn.nn.network import Model, State
from charrnn.nn.parameters import Array
from charrnn.nn.reader import Batch, Reader
from charrnn.nn.workers import Workers
from charrnn.ranks.ranks import Ranks, share


class Held(NamedTuple):
    """What another rank holds."""

    model: Model | Reader


def hold(
    ranks: Ranks, held: Any, config: ModelConfig, flat: Array, threads: int | None, rounds: bool
) -> Held:
    """On another rank: a model to read with."""
    model = model_of(config, workers=Workers(threads, ranks), reads_bfloat16=rounds)
    model.parameters.flat[:] = flat
    return Held(model)


def shared(model: Any, ranks: Ranks) -> Any:
    """The same model, Model or Reader, read by all of these ranks."""
    if ranks.size == 1:
        return model
    model.workers.ranks = ranks
    part = model.config, model.parameters.flat, model.workers.wanted, model.reads_bfloat16
    with ranks.asking(hold, [part] * ranks.size):
        pass
    return reading_together(model)


def reading_together(model: Any) -> Any:
    """The model, of which all ranks hold the same already."""
    kind = SharedModel if isinstance(model, Model) else SharedReader
    found = kind(model.config, workers=model.workers, reads_bfloat16=model.reads_bfloat16)
    found.parameters = model.parameters
    found.windows_kept = model.windows_kept
    return found


def read(ranks: Ranks, held: Any, pass_over: Callable[..., Any], *part: Any) -> Any:
    """On another rank: the pass over its columns."""
    ranks.gather(pass_over(held.model, *part) if part else None)
    return held


def _together(
    model: Any, B: int, pass_over: Callable[..., Any], part_of: Callable[[int, int], tuple[Any, ...]]
) -> list[Any]:
    """What each rank has found out about its columns, in their order."""
    ranks = model.workers.ranks
    parts = [part_of(*share(B, rank, ranks.size)) for rank in range(ranks.size)]
    with ranks.asking(read, [(pass_over, *part) for part in parts]):
        found: list[Any] = ranks.gather(pass_over(model, *parts[0]))
    return found


def _losses(model: Model, x: Array, y: Array, state: State, reset: Any, labels: Any, doubted: bool) -> Any:
    doubts = np.empty((x.size, 2), np.float32) if doubted else None
    nats, after = Model.losses(model, x, y, state, reset, labels, doubts)
    return nats, after, None if doubts is None else doubts.reshape(*x.shape, 2)


class SharedModel(Model):
    """A model of which several ranks read the columns of `losses`."""

    def losses(
        self,
        x: Array,
        y: Array,
        state: State | None = None,
        reset: Array | None = None,
        labels: Array | None = None,
        doubts: Array | None = None,
    ) -> tuple[Array, State]:
        B = x.shape[1]
        if self.workers.ranks.size > B:
            return super().losses(x, y, state, reset, labels, doubts)
        begun = state or self.zero_state(B)

        def part_of(b0: int, b1: int) -> tuple[Any, ...]:
            of_window = (None if one is None else one[:, b0:b1] for one in (reset, labels))
            return x[:, b0:b1], y[:, b0:b1], begun.columns(b0, b1), *of_window, doubts is not None

        found = _together(self, B, _losses, part_of)
        if doubts is not None:
            doubts[:] = np.concatenate([part for *_, part in found], axis=1).reshape(-1, 2)
        nats = np.concatenate([part for part, *_ in found], axis=1)
        return nats, State.joined([after for _, after, _ in found])


class SharedReader(Reader):
    """The same of one that reads whole texts."""

    def losses(self, batch: Batch) -> Array:
        B = batch.x.shape[1]
        if self.workers.ranks.size > B:
            return super().losses(batch)
        found = _together(self, B, Reader.losses, lambda b0, b1: (self.columns_of(batch, b0, b1),))
        return np.concatenate(found, axis=batch.weights.ndim - 1)

    def forward(self, x: Array, lengths: Array, previous: Array | None = None) -> Array:
        B = x.shape[1]
        if previous is not None or self.workers.ranks.size > B:
            return super().forward(x, lengths, previous)
        found = _together(self, B, Reader.forward, lambda b0, b1: (x[:, b0:b1], lengths[b0:b1]))
        return np.concatenate(found, axis=found[0].ndim - 2)

    def best(self, x: Array, lengths: Array) -> tuple[Array, Array]:
        B = x.shape[1]
        if self.workers.ranks.size > B:
            return super().best(x, lengths)
        found = _together(self, B, Reader.best, lambda b0, b1: (x[:, b0:b1], lengths[b0:b1]))
        return np.concatenate([own for own, _ in found], axis=1), np.concatenate([own for _, own in found])
