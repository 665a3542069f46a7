"""The vanilla recurrent layer over a window (Elman 1990).

    h' = tanh or relu of (W_ih x + b_ih + W_hh h + b_hh)

Buffers, all (T, B, padded), unless said:
    gates       after forward: h'; after backward: the gradient
    h_prev      (T + 1, ...) what each step starts from, or what a text begins with; [T] is the final state
    h           the output
"""

from __future__ import annotations

from typing import Any

import numpy as np

from charrnn.kernels import inputs
from charrnn.kernels.activations import tanh
from charrnn.kernels.gemm import product_plus, terms
from charrnn.kernels.jit import njit
from charrnn.kernels.prefetch import plan_step
from charrnn.kernels.rows import begin


@njit()
def _forward_row(gates: Any, h: Any, h_next: Any, relu: bool, H: int) -> None:
    if relu:
        for j in range(H):
            gates[j] = 0 if gates[j] < 0 else gates[j]  # a NaN stays
    else:
        for j in range(H):
            gates[j] = tanh(gates[j])
    for j in range(H):
        h[j] = gates[j]
        h_next[j] = gates[j]


@njit()
def forward(
    unit: Any, soon: Any, table: Any, index: Any, x: Any, weight_ih: Any, bias: Any, gates: Any, h_prev: Any,
    h: Any, origin: Any, first_h: Any, weight_hh: Any, relu: bool, H: int, b0: int, b1: int, t0: int, t1: int,
) -> None:  # fmt: skip
    """Columns b0 to b1, steps t0 to t1 of the window.

    See prefetch.table for `soon`, inputs.read for table, index, x, weight_ih and bias, rows.begin for
    origin (T, B) and first_h (rows, H).
    """
    plan, B = np.empty((len(soon), 3), np.intp), gates.shape[1]
    for t in range(t0, t1):
        begin(h_prev[t], first_h, origin[t], H, b0, b1)
        inputs.read(unit, gates, table, index, x, weight_ih, bias, H, t, t0, t1, b0, b1, plan[:0])
        plan_step(plan, soon, t * B + b0, b1 - b0, terms(unit, H))
        now = gates[t : t + 1]
        product_plus(unit, now, now, h_prev[t : t + 1], weight_hh, H, b0, b1, plan)
        for b in range(b0, b1):
            _forward_row(gates[t, b], h[t, b], h_prev[t + 1, b], relu, H)


@njit()
def _backward_row(gates: Any, dh: Any, dh_next: Any, relu: bool, H: int) -> None:
    one, zero = gates.dtype.type(1), gates.dtype.type(0)
    if relu:
        for j in range(H):
            gates[j] = dh[j] + dh_next[j] if gates[j] > zero else zero
    else:
        for j in range(H):
            gates[j] = (dh[j] + dh_next[j]) * (one - gates[j] * gates[j])
    for j in range(H):
        dh_next[j] = zero


@njit()
def backward(
    unit: Any, soon: Any, gates: Any, dh: Any, dh_next: Any, origin: Any, weight_hh_t: Any, relu: bool,
    H: int, b0: int, b1: int,
) -> None:  # fmt: skip
    """The gates' gradient, in their place; dh_next (1, B, padded) ends as the initial state's.

    dh (T, B, padded) is the gradient of the output h; weight_hh_t (panels of H, H, 32).
    See prefetch.table for `soon`.
    """
    dh_next[0, b0:b1] = 0
    (T, B, _), plan = gates.shape, np.empty((len(soon), 3), np.intp)
    for t in range(T - 1, -1, -1):
        for b in range(b0, b1):
            _backward_row(gates[t, b], dh[t, b], dh_next[0, b], relu, H)
        plan_step(plan, soon, t * B + b0, b1 - b0, terms(unit, H))
        product_plus(unit, dh_next, dh_next, gates[t : t + 1], weight_hh_t, H, b0, b1, plan)
        for b in range(b0, b1):
            if origin[t, b] >= 0:
                dh_next[0, b] = 0
