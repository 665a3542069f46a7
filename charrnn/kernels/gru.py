"""The GRU layer over a window (Cho et al. 2014, in PyTorch's and cuDNN's form).

    r, z = sigma of (W_i x + b_i + W_h h + b_h)
    n = tanh(W_in x + b_in + r (W_hn h + b_hn))
    h' = (1 - z) n + z h

The reset gate acts after the recurrent product, so b_in and b_hn cannot be one.

Buffers, all (T, B, padded), unless said:
    gates       after forward: r, z, n; after backward: gradients of W_ih x + b_ih
    recurrent   after forward: W_hh h + b_hh; after backward: its gradients
    h_prev      (T + 1, ...) what each step starts from, or what a text begins with; [T] is the final state
    h           the output
"""

from __future__ import annotations

from typing import Any

import numpy as np

from charrnn.kernels import inputs
from charrnn.kernels.activations import sigmoid, tanh
from charrnn.kernels.gemm import product, product_plus, terms
from charrnn.kernels.jit import njit
from charrnn.kernels.prefetch import plan_step
from charrnn.kernels.rows import begin


@njit()
def _forward_row(gates: Any, recurrent: Any, h_prev: Any, h: Any, h_next: Any, H: int) -> None:
    r, z, n = gates[:H], gates[H : 2 * H], gates[2 * H : 3 * H]
    r_h, z_h, n_h = recurrent[:H], recurrent[H : 2 * H], recurrent[2 * H : 3 * H]
    for j in range(H):
        r[j], z[j] = sigmoid(r[j] + r_h[j]), sigmoid(z[j] + z_h[j])
    # A loop of its own: as part of the other one, both take 1.3 times as long.
    for j in range(H):
        n[j] = tanh(n[j] + r[j] * n_h[j])
        h[j] = n[j] + z[j] * (h_prev[j] - n[j])
        h_next[j] = h[j]


@njit()
def forward(
    unit: Any, soon: Any, table: Any, index: Any, x: Any, weight_ih: Any, bias_ih: Any, gates: Any,
    recurrent: Any, h_prev: Any, h: Any, origin: Any, first_h: Any, weight_hh: Any, bias_hh: Any, H: int,
    b0: int, b1: int, t0: int, t1: int,
) -> None:  # fmt: skip
    """Columns b0 to b1, steps t0 to t1 of the window.

    See prefetch.table for `soon`, inputs.read for table, index, x, weight_ih and bias_ih, rows.begin for
    origin (T, B) and first_h (rows, H).
    """
    plan, B = np.empty((len(soon), 3), np.intp), gates.shape[1]
    for t in range(t0, t1):
        begin(h_prev[t], first_h, origin[t], H, b0, b1)
        inputs.read(unit, gates, table, index, x, weight_ih, bias_ih, H, t, t0, t1, b0, b1, plan[:0])
        plan_step(plan, soon, t * B + b0, b1 - b0, terms(unit, H))
        product(unit, recurrent[t : t + 1], bias_hh, h_prev[t : t + 1], weight_hh, H, b0, b1, plan)
        for b in range(b0, b1):
            _forward_row(gates[t, b], recurrent[t, b], h_prev[t, b], h[t, b], h_prev[t + 1, b], H)


@njit()
def _backward_row(gates: Any, recurrent: Any, h_prev: Any, dh: Any, dh_next: Any, H: int) -> None:
    r, z, n = gates[:H], gates[H : 2 * H], gates[2 * H : 3 * H]
    r_h, z_h, n_h = recurrent[:H], recurrent[H : 2 * H], recurrent[2 * H : 3 * H]
    one = gates.dtype.type(1)
    for j in range(H):
        d = dh[j] + dh_next[j]
        d_n = d * (one - z[j]) * (one - n[j] * n[j])
        d_r = d_n * n_h[j] * r[j] * (one - r[j])
        d_z = d * (h_prev[j] - n[j]) * z[j] * (one - z[j])
        dh_next[j] = d * z[j]
        n_h[j] = d_n * r[j]
        r_h[j] = d_r
        z_h[j] = d_z
        n[j] = d_n
        r[j] = d_r
        z[j] = d_z


@njit()
def backward(
    unit: Any, soon: Any, gates: Any, recurrent: Any, h_prev: Any, dh: Any, dh_next: Any, origin: Any,
    weight_hh_t: Any, H: int, b0: int, b1: int,
) -> None:  # fmt: skip
    """Gradients of both products, in their place; dh_next (1, B, padded) ends as the initial state's.

    dh (T, B, padded) is the gradient of the output h; weight_hh_t (panels of H, 3H, 32).
    See prefetch.table for `soon`.
    """
    dh_next[0, b0:b1] = 0
    (T, B, _), plan = gates.shape, np.empty((len(soon), 3), np.intp)
    for t in range(T - 1, -1, -1):
        for b in range(b0, b1):
            _backward_row(gates[t, b], recurrent[t, b], h_prev[t, b], dh[t, b], dh_next[0, b], H)
        plan_step(plan, soon, t * B + b0, b1 - b0, terms(unit, 3 * H))
        product_plus(unit, dh_next, dh_next, recurrent[t : t + 1], weight_hh_t, 3 * H, b0, b1, plan)
        for b in range(b0, b1):
            if origin[t, b] >= 0:
                dh_next[0, b] = 0
