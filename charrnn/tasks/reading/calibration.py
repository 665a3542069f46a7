"""Probabilities that mean what they say: fitted on texts that a network did not learn from.

Guo et al. 2017 divide the logits by a temperature. Where rare classes counted more in training, frequent ones
are also underrated by a power of their frequency, which the same fit finds.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from charrnn.nn.parameters import Array
from charrnn.nn.reader import log_softmax

# Of what is fitted, (1 / temperature, power), as if so many texts had said that they are 1 and 0.
BELIEF = np.array([4.0, 4.0])
MOST_STEPS, CLOSE = 50, 1e-10


class Calibration(NamedTuple):
    """What makes logits those of calibrated probabilities: scale * logits + shift."""

    scale: float = 1.0
    shift: Array | float = 0.0  # (N,)

    def apply(self, logits: Array) -> Array:
        """The logits (.., N) of calibrated probabilities."""
        found: Array = self.scale * logits + self.shift
        return found


def fit(logits: Array, targets: Array, frequencies: Array) -> Calibration:
    """The calibration with the least loss: of logits (R, N), given how often each text has each class (R, N).

    `frequencies` (N,) are those of the classes in training, above 0.
    """
    logs = np.log(frequencies / frequencies.sum())
    parts = np.stack([logits, np.broadcast_to(logs, logits.shape)])  # (2, R, N), what is weighed
    at, start = np.array([1.0, 0.0]), np.array([1.0, 0.0])
    loss = _loss(parts, targets, at, start)
    for _ in range(MOST_STEPS):  # Newton's, in a convex function of two numbers
        p = np.exp(log_softmax(np.tensordot(at, parts, 1)))
        mass = targets.sum(axis=1, keepdims=True)
        gradient = (parts * (mass * p - targets)).sum(axis=(1, 2)) + BELIEF * (at - start)
        means = (parts * p).sum(axis=2)
        second = np.einsum("irn,jrn,rn->ij", parts, parts, mass * p)
        second += np.diag(BELIEF) - (means * mass[:, 0]) @ means.T
        step = np.linalg.solve(second, gradient)
        size = 1.0
        while (now := _loss(parts, targets, at - size * step, start)) > loss and size > CLOSE:
            size /= 2
        if loss - now < CLOSE * max(1.0, abs(loss)):
            break
        at, loss = at - size * step, now
    scale = max(float(at[0]), 1e-3)
    return Calibration(scale, float(at[1]) * logs)


def _loss(parts: Array, targets: Array, at: Array, start: Array) -> float:
    loss = -float((targets * log_softmax(np.tensordot(at, parts, 1))).sum())
    return loss + 0.5 * float((BELIEF * (at - start) ** 2).sum())
