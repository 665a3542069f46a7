"""The LSTM layer over a window (Hochreiter & Schmidhuber 1997, with Gers' forget gate).

    i, f, g, o = sigma, sigma, tanh, sigma of (W_ih x + b_ih + W_hh h + b_hh)
    c' = f c + i g
    h' = o tanh(c')

Buffers, all (T, B, padded), unless said:
    gates       after forward: i, f, g, o; after backward: their gradients
    h_prev      (T + 1, ...) what each step starts from, or what a text begins with; [T] is the final state
    c_prev      likewise
    h           the output
    tanh_c      tanh(c')
"""

from __future__ import annotations

from typing import Any

import numpy as np

from charrnn.kernels import inputs
from charrnn.kernels.activations import sigmoid, tanh
from charrnn.kernels.gemm import product_plus, terms
from charrnn.kernels.jit import njit
from charrnn.kernels.prefetch import plan_step
from charrnn.kernels.rows import begin


@njit()
def _forward_row(gates: Any, c_prev: Any, c: Any, tanh_c: Any, h: Any, h_next: Any, H: int) -> None:
    i, f, g, o = gates[:H], gates[H : 2 * H], gates[2 * H : 3 * H], gates[3 * H : 4 * H]
    for j in range(H):
        i[j], f[j], g[j], o[j] = sigmoid(i[j]), sigmoid(f[j]), tanh(g[j]), sigmoid(o[j])
        c[j] = f[j] * c_prev[j] + i[j] * g[j]
    # A loop of its own: as part of the other one, both take 1.7 times as long.
    for j in range(H):
        tanh_c[j] = tanh(c[j])
        h[j] = o[j] * tanh_c[j]
        h_next[j] = h[j]


@njit()
def forward(
    unit: Any, soon: Any, table: Any, index: Any, x: Any, weight_ih: Any, bias: Any, gates: Any, h_prev: Any,
    c_prev: Any, h: Any, tanh_c: Any, origin: Any, first_h: Any, first_c: Any, weight_hh: Any, H: int,
    b0: int, b1: int, t0: int, t1: int,
) -> None:  # fmt: skip
    """Columns b0 to b1, steps t0 to t1 of the window.

    See prefetch.table for `soon`, inputs.read for table, index, x, weight_ih and bias, rows.begin for origin
    (T, B), first_h and first_c (rows, H).
    """
    plan, B = np.empty((len(soon), 3), np.intp), gates.shape[1]
    for t in range(t0, t1):
        begin(h_prev[t], first_h, origin[t], H, b0, b1)
        begin(c_prev[t], first_c, origin[t], H, b0, b1)
        inputs.read(unit, gates, table, index, x, weight_ih, bias, H, t, t0, t1, b0, b1, plan[:0])
        plan_step(plan, soon, t * B + b0, b1 - b0, terms(unit, H))
        now = gates[t : t + 1]
        product_plus(unit, now, now, h_prev[t : t + 1], weight_hh, H, b0, b1, plan)
        for b in range(b0, b1):
            _forward_row(
                gates[t, b], c_prev[t, b], c_prev[t + 1, b], tanh_c[t, b], h[t, b],
                h_prev[t + 1, b], H,
            )  # fmt: skip


@njit()
def _backward_row(gates: Any, c_prev: Any, tanh_c: Any, dh: Any, dh_next: Any, dc: Any, H: int) -> None:
    i, f, g, o = gates[:H], gates[H : 2 * H], gates[2 * H : 3 * H], gates[3 * H : 4 * H]
    one = gates.dtype.type(1)
    for j in range(H):
        d = dh[j] + dh_next[j]
        d_c = dc[j] + d * o[j] * (one - tanh_c[j] * tanh_c[j])
        d_i = d_c * g[j] * i[j] * (one - i[j])
        d_f = d_c * c_prev[j] * f[j] * (one - f[j])
        d_g = d_c * i[j] * (one - g[j] * g[j])
        d_o = d * tanh_c[j] * o[j] * (one - o[j])
        dc[j] = d_c * f[j]
        dh_next[j] = 0
        i[j] = d_i
        f[j] = d_f
        g[j] = d_g
        o[j] = d_o


@njit()
def backward(
    unit: Any, soon: Any, gates: Any, c_prev: Any, tanh_c: Any, dh: Any, dh_next: Any, dc: Any, origin: Any,
    weight_hh_t: Any, H: int, b0: int, b1: int,
) -> None:  # fmt: skip
    """Gradients of the gates, in their place; dh_next and dc, (1, B, padded), end as the initial state's.

    dh (T, B, padded) is the gradient of the output h; weight_hh_t (panels of H, 4H, 32).
    See prefetch.table for `soon`.
    """
    dh_next[0, b0:b1] = 0
    dc[0, b0:b1] = 0
    (T, B, _), plan = gates.shape, np.empty((len(soon), 3), np.intp)
    for t in range(T - 1, -1, -1):
        for b in range(b0, b1):
            _backward_row(gates[t, b], c_prev[t, b], tanh_c[t, b], dh[t, b], dh_next[0, b], dc[0, b], H)
        plan_step(plan, soon, t * B + b0, b1 - b0, terms(unit, 4 * H))
        product_plus(unit, dh_next, dh_next, gates[t : t + 1], weight_hh_t, 4 * H, b0, b1, plan)
        for b in range(b0, b1):
            if origin[t, b] >= 0:
                dh_next[0, b] = 0
                dc[0, b] = 0
