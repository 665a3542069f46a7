"""Softmax cross-entropy of each row of logits, in nats, with its gradient; and log-partitions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from charrnn.kernels.activations import exp
from charrnn.kernels.machine.jit import njit
from charrnn.kernels.reductions import largest, total, total_of_products
from charrnn.kernels.rows import _clear, _copy


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
def cross_entropy(logits: Any, targets: Any, weights: Any, losses: Any, V: int, b0: int, b1: int) -> None:
    """losses[t, b] = -log softmax(logits[t, b])[target]; logits become weight * d loss / d logits.

    Where the weight is 0, both are 0. Shapes: logits (T, B, padded V), the others (T, B).
    """
    for t in range(logits.shape[0]):
        for b in range(b0, b1):
            row, target, weight = logits[t, b], targets[t, b], weights[t, b]
            if weight == 0:
                losses[t, b] = 0
                _clear(row)
                continue
            top = largest(row, V)  # subtracted, so that no exponential overflows
            at_target = row[target] - top
            _exponentials(row, top, V)
            partition = total(row, V)
            # In float64, in which all C libraries' logarithms agree once rounded to float32.
            losses[t, b] = row.dtype.type(math.log(np.float64(partition))) - at_target
            _scale(row, weight / partition, V)
            row[target] -= weight


@njit()
def soft_cross_entropy(
    logits: Any, targets: Any, weights: Any, losses: Any, bounds: Any, b0: int, b1: int
) -> None:
    """losses[b] = -sum over k of targets[b, k] log softmax(logits[0, b])[k], and the same gradient.

    The logits are of several questions, each with a softmax of its own: those of c stand in
    bounds[c] : bounds[c + 1]. Shapes: logits (1, B, padded V), targets (B, V), weights and losses (B,).
    """
    for b in range(b0, b1):
        weight = weights[b]
        losses[b] = 0
        for c in range(len(bounds) - 1):
            V = bounds[c + 1] - bounds[c]
            row, target = logits[0, b, bounds[c] : bounds[c + 1]], targets[b, bounds[c] : bounds[c + 1]]
            top = largest(row, V)
            mass = total(target, V)
            at_targets = total_of_products(target, row, top, V)
            _exponentials(row, top, V)
            partition = total(row, V)
            losses[b] += mass * row.dtype.type(math.log(np.float64(partition))) - at_targets
            _scale(row, mass * weight / partition, V)
            for k in range(V):
                row[k] -= weight * target[k]


@njit()
def log_partitions(logits: Any, sums: Any, V: int, b0: int, b1: int) -> None:
    """sums are (tops, logs, entropies); the loss of i is logs[t, b] - (logits[t, b, i] - tops[t, b]).

    Shapes: logits (T, B, padded V), the others (T, B).
    """
    tops, logs, entropies = sums
    exponentials = np.empty(V, logits.dtype)
    for t in range(logits.shape[0]):
        for b in range(b0, b1):
            row = logits[t, b]
            tops[t, b] = largest(row, V)
            _copy(exponentials, row, V)
            _exponentials(exponentials, tops[t, b], V)
            partition = total(exponentials, V)
            logs[t, b] = row.dtype.type(math.log(np.float64(partition)))
            mean = total_of_products(exponentials, row, tops[t, b], V) / partition
            entropies[t, b] = logs[t, b] - mean
