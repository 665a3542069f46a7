"""The loop that reads and writes characters, one after another, with the filters of charrnn.sampling.

It writes bit for bit what charrnn.plain writes, whose equations and order of arithmetic stand here again:
sums run from the first term to the last, and nothing is fused (so charrnn.kernels.activations, which its
callers compile with `contract`, will not do). Vectors run over the outputs of a product: no order is lost.

Axes: H hidden, V vocabulary, N gates * H padded, L layers.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numba.extending import register_jitable

from charrnn import sampling
from charrnn.kernels.coefficients import NORM_EPSILON, TANH_P, TANH_Q
from charrnn.kernels.jit import njit

LSTM, GRU, RNN_TANH, RNN_RELU = range(4)

for _function in (
    sampling._precedes,
    sampling._sift_down,
    sampling._fill,
    sampling.argmax,
    sampling.probabilities,
    sampling.keep_top_k,
    sampling.keep_top_p,
    sampling.keep_min_p,
    sampling.choose,
    sampling.sample,
):
    register_jitable(_function)  # compiled code that calls it compiles it from its one source


class Network(NamedTuple):
    """Weights as charrnn.plain arranges them; all arrays are float32, C-contiguous and writable."""

    cell: int  # LSTM, GRU, RNN_TANH or RNN_RELU
    norm: bool
    skips: Any  # (L,) bool: the layer's input is added to its output
    table: Any  # (V + 1, N) what layer 0 makes of each character, START last
    known: Any  # (V + 1,) bool: which rows of the table are filled
    embedding: Any  # (V, D), or (0, 0) for one-hot input
    inputs: Any  # (L - 1, H, N)
    bias_ih: Any  # (L, N)
    recurrent: Any  # (L, H, N)
    bias_hh: Any  # (L, N)
    norms: Any  # (L, 2, H)
    decoder: Any  # (H, padded V)
    decoder_bias: Any  # (padded V,)


class Filters(NamedTuple):
    """How a character is chosen from its logits; see `sampling.sample`."""

    temperature: float
    top_k: int
    top_p: float
    min_p: float


_P, _Q = (tuple(map(np.float32, row)) for row in (TANH_P, TANH_Q))
_P0, _P1, _P2, _P3, _P4 = _P
_Q0, _Q1, _Q2, _Q3, _Q4 = _Q
_NINE, _ONE, _HALF, _ZERO = np.float32(9), np.float32(1), np.float32(0.5), np.float32(0)


@njit()
def _tanh(x: Any) -> Any:
    x = -_NINE if x < -_NINE else x  # a NaN passes both
    x = _NINE if x > _NINE else x
    u = x * x
    numerator = (((_P4 * u + _P3) * u + _P2) * u + _P1) * u + _P0
    denominator = (((_Q4 * u + _Q3) * u + _Q2) * u + _Q1) * u + _Q0
    return x * numerator / denominator


@njit()
def _sigmoid(x: Any) -> Any:
    return _HALF * _tanh(_HALF * x) + _HALF


@njit()
def _product(out: Any, matrix: Any, x: Any, bias: Any) -> None:
    """out (N,) = x (K,) times matrix (K, N), plus bias (N,)."""
    K, N = matrix.shape
    row, factor = matrix[0], x[0]
    for j in range(N):
        out[j] = row[j] * factor
    k = 1
    while k + 4 <= K:  # four rows at once: a quarter of the loads and stores of `out`
        a, b, c, d = matrix[k], matrix[k + 1], matrix[k + 2], matrix[k + 3]
        xa, xb, xc, xd = x[k], x[k + 1], x[k + 2], x[k + 3]
        for j in range(N):
            out[j] = (((out[j] + a[j] * xa) + b[j] * xb) + c[j] * xc) + d[j] * xd
        k += 4
    while k < K:
        row, factor = matrix[k], x[k]
        for j in range(N):
            out[j] += row[j] * factor
        k += 1
    for j in range(N):
        out[j] += bias[j]


@njit()
def _cell(cell: int, h: Any, c: Any, u: Any, w: Any) -> None:
    """h and c (H,) anew, from u = W_ih x + b_ih and w = W_hh h + b_hh, both (N,), which are overwritten."""
    H = len(h)
    if cell == LSTM:
        for j in range(4 * H):
            u[j] = u[j] + w[j]
        i, f, g, o = u[:H], u[H : 2 * H], u[2 * H : 3 * H], u[3 * H : 4 * H]
        for j in range(H):
            c[j] = _sigmoid(f[j]) * c[j] + _sigmoid(i[j]) * (_tanh(g[j]) + _ZERO)  # as plain: -0 -> 0
        for j in range(H):
            h[j] = _sigmoid(o[j]) * _tanh(c[j])
    elif cell == GRU:
        for j in range(2 * H):
            u[j] = _sigmoid(u[j] + w[j])
        r, z, n = u[:H], u[H : 2 * H], u[2 * H : 3 * H]
        w_n = w[2 * H : 3 * H]
        for j in range(H):
            n[j] = _tanh(n[j] + r[j] * w_n[j])
        for j in range(H):
            h[j] = (_ONE - z[j]) * n[j] + z[j] * h[j]
    elif cell == RNN_TANH:
        for j in range(H):
            h[j] = _tanh(u[j] + w[j])
    else:
        for j in range(H):
            a = u[j] + w[j]
            h[j] = a if a > _ZERO else _ZERO


@njit()
def _layer_norm(out: Any, weight: Any, bias: Any) -> None:
    """(out - mean) / sqrt(variance + 1e-5) * weight + bias, in place, (H,); sums in float64."""
    H = len(out)
    mean = 0.0
    for j in range(H):
        mean += np.float64(out[j])
    mean /= H
    variance = 0.0
    for j in range(H):
        centred = np.float64(out[j]) - mean
        variance += centred * centred
    variance /= H
    scale = 1.0 / math.sqrt(variance + NORM_EPSILON)
    for j in range(H):
        out[j] = np.float32((np.float64(out[j]) - mean) * scale) * weight[j] + bias[j]


@njit()
def _step(network: Any, character: int, state: Any, u: Any, w: Any, out: Any, x: Any) -> None:
    """Read one character: the state anew, and in `out` what the decoder sees. x is scratch, (H,)."""
    V = len(network.known) - 1
    for k in range(len(network.recurrent)):
        if k == 0:
            u[:] = network.table[character]
        else:
            _product(u, network.inputs[k - 1], out, network.bias_ih[k])
            x[:] = out
        h = state[k, 0]
        _product(w, network.recurrent[k], h, network.bias_hh[k])
        _cell(network.cell, h, state[k, state.shape[1] - 1], u, w)
        out[:] = h
        if network.norm:
            _layer_norm(out, network.norms[k, 0], network.norms[k, 1])
        if network.skips[k]:
            if k > 0:
                for j in range(len(out)):
                    out[j] += x[j]
            elif character < V:
                if len(network.embedding) > 0:
                    row = network.embedding[character]
                    for j in range(len(out)):
                        out[j] += row[j]
                else:
                    out[character] += _ONE


@njit()
def read(network: Any, state: Any, characters: Any) -> Any:
    """Read characters (n,) int64 into the state (L, 1 or 2, H), in place.

    Returns how many were read: it stops before one whose row of the table is not known.
    """
    H = state.shape[2]
    N = network.table.shape[1]
    u, w = np.empty(N, np.float32), np.empty(N, np.float32)
    out, x = np.empty(H, np.float32), np.empty(H, np.float32)
    for n in range(len(characters)):
        if not network.known[characters[n]]:
            return n
        _step(network, characters[n], state, u, w, out, x)
    return len(characters)


@njit()
def write(
    network: Any, state: Any, last: int, uniforms: Any, filters: Any, end: int, written: Any, logits: Any
) -> Any:
    """Read `last`, then write a character for each of `uniforms` (n,) into `written` (n,) int64.

    Returns how many were written: it stops after `end`, and after a character whose row of the table is not
    known. The state (L, 1 or 2, H) changes in place; it has then read all but the last written, whose
    logits stand in `logits` (padded V,).
    """
    V = len(network.known) - 1
    H = state.shape[2]
    N = network.table.shape[1]
    u, w = np.empty(N, np.float32), np.empty(N, np.float32)
    out, x = np.empty(H, np.float32), np.empty(H, np.float32)
    p, heap = np.empty(V, np.float64), np.empty(V, np.int64)
    for n in range(len(uniforms)):
        if not network.known[last]:
            return n
        _step(network, last, state, u, w, out, x)
        _product(logits, network.decoder, out, network.decoder_bias)
        last = sampling.sample(
            logits[:V],
            filters.temperature,
            filters.top_k,
            filters.top_p,
            filters.min_p,
            uniforms[n],
            p,
            heap,
        )
        written[n] = last
        if last == end:
            return n + 1
    return len(uniforms)
