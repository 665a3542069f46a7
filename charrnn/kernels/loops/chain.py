"""Linear-chain conditional random fields (Lafferty et al. 2001): each text's labels are one choice.

    score(y) = start[y_0] + sum over t of emission_t[y_t] + sum over t of transition[y_t-1, y_t] + end[y_n-1]
    loss = log(sum of exp(score) over all sequences) - score(y)

Sums are of probabilities, scaled to 1 in each step (Rabiner 1989), so that exponentials are taken once for
each emission and transition; the logarithms of the scales are summed in float64.

Axes: T steps, B texts, N labels. Each text has its own length; emissions behind it have the gradient 0.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from charrnn.kernels.loops.attention import _add_scaled
from charrnn.kernels.loss import _exponentials, _scale
from charrnn.kernels.machine.jit import njit
from charrnn.kernels.reductions import largest, total, total_of_products
from charrnn.kernels.rows import _clear, _copy


class Chain(NamedTuple):
    """The parameters: scores, and their exponentials after the largest one is subtracted."""

    transitions: Any  # (N, N), from row to column
    start: Any  # (padded N,)
    end: Any  # (padded N,)
    factors: Any  # (N, padded N), of the transitions
    end_factors: Any  # (padded N,)
    tops: Any  # (2,) float64: the largest transition and end


class Sums(NamedTuple):
    """What the forward pass leaves for the backward pass."""

    alpha: Any  # (T, B, padded N): probabilities of each label, given all that is to the left
    scales: Any  # (T, B)
    pairs: Any  # (B, N, padded N): the gradient of `factors` for each text, without the factors themselves


@njit()
def prepare(chain: Any, N: int) -> None:
    """Compute the exponentials."""
    top = chain.transitions[0, 0]
    for i in range(N):
        top = max(top, largest(chain.transitions[i], N))
    for i in range(N):
        row = chain.factors[i]
        for j in range(N):
            row[j] = chain.transitions[i, j] - top
        _exponentials(row, row.dtype.type(0), N)
    chain.tops[0], chain.tops[1] = top, largest(chain.end, N)
    _copy(chain.end_factors, chain.end, N)
    _exponentials(chain.end_factors, largest(chain.end, N), N)


@njit()
def forward(
    losses: Any, emissions: Any, labels: Any, chain: Any, sums: Any, lengths: Any, N: int, columns: Any
) -> None:
    """The losses (B,); emissions (T, B, padded N) become their exponentials.

    Where a label (T, B) is negative, it counts as unknown: its score is 0.
    """
    alpha, scales, _ = sums
    for b in range(columns[0], columns[1]):
        n, score, log_sum = lengths[b], 0.0, 0.0
        for t in range(n):
            row, now, label = emissions[t, b], alpha[t, b], labels[t, b]
            if label >= 0:
                score += row[label]
                if t > 0:
                    score += chain.transitions[labels[t - 1, b], label]
                else:
                    score += chain.start[label]
                if t == n - 1:
                    score += chain.end[label]
            if t == 0:
                for j in range(N):
                    now[j] = row[j] + chain.start[j]
                top = largest(now, N)
                _exponentials(now, top, N)
                log_sum += top
            else:
                top = largest(row, N)
                _exponentials(row, top, N)
                _clear(now)
                for i in range(N):
                    _add_scaled(now, chain.factors[i], alpha[t - 1, b, i], N)
                for j in range(N):
                    now[j] *= row[j]
                log_sum += top + chain.tops[0]
            scales[t, b] = total(now, N)
            _scale(now, now.dtype.type(1) / scales[t, b], N)
            log_sum += math.log(np.float64(scales[t, b]))
        if n > 0:
            last = total_of_products(alpha[n - 1, b], chain.end_factors, alpha.dtype.type(0), N)
            log_sum += math.log(np.float64(last)) + chain.tops[1]
        losses[b] = log_sum - score


@njit()
def backward(
    emissions: Any, labels: Any, weights: Any, chain: Any, sums: Any, lengths: Any, N: int, columns: Any
) -> None:
    """The emissions' gradient, in their place, and pairs: weights (B,) times that of the losses.

    Where a label is negative, it is the weighted probability of each label.
    """
    (alpha, scales, pairs), zero = sums, emissions.dtype.type(0)
    beta, ahead = np.empty(N, alpha.dtype), np.empty(N, alpha.dtype)
    for b in range(columns[0], columns[1]):
        n, weight = lengths[b], weights[b]
        for i in range(len(pairs[b])):
            _clear(pairs[b, i])
        for t in range(emissions.shape[0] - 1, n - 1, -1):
            _clear(emissions[t, b])
        for t in range(n - 1, -1, -1):
            now = alpha[t, b]
            if t == n - 1:
                _copy(beta, chain.end_factors, N)
                _scale(beta, beta.dtype.type(1) / total_of_products(now, beta, zero, N), N)
            else:  # `ahead` is the emission to the right and all behind it
                for i in range(N):
                    beta[i] = total_of_products(ahead, chain.factors[i], zero, N)
                for i in range(len(pairs[b])):
                    _add_scaled(pairs[b, i], ahead, weight * now[i], N)
            row, scale = emissions[t, b], beta.dtype.type(1) / scales[t, b]
            for j in range(N):
                ahead[j] = row[j] * beta[j] * scale
            for j in range(N):
                row[j] = weight * now[j] * beta[j]
            if labels[t, b] >= 0:
                row[labels[t, b]] -= weight


@njit()
def transition_gradients(
    gradient: Any, pairs: Any, factors: Any, labels: Any, weights: Any, lengths: Any, i0: int, i1: int
) -> None:
    """Rows i0 to i1 of the transitions' gradient (N, N), summed over the texts in order."""
    N = gradient.shape[1]
    for i in range(i0, i1):
        row = gradient[i]
        row[:] = 0
        for b in range(len(pairs)):
            for j in range(N):
                row[j] += pairs[b, i, j] * factors[i, j]
            for t in range(lengths[b] - 1):
                if labels[t, b] == i:
                    row[labels[t + 1, b]] -= weights[b]


