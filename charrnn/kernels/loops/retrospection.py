"""Attention of a network to its own past states, over a window.

h_t is the output after character t, q_t = W_q h_t + b_q, k_i = W_k h_i + b_k. Step i tells what came
next, h_i+1, as in an induction head (Olsson et al. 2022). For the last S outputs:

    score_i = q_t . k_i / sqrt(A) + lag_(t - i)          i from t - S to t - 1
    a       = softmax([0, scores])                       the first is of nothing, which tells nothing
    c_t     = sum of a_i h_i+1
    y_t     = h_t + W_o c_t + b_o

The kernels compute a and c, and their gradients.

Axes: T time, B batch, S span, H hidden, A numbers of a key, R texts that begin with states of others.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from charrnn.kernels.activations import exp
from charrnn.kernels.loops.attention import _add_scaled
from charrnn.kernels.loss import _exponentials, _scale
from charrnn.kernels.machine.jit import njit
from charrnn.kernels.machine.native_calls import _address
from charrnn.kernels.products.gemm import PANEL, Strided, strided_product
from charrnn.kernels.reductions import largest, total, total_of_products
from charrnn.kernels.rows import _add, _clear, _copy


class Seen(NamedTuple):
    """States and their keys: S steps before the window, and then those of the window."""

    states: Any  # (S + T, B, padded H)
    keys: Any  # (S + T, B, padded A)
    begun: Any  # (S, R, padded H) before texts that begin within the window
    begun_keys: Any  # (S, R, padded A)
    rows: Any  # (T, B) where the text at a position has its states before `origin`: of `begun`, or -1
    origin: Any  # (T, B) where the text at a position began, or 0
    known: Any  # (T, B) how many states before that belong to it
    lags: Any  # (padded S,)
    S: int
    H: int
    A: int


@njit()
def take_in(seen: Any, x: Any, b0: int, b1: int, t0: int, t1: int) -> None:
    """The window's own states, from x (T, B, padded H)."""
    for t in range(t0, t1):
        for b in range(b0, b1):
            _copy(seen.states[seen.S + t, b], x[t, b], seen.H)


@njit()
def _key(seen: Any, t: int, b: int, i: int) -> Any:
    origin, row = seen.origin[t, b], seen.rows[t, b]
    if i < origin and row >= 0:
        return seen.begun_keys[seen.S + i - origin, row]
    return seen.keys[seen.S + i, b]


@njit()
def _value(seen: Any, t: int, b: int, i: int) -> Any:
    origin, row = seen.origin[t, b], seen.rows[t, b]
    if i + 1 < origin and row >= 0:
        return seen.begun[seen.S + i + 1 - origin, row]
    return seen.states[seen.S + i + 1, b]


@njit()
def forward_each(contexts: Any, queries: Any, seen: Any, b0: int, b1: int, t0: int, t1: int) -> None:
    """The same as `forward`, position by position, whatever texts begin with."""
    S, H, A, lags = seen.S, seen.H, seen.A, seen.lags
    kind = lags.dtype.type
    zero, scale = kind(0), kind(1 / math.sqrt(A))
    row = np.empty(S, lags.dtype)
    for t in range(t0, t1):
        for b in range(b0, b1):
            n = min(S, t - seen.origin[t, b] + seen.known[t, b])
            query, context = queries[t, b], contexts[t, b, :H]
            _clear(context)
            for j in range(n):
                key = _key(seen, t, b, t - 1 - j)
                row[j] = scale * total_of_products(query, key, zero, A) + lags[j]
            top = max(zero, largest(row, n))
            _exponentials(row, top, n)
            nothing = np.empty(1, lags.dtype)
            nothing[0] = zero
            _exponentials(nothing, top, 1)
            _scale(row, kind(1) / (total(row, n) + nothing[0]), n)
            for j in range(n):
                _add_scaled(context, _value(seen, t, b, t - 1 - j), row[j], H)


class Gradients(NamedTuple):
    """What `backward` computes; to the states' what comes through c is added, and the lags' are by column."""

    queries: Any  # (T, B, padded A)
    states: Any  # (T, B, padded H)
    keys: Any  # (S + T, B, padded A)
    lags: Any  # (1, B, padded S)


@njit()
def _at(array: Any, t: int, b: int) -> Any:
    """Column b of (T, B, padded N) from step t on, as a factor: rows of single columns."""
    _, B, N = array.shape
    return Strided(_address(array, (t * B + b) * N), np.intp(B * N), np.intp(1))


@njit()
def _panels_at(array: Any, t: int, b: int) -> Any:
    """The same as panels."""
    _, B, N = array.shape
    return Strided(_address(array, (t * B + b) * N), np.intp(B * N), np.intp(PANEL))


@njit()
def _turn(y: Any, x: Any, b: int, t0: int, t1: int) -> None:
    """y (N, t1 - t0 and more), zero behind, is the transpose of column b of x (T, B, padded N)."""
    zero = y.dtype.type(0)
    for t in range(y.shape[1]):
        if t0 + t < t1:
            row = x[t0 + t, b]
            for k in range(y.shape[0]):
                y[k, t] = row[k]
        else:
            for k in range(y.shape[0]):
                y[k, t] = zero


@njit()
def _first(seen: Any, t: int, b: int) -> int:
    """The first state, counted from the window's, that belongs to the text at a position."""
    return seen.origin[t, b] - seen.known[t, b]


