"""Softmax cross-entropy of each row of logits, in nats, and its gradient."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from charrnn.kernels.activations import exp
from charrnn.kernels.jit import njit
from charrnn.kernels.sums import total


@njit()
def _exponentials(row: Any, largest: Any, V: int) -> None:
    for j in range(V):
        row[j] = exp(row[j] - largest)


@njit()
def _largest(row: Any, V: int) -> Any:
    largest = row[0]
    for j in range(1, V):
        largest = row[j] if row[j] > largest else largest
    return largest


@njit()
def _scale(row: Any, factor: Any, V: int) -> None:
    for j in range(V):
        row[j] *= factor


@njit()
def cross_entropy(logits: Any, targets: Any, losses: Any, weight: float, V: int, b0: int, b1: int) -> None:
    """losses[t, b] = -log softmax(logits[t, b])[target]; logits become weight * d loss / d logits.

    Shapes: logits (T, B, padded V), targets and losses (T, B).
    """
    for t in range(logits.shape[0]):
        for b in range(b0, b1):
            row, target = logits[t, b], targets[t, b]
            largest = _largest(row, V)  # subtracted, so that no exponential overflows
            at_target = row[target] - largest
            _exponentials(row, largest, V)
            partition = total(row, V)
            # In float64, where the C libraries' logarithms agree in all that a float32 shows.
            losses[t, b] = row.dtype.type(math.log(np.float64(partition))) - at_target
            _scale(row, row.dtype.type(weight) / partition, V)
            row[target] -= row.dtype.type(weight)