@njit()
def end_gradients(d_start: Any, d_end: Any, emissions: Any, lengths: Any, j0: int, j1: int) -> None:
    """Elements j0 to j1 of the gradients of start and end, from that of the emissions."""
    d_start[j0:j1] = 0
    d_end[j0:j1] = 0
    for b in range(emissions.shape[1]):
        if lengths[b] > 0:
            for j in range(j0, j1):
                d_start[j] += emissions[0, b, j]
                d_end[j] += emissions[lengths[b] - 1, b, j]


@njit()
def best(labels: Any, scores: Any, emissions: Any, chain: Any, lengths: Any, N: int, columns: Any) -> None:
    """The labels (T, B) of each text's best sequence (Viterbi 1967), 0 behind its end, and its score (B,)."""
    T = emissions.shape[0]
    before, now = np.empty(N, emissions.dtype), np.empty(N, emissions.dtype)
    origins = np.empty((T, N), np.int32)
    for b in range(columns[0], columns[1]):
        n = lengths[b]
        for t in range(T):
            labels[t, b] = 0
        scores[b] = 0
        for t in range(n):
            row, origin = emissions[t, b], origins[t]
            if t == 0:
                for j in range(N):
                    now[j] = chain.start[j] + row[j]
            else:
                for j in range(N):
                    now[j], origin[j] = before[0] + chain.transitions[0, j], 0
                for i in range(1, N):
                    for j in range(N):
                        score = before[i] + chain.transitions[i, j]
                        if score > now[j]:
                            now[j], origin[j] = score, i
                for j in range(N):
                    now[j] += row[j]
            _copy(before, now, N)
        if n == 0:
            continue
        label = 0
        for j in range(N):
            before[j] += chain.end[j]
            if before[j] > before[label]:
                label = j
        scores[b] = before[label]
        for t in range(n - 1, -1, -1):
            labels[t, b] = label
            label = origins[t, label] if t > 0 else 0
