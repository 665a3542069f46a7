"""Sequential Monte Carlo: a text drawn from the model's distribution, conditioned on the constraints.

Writing character by character under a mask draws from another distribution: q(x) is p(x) divided by the
product of the probability mass that the mask leaves at each step, so texts on whose way much was masked are
too frequent. Here many texts, the particles, are written under the mask, weighted by that product, and
resampled when the weights grow uneven (Gordon, Salmond and Smith 1993; for language models Lew et al. 2023).
Finally one of them is drawn by weight. The error of its distribution is of the order of 1 / PARTICLES.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from charrnn.inference.constrained_step import STUCK
from charrnn.inference.engines import CompiledPath, Cursor, Ids, PlainPath

PARTICLES = 256

Weights = npt.NDArray[np.float64]


def draw(
    path: PlainPath | CompiledPath, start: Cursor, length: int, end: int, random: np.random.Generator
) -> Ids | None:
    """A text of at most `length` characters after `start`; None: all particles got stuck.

    The path's rules constrain the text; `end` is the character that ends it, or -1. Whether particles get
    stuck is a matter of chance: another call may succeed.
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
    return np.array(texts[n], np.int64)


def _weights(cursors: Sequence[Cursor]) -> Weights | None:
    """Normalised weights, (PARTICLES,); None if all are zero."""
    logs = np.array([-np.inf if c.track.stopped == STUCK else c.track.mass for c in cursors])
    greatest = logs.max()
    if greatest == -np.inf:
        return None
    weights: Weights = np.exp(logs - greatest)
    weights /= weights.sum()
    return weights


def _systematic(weights: Weights, u: float) -> list[int]:
    """The particle that each new one copies: systematic resampling with the offset u in [0, 1)."""
    places = (np.arange(len(weights)) + u) / len(weights)
    chosen: list[int] = np.searchsorted(np.cumsum(weights)[:-1], places, side="right").tolist()
    return chosen
