"""A decoder over a window: its cell, attention, and the input feeding from each step to the next.

    x_t = [embedding of the previous character; y_t-1]
    h_t = cell(x_t, h_t-1)
    c_t = attention to what was read, by h_t or W_q h_t
    y_t = tanh(W_o [c_t; h_t] + b_o)               (Luong et al. 2015)

Axes: T steps, B rows, D embedding, H hidden, K values of what was read, A keys. Arrays are (T, B, padded).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from charrnn.kernels.activations import tanh
from charrnn.kernels.loops import attention, recurrent
from charrnn.kernels.machine.jit import njit
from charrnn.kernels.products.gemm import product
from charrnn.kernels.rows import _add, _clear, _copy


class Cell(NamedTuple):
    """The arguments of recurrent.forward. Its output is behind the context in `joined`."""

    prefetches: Any
    inputs: Any
    gates: Any
    states: Any
    loops: Any


class Attending(NamedTuple):
    """What follows the cell."""

    source: Any  # attention.Source
    weights: Any  # (T, B, padded S)
    queries: Any  # (T, B, padded A): W_q h or, for scores by a product alone, h
    weight_query: Any  # (panels of A, H, 32)
    joined: Any  # (T, B, padded K + H): [c; h]
    weight_output: Any  # (panels of H, K + H, 32)
    bias_output: Any
    y: Any  # (T, B, padded H)
    zero: Any


class Through(NamedTuple):
    """The arguments of recurrent.backward, and the other gradients."""

    prefetches: Any
    gates: Any
    d_h: Any
    d_rest: Any
    restart_rows: Any
    loops: Any
    weight_ih_t: Any  # (panels of D + H, G H, 32)
    d_x: Any  # (T, B, padded D + H)
    d_queries: Any
    weight_query_t: Any  # (panels of H, A, 32)
    d_joined: Any
    weight_output_t: Any  # (panels of K + H, H, 32)
    d_y: Any  # that of the output, which becomes that of the sum before its tanh
    one_step: Any  # (1, B, padded H)
    sums: Any  # attention.Gradients


@njit()
def embed(x: Any, table: Any, ids: Any, b0: int, b1: int) -> None:
    """The characters' rows of the table (V, D), in front of x; zeros from V on."""
    D = table.shape[1]
    for t in range(ids.shape[0]):
        for b in range(b0, b1):
            if ids[t, b] < table.shape[0]:
                _copy(x[t, b], table[ids[t, b]], D)
            else:
                _clear(x[t, b, :D])


@njit()
def _tanh_row(y: Any, n: int) -> None:
    for j in range(n):
        y[j] = tanh(y[j])


@njit()
def _through_tanh_row(d: Any, y: Any, n: int) -> None:
    one = y.dtype.type(1)
    for j in range(n):
        d[j] *= one - y[j] * y[j]


@njit()
def forward(unit: Any, cell: Any, attending: Any, D: int, H: int, b0: int, b1: int) -> None:
    """All steps; the first feeds on what stands in x."""
    prefetches, inputs, gates, states, loops = cell
    source, weights, queries, weight_query, joined, weight_output, bias_output, y, zero = attending
    plan, x, (T, K) = np.empty((0, 3), np.intp), inputs.x, (y.shape[0], source.K)
    for t in range(T):
        steps = recurrent.Steps(b0, b1, t, t + 1, False)
        recurrent.forward(unit, prefetches, inputs, gates, states, loops, H, steps)
        if source.additive:
            h = states.h[t + 1 : t + 2]
            product(unit, queries[t : t + 1], zero, h, weight_query, H, (b0, b1), plan)
        attention.forward(joined, weights, queries, source, t, b0, b1)
        now = y[t : t + 1]
        product(unit, now, bias_output, joined[t : t + 1], weight_output, K + H, (b0, b1), plan)
        for b in range(b0, b1):
            _tanh_row(y[t, b], H)
            if t + 1 < T:
                _copy(x[t + 1, b, D:], y[t, b], H)


@njit()
def backward(unit: Any, attending: Any, through: Any, D: int, H: int, b0: int, b1: int) -> None:
    """All steps, from the last to the first. `sums` have to be zero before."""
    source, weights, queries, _, _, _, _, y, zero = attending
    d_x, d_queries, d_joined, d_y, one_step = (
        through.d_x, through.d_queries, through.d_joined, through.d_y, through.one_step,
    )  # fmt: skip
    plan, T, K, A = np.empty((0, 3), np.intp), y.shape[0], source.K, source.A
    for t in range(T - 1, -1, -1):
        for b in range(b0, b1):
            if t + 1 < T:
                _add(d_y[t, b], d_x[t + 1, b, D:], H)
            _through_tanh_row(d_y[t, b], y[t, b], H)
        d_join = d_joined[t : t + 1]
        product(unit, d_join, zero, d_y[t : t + 1], through.weight_output_t, H, (b0, b1), plan)
        attention.backward(d_queries, d_joined, weights, queries, source, through.sums, t, (b0, b1))
        if source.additive:
            d_query = d_queries[t : t + 1]
            product(unit, one_step, zero, d_query, through.weight_query_t, A, (b0, b1), plan)
        for b in range(b0, b1):
            _add(d_joined[t, b, K:], one_step[0, b] if source.additive else d_queries[t, b], H)
        recurrent.backward(
            unit, through.prefetches, through.gates, through.d_h, through.d_rest, through.restart_rows,
            through.loops, recurrent.Steps(b0, b1, t, t + 1, False),
        )  # fmt: skip
        now, N = through.gates.gates[t : t + 1], through.gates.N
        product(unit, d_x[t : t + 1], zero, now, through.weight_ih_t, N, (b0, b1), plan)


@njit()
def gather_ends(ends: Any, values: Any, lengths: Any, K: int, b0: int, b1: int) -> None:
    """What each direction has read of a whole text: half of the last row and half of the first, (1, B, K)."""
    half = K // 2
    for b in range(b0, b1):
        _copy(ends[0, b], values[lengths[b] - 1, b], half)
        _copy(ends[0, b, half:], values[0, b, half:], K - half)


@njit()
def scatter_ends(d_values: Any, d_ends: Any, lengths: Any, K: int, b0: int, b1: int) -> None:
    """The gradient of `gather_ends`, added."""
    half = K // 2
    for b in range(b0, b1):
        _add(d_values[lengths[b] - 1, b], d_ends[0, b], half)
        _add(d_values[0, b, half:], d_ends[0, b, half:], K - half)


@njit()
def begin(h: Any, rest: Any, start: Any, H: int, b0: int, b1: int) -> None:
    """The initial state, h (B, padded H) and the rest, from start (1, B, padded), which becomes its tanh."""
    R = rest.shape[1]
    for b in range(b0, b1):
        row = start[0, b]
        _tanh_row(row, len(row))
        _copy(h[b], row, H)
        _copy(rest[b], row[H:], min(R, len(row) - H))


@njit()
def through_beginning(d_start: Any, start: Any, d_h: Any, d_rest: Any, H: int, b0: int, b1: int) -> None:
    """The gradient of `begin`: that of the sum before the tanh; d_h and d_rest are (1, B, padded)."""
    n = start.shape[2]
    for b in range(b0, b1):
        row = d_start[0, b]
        _clear(row)
        _copy(row, d_h[0, b], H)
        _copy(row[H:], d_rest[0, b], min(d_rest.shape[2], n - H))
        _through_tanh_row(row, start[0, b], n)
