"""Sequential Monte Carlo: a text drawn from the model's own distribution, given what it may be.

A text that is written character by character, with what leads astray masked, has not the probability that it
has among all that fit: q(x) is p(x) divided by the product of what the mask left at each step, so that places
where much is masked count too often. Here many texts, the particles, are written so, weighed by that product,
and resampled where the weights grow uneven (Gordon, Salmond and Smith 1993; for language models Lew et al.
2023). One of them is drawn by weight in the end. Its distribution comes as near to p as there are particles:
the error is of the order of 1 / PARTICLES.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
import numpy.typing as npt

from charrnn.inference.constrained_step import ENDED, STUCK
from charrnn.inference.engines import Cursor, Ids, Uniforms

PARTICLES = 256

Weights = npt.NDArray[np.float64]


class Path(Protocol):
    """What writes: engines.PlainPath or engines.CompiledPath."""

    def write(
        self,
        cursors: Sequence[Cursor],
        uniforms: Sequence[Uniforms],
        end: int,
        *,
        weighing: bool = False,
    ) -> list[Ids]: ...


def draw(
    path: Path, start: Cursor, length: int, end: int, random: np.random.Generator
) -> tuple[Ids, bool] | None:
    """A text of at most `length` characters after `start`, and whether it ended before a further one.

    The path's rules say what it may be; `end` is the character that ends it, or -1. None: all particles
    came to nothing, which is chance, and may be tried again.
    """
    cursors = [replace(start) for _ in range(PARTICLES)]
    texts: list[tuple[int, ...]] = [() for _ in range(PARTICLES)]
    running = np.ones(PARTICLES, np.bool_)
    for _ in range(length):
        numbers = random.random(PARTICLES)
        active = np.flatnonzero(running).tolist()
        written = path.write(
            [cursors[n] for n in active], [numbers[n : n + 1] for n in active], end, weighing=True
        )
        for n, ids in zip(active, written, strict=True):
            texts[n] += tuple(ids.tolist())
            running[n] = not cursors[n].track.stopped and cursors[n].last != end
        weights = _weights(cursors)
        if weights is None:
            return None
        if not running.any():
            break
        if 1.0 / np.sum(weights**2) < PARTICLES / 2:
            chosen = _systematic(weights, float(random.random()))
            cursors = [replace(cursors[n], track=replace(cursors[n].track, mass=0.0)) for n in chosen]
            texts = [texts[n] for n in chosen]
            running = running[chosen]
    weights = _weights(cursors)
    if weights is None:
        return None
    n = int(random.choice(PARTICLES, p=weights))
    return np.array(texts[n], np.int64), cursors[n].track.stopped == ENDED


def _weights(cursors: Sequence[Cursor]) -> Weights | None:
    """The share of each particle; None: none has any."""
    logs = np.array([-np.inf if c.track.stopped == STUCK else c.track.mass for c in cursors])
    greatest = logs.max()
    if greatest == -np.inf:
        return None
    weights: Weights = np.exp(logs - greatest)
    weights /= weights.sum()
    return weights


def _systematic(weights: Weights, u: float) -> list[int]:
    """Which particle each new one copies: as many of each as its weight says, up to one."""
    places = (np.arange(len(weights)) + u) / len(weights)
    chosen: list[int] = np.searchsorted(np.cumsum(weights)[:-1], places, side="right").tolist()
    return chosen
