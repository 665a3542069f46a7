"""Softmax cross-entropy of each row of logits, in nats, with its gradient; and log-partitions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from charrnn.kernels.activations import exp
from charrnn.kernels.machine.jit import njit
from charrnn.kernels.reductions import largest, total
from charrnn.kernels.rows import _copy


@njit()
def _exponentials(row: Any, top: Any, V: int) -> None:
    # In place: with the row as input and output, LLVM would assume an overlap and not vectorise.
    for j in range(V):
        row[j] = exp(row[j] - top)


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
            top = largest(row, V)  # subtracted, so that no exponential overflows
            at_target = row[target] - top
            _exponentials(row, top, V)
            partition = total(row, V)
            # In float64, in which all C libraries' logarithms agree once rounded to float32.
            losses[t, b] = row.dtype.type(math.log(np.float64(partition))) - at_target
            _scale(row, row.dtype.type(weight) / partition, V)
            row[target] -= row.dtype.type(weight)


@njit()
def log_partitions(logits: Any, tops: Any, logs: Any, V: int, b0: int, b1: int) -> None:
    """tops and logs, so that character i has the loss logs[t, b] - (logits[t, b, i] - tops[t, b]).

    Shapes: logits (T, B, padded V), tops and logs (T, B).
    """
    exponentials = np.empty(V, logits.dtype)
    for t in range(logits.shape[0]):
        for b in range(b0, b1):
            row = logits[t, b]
            tops[t, b] = largest(row, V)
            _copy(exponentials, row, V)
            _exponentials(exponentials, tops[t, b], V)
            logs[t, b] = row.dtype.type(math.log(np.float64(total(exponentials, V))))
