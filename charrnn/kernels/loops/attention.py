"""Attention: for each row a weighted mean of what was read, with weights from a softmax of scores.

    score_s = query . key_s                        (Luong et al. 2015)
    score_s = vector . tanh(query + key_s)         (Bahdanau et al. 2015)
    weights = softmax(scores) over the steps s of the row's own text
    context = sum of weights_s value_s

Axes: S steps and C columns of what was read, T steps and B rows of what attends to it, A numbers of a key,
K of a value.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from charrnn.kernels.activations import tanh
from charrnn.kernels.loss import _exponentials, _scale
from charrnn.kernels.machine.jit import njit
from charrnn.kernels.reductions import largest, total, total_of_products
from charrnn.kernels.rows import _clear


class Source(NamedTuple):
    """What was read."""

    keys: Any  # (S, C, padded A)
    values: Any  # (S, C, padded K)
    lengths: Any  # (C,)
    columns: Any  # (B,): row b attends to this column
    vector: Any  # (padded A,)
    additive: bool  # whether scores are of the second kind, which alone reads the vector
    A: int
    K: int


class Gradients(NamedTuple):
    """The sums of the gradients over all rows."""

    keys: Any
    values: Any
    vector: Any  # (1, C, padded A), by column


@njit()
def _meet(y: Any, query: Any, key: Any, A: int) -> None:
    for j in range(A):
        y[j] = tanh(query[j] + key[j])


@njit()
def _add_scaled(y: Any, x: Any, factor: Any, n: int) -> None:
    for j in range(n):
        y[j] += factor * x[j]


@njit()
def _through_meeting(
    d_query: Any, d_key: Any, d_vector: Any, met: Any, vector: Any, d_score: Any, A: int
) -> None:
    one = met.dtype.type(1)
    for j in range(A):
        d_vector[j] += d_score * met[j]
        met[j] = d_score * vector[j] * (one - met[j] * met[j])
    for j in range(A):
        d_key[j] += met[j]
    for j in range(A):
        d_query[j] += met[j]


@njit()
def forward(contexts: Any, weights: Any, queries: Any, source: Any, t: int, b0: int, b1: int) -> None:
    """The contexts (T, B, padded K) and weights (T, B, padded S) of step t, from queries (T, B, padded A)."""
    keys, values, lengths, columns, vector, additive, A, K = source
    met, zero = np.empty(A, keys.dtype), keys.dtype.type(0)
    for b in range(b0, b1):
        c, row, query = columns[b], weights[t, b], queries[t, b]
        n = lengths[c]
        _clear(row)
        for s in range(n):
            if additive:
                _meet(met, query, keys[s, c], A)
                row[s] = total_of_products(met, vector, zero, A)
            else:
                row[s] = total_of_products(query, keys[s, c], zero, A)
        _exponentials(row, largest(row, n), n)
        _scale(row, keys.dtype.type(1) / total(row, n), n)
        context = contexts[t, b, :K]
        _clear(context)
        for s in range(n):
            _add_scaled(context, values[s, c], row[s], K)


@njit()
def backward(
    d_queries: Any, d_contexts: Any, weights: Any, queries: Any, source: Any, gradients: Any, t: int,
    columns: Any,
) -> None:  # fmt: skip
    """The gradient of the queries of step t, from that of the contexts; those of the source are added up.

    Row b attends to column b.
    """
    keys, values, lengths, _, vector, additive, A, K = source
    d_keys, d_values, d_vectors = gradients
    met, zero = np.empty(A, keys.dtype), keys.dtype.type(0)
    d_weights = np.empty(weights.shape[2], keys.dtype)
    for b in range(columns[0], columns[1]):
        n, row, query, d_query = lengths[b], weights[t, b], queries[t, b], d_queries[t, b]
        d_context = d_contexts[t, b, :K]
        _clear(d_query)
        for s in range(n):
            d_weights[s] = total_of_products(d_context, values[s, b], zero, K)
            _add_scaled(d_values[s, b], d_context, row[s], K)
        mean = total_of_products(row, d_weights, zero, n)
        for s in range(n):
            d_score = row[s] * (d_weights[s] - mean)
            if additive:
                _meet(met, query, keys[s, b], A)
                _through_meeting(d_query, d_keys[s, b], d_vectors[0, b], met, vector, d_score, A)
            else:
                _add_scaled(d_query, keys[s, b], d_score, A)
                _add_scaled(d_keys[s, b], query, d_score, A)


@njit()
def clear(array: Any, b0: int, b1: int) -> None:
    """Zero columns b0 to b1 of (T, B, padded)."""
    for t in range(array.shape[0]):
        for b in range(b0, b1):
            _clear(array[t, b])