@njit()
def _softmax(weights: Any, seen: Any, b: int, t0: int, t1: int) -> None:
    """Scores of states s = t0 .. S + t1 - 2 (rows) for steps t0 .. t1 - 1 become weights; 0 elsewhere."""
    S, lags = seen.S, seen.lags
    kind = lags.dtype.type
    zero, least, scale = kind(0), kind(-math.inf), kind(1 / math.sqrt(seen.A))
    T = t1 - t0
    top, sums, first = np.zeros(T, lags.dtype), np.zeros(T, lags.dtype), np.empty(T, np.int64)
    for j in range(T):
        first[j] = _first(seen, t0 + j, b) + S
    for s in range(t0, S + t1 - 1):
        row = weights[s, t0:t1]
        low, high = max(0, s - S + 1 - t0), min(T, s + 1 - t0)
        for j in range(low):
            row[j] = least
        for j in range(high, T):
            row[j] = least
        bias = lags[t0 + low - s + S - 1 :]
        for j in range(low, high):
            score = row[j] * scale + bias[j - low]
            row[j] = score if s >= first[j] else least
        for j in range(low, high):
            top[j] = row[j] if row[j] > top[j] else top[j]
    for s in range(t0, S + t1 - 1):
        row = weights[s, t0:t1]
        for j in range(T):
            e = exp(row[j] - top[j])
            row[j] = e if row[j] > least else zero
        for j in range(T):
            sums[j] += row[j]
    for j in range(T):
        sums[j] = kind(1) / (sums[j] + exp(-top[j]))
    for s in range(t0, S + t1 - 1):
        row = weights[s, t0:t1]
        for j in range(T):
            row[j] *= sums[j]


@njit()
def forward(
    contexts: Any, weights: Any, queries: Any, seen: Any, unit: Any, columns: Any, steps: Any
) -> None:
    """c (T, B, padded H) of some steps, from q (T, B, padded A), where no text begins with states of others.

    The weights are (B, S + T, T and more): of each state, for each step.
    """
    (b0, b1), (t0, t1), S, H, A = columns, steps, seen.S, seen.H, seen.A
    size, n, wide = seen.lags.itemsize, S + t1 - t0 - 1, -(-(t1 - t0) // PANEL) * PANEL
    turned = np.empty((A, wide), seen.lags.dtype)
    zeros = np.zeros(max(wide, contexts.shape[2]), seen.lags.dtype)
    W = np.intp(weights.shape[2])
    for b in range(b0, b1):
        nothing = Strided(_address(zeros, 0), np.intp(0), np.intp(1))  # here, or Numba would free the zeros
        _turn(turned, queries, b, t0, t1)
        at = _address(weights, (b * weights.shape[1] + t0) * W + t0)
        query = Strided(_address(turned, 0), np.intp(wide), np.intp(PANEL))
        scores = Strided(at, W, np.intp(1))
        strided_product(unit, size, scores, nothing, _at(seen.keys, t0, b), query, (n, A, wide // PANEL))
        _softmax(weights[b], seen, b, t0, t1)
        by_step = Strided(at, np.intp(1), W)
        values, context = _panels_at(seen.states, t0 + 1, b), _at(contexts, t0, b)
        strided_product(unit, size, context, nothing, by_step, values, (t1 - t0, n, -(-H // PANEL)))


@njit()
def backward(d: Any, d_contexts: Any, weights: Any, queries: Any, seen: Any, unit: Any, columns: Any) -> None:
    """The gradients, from those of the contexts; states before the window are constants."""
    (b0, b1), S, H, A, T = columns, seen.S, seen.H, seen.A, len(queries)
    lags = seen.lags
    kind, size, n, W = lags.dtype.type, lags.itemsize, S + T - 1, np.intp(weights.shape[2])
    scale, wide = kind(1 / math.sqrt(A)), -(-T // PANEL) * PANEL
    turned, d_scores = np.empty((H, wide), lags.dtype), np.empty((n, W), lags.dtype)
    zeros, mean = np.zeros(max(wide, queries.shape[2]), lags.dtype), np.empty(T, lags.dtype)
    key_panels = -(-A // PANEL)
    for b in range(b0, b1):
        nothing = Strided(_address(zeros, 0), np.intp(0), np.intp(1))  # here, or Numba would free the zeros
        _turn(turned, d_contexts, b, 0, T)
        d_context = Strided(_address(turned, 0), np.intp(wide), np.intp(PANEL))
        by_state = Strided(_address(d_scores, 0), W, np.intp(1))
        by_step = Strided(by_state.address, np.intp(1), W)
        values = _at(seen.states, 1, b)
        strided_product(unit, size, by_state, nothing, values, d_context, (n, H, wide // PANEL))
        d_lags = d.lags[0, b]
        _clear(d_lags)
        _clear(mean)
        for s in range(n):
            row, d_row = weights[b, s], d_scores[s]
            for t in range(T):
                mean[t] += row[t] * d_row[t]
        for s in range(n):
            row, d_row = weights[b, s], d_scores[s]
            for t in range(T):
                d_row[t] = row[t] * (d_row[t] - mean[t])
            low, high = max(0, s - S + 1), min(T, s + 1)
            _add(d_lags[low - s + S - 1 :], d_row[low:], high - low)
            for t in range(T):
                d_row[t] *= scale
        strided_product(
            unit,
            size,
            _at(d.queries, 0, b),
            nothing,
            by_step,
            _panels_at(seen.keys, 0, b),
            (T, n, key_panels),
        )
        strided_product(
            unit, size, _at(d.keys, 0, b), nothing, by_state, _panels_at(queries, 0, b), (n, T, key_panels)
        )
        _clear(d.keys[n, b])
        own = Strided(_address(weights, (b * weights.shape[1] + S - 1) * W), W, np.intp(1))
        d_states, d_values = _at(d.states, 0, b), _panels_at(d_contexts, 0, b)
        strided_product(unit, size, d_states, d_states, own, d_values, (T, T, -(-H // PANEL)))
