"""Probabilities that mean what they say: fitted on texts that a network did not learn from.

Guo et al. 2017 divide the logits by a temperature. Where rare classes counted more in training, frequent ones
are also underrated by a power of their frequency, which the same fit finds. Where counted grams stand beside
the network, it also finds how much they count; where they are sure enough to be asked alone, `surest` does.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from charrnn.nn.parameters import Array
from charrnn.nn.reader import log_softmax

# Of what is fitted, (1 / temperature, power, weight of grams), as if so many texts had said 1, 0 and 0.
BELIEF, START = np.array([4.0, 4.0, 4.0]), np.array([1.0, 0.0, 0.0])
MOST_STEPS, CLOSE = 50, 1e-10
# Grams are asked alone of FEWEST held-out texts at least, of which as many are right so, and where that adds
# at most the share WORSE to the loss of all. Below LEAST they never are: other texts may mislead them more.
FEWEST, WORSE, LEAST = 100, 0.01, 0.9


class Calibration(NamedTuple):
    """What makes logits those of calibrated probabilities: scale * logits + shift + grams * told."""

    scale: float = 1.0
    shift: Array | float = 0.0  # (N,)
    grams: float = 0.0  # of what grams tell

    def apply(self, logits: Array) -> Array:
        """The logits (.., N) of calibrated probabilities, to which what grams tell is still to be added."""
        found: Array = self.scale * logits + self.shift
        return found


def fit(logits: Array, targets: Array, frequencies: Array, told: Array | None = None) -> Calibration:
    """The calibration with the least loss: of logits (R, N), given how often each text has each class (R, N).

    `frequencies` (N,) are those of the classes in training, above 0. `told` (R, N) is what grams tell, if
    they stand beside a network.
    """
    logs = np.log(frequencies / frequencies.sum())
    weighed = [logits, np.broadcast_to(logs, logits.shape), *([] if told is None else [told])]
    parts = np.stack(weighed)  # (2 or 3, R, N)
    belief, start = BELIEF[: len(parts)], START[: len(parts)]
    at = start
    loss = _loss(parts, targets, at, start)
    for _ in range(MOST_STEPS):  # Newton's, in a convex function of as many numbers
        p = np.exp(log_softmax(np.tensordot(at, parts, 1)))
        mass = targets.sum(axis=1, keepdims=True)
        gradient = (parts * (mass * p - targets)).sum(axis=(1, 2)) + belief * (at - start)
        means = (parts * p).sum(axis=2)
        second = np.einsum("irn,jrn,rn->ij", parts, parts, mass * p)
        second += np.diag(belief) - (means * mass[:, 0]) @ means.T
        step = np.linalg.solve(second, gradient)
        size = 1.0
        while (now := _loss(parts, targets, at - size * step, start)) > loss and size > CLOSE:
            size /= 2
        if loss - now < CLOSE * max(1.0, abs(loss)):
            break
        at, loss = at - size * step, now
    if told is not None and at[2] < 0:  # by chance
        return fit(logits, targets, frequencies)
    scale = max(float(at[0]), 1e-3)
    return Calibration(scale, float(at[1]) * logs, 0.0 if told is None else float(at[2]))


def surest(sure: Array, alone: tuple[Array, Array], mixed: tuple[Array, Array]) -> float:
    """The least probability of grams alone by which the network need not be asked; infinite: there is none.

    `sure` (R,) are those of held-out texts. Both answers to these are told by how many are right of each text
    (R,), and its loss (R,).
    """
    order = np.argsort(-sure, kind="stable")
    more_right, more_loss = (np.cumsum((a - b)[order]) for a, b in zip(alone, mixed, strict=True))
    good = (more_right >= 0) & (more_loss <= WORSE * mixed[1].sum()) & (sure[order] >= LEAST)
    good[: FEWEST - 1] = False
    good[:-1] &= sure[order][:-1] > sure[order][1:]  # all of equal ones, or none
    last = np.flatnonzero(good)
    return float(sure[order[last[-1]]]) if len(last) else np.inf


def _loss(parts: Array, targets: Array, at: Array, start: Array) -> float:
    loss = -float((targets * log_softmax(np.tensordot(at, parts, 1))).sum())
    return loss + 0.5 * float((BELIEF[: len(at)] * (at - start) ** 2).sum())
