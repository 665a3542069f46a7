"""A recurrent layer over a window, whatever its cell: input, recurrent product, the cell's loops over rows.

Axes: T time, B batch, H hidden, G gates, R what the state has beside h. Arrays are (T, B, padded), unless
said.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from charrnn.kernels.loops import inputs
from charrnn.kernels.machine.jit import njit
from charrnn.kernels.machine.native_calls import call
from charrnn.kernels.machine.prefetch import plan_step
from charrnn.kernels.products.gemm import product, product_plus, terms
from charrnn.kernels.rows import begin


class Inputs(NamedTuple):
    """What a layer reads, see inputs.read."""

    table: Any
    index: Any
    x: Any
    weight_ih: Any
    bias: Any
    K: int  # numbers in a row of x


class States(NamedTuple):
    """What each step starts from, and [T] what the window ends with: h, and the other parts side by side."""

    h: Any  # (T + 1, B, padded H)
    rest: Any  # (T + 1, B, padded R)
    # Where it is not -1, a text begins, with that row of first_h (.., H) and first_rest (.., R); (T, B).
    origin: Any
    first_h: Any
    first_rest: Any


class Gates(NamedTuple):
    """What the recurrent product adds to, and what of."""

    gates: Any  # G H numbers: W_ih x + b_ih, then activations, then the gradient of W_ih x + b_ih
    recurrent: Any  # W_hh h + b_hh, then its gradient, where the cell wants it apart; else `gates`
    apart: bool
    bias_hh: Any  # (padded G H,)
    weight_hh: Any  # (panels of G H, H, 32)
    weight_hh_t: Any  # (panels of H, G H, 32), or None: for backward


class Steps(NamedTuple):
    """Columns b0 to b1, steps t0 to t1 of the window."""

    b0: int
    b1: int
    t0: int
    t1: int


class Loops(NamedTuple):
    """The cell's loops: the address of equations.forward or backward, and equations.buffers for it."""

    address: int
    buffers: Any


@njit()
def forward(unit: Any, soon: Any, read: Any, gates: Any, states: Any, loops: Any, H: int, steps: Any) -> None:
    """Some steps of the window, those before them being done. See prefetch.table for `soon`."""
    b0, b1, t0, t1 = steps
    table, index, x, weight_ih, bias, K = read
    plan, B, R = np.empty((len(soon), 3), np.intp), gates.gates.shape[1], states.first_rest.shape[1]
    for t in range(t0, t1):
        begin(states.h[t], states.first_h, states.origin[t], H, b0, b1)
        begin(states.rest[t], states.first_rest, states.origin[t], R, b0, b1)
        inputs.read(unit, gates.gates, table, index, x, weight_ih, bias, K, t, t0, t1, b0, b1, plan[:0])
        plan_step(plan, soon, t * B + b0, b1 - b0, terms(unit, H))
        now, h = gates.recurrent[t : t + 1], states.h[t : t + 1]
        if gates.apart:
            product(unit, now, gates.bias_hh, h, gates.weight_hh, H, b0, b1, plan)
        else:
            product_plus(unit, now, now, h, gates.weight_hh, H, b0, b1, plan)
        call(loops.address, (loops.buffers.ctypes.data, t, b0, b1))


@njit()
def backward(
    unit: Any, soon: Any, gates: Any, d_h: Any, d_rest: Any, origin: Any, loops: Any, columns: Any
) -> None:
    """Gradients of the gates, in their place; d_h and d_rest, (1, B, padded), end as the initial state's.

    The loops know where the output's gradient is. Columns b0 to b1. See prefetch.table for `soon`.
    """
    b0, b1 = columns
    d_h[0, b0:b1] = 0
    d_rest[0, b0:b1] = 0
    (T, B, _), plan = gates.gates.shape, np.empty((len(soon), 3), np.intp)
    width = gates.weight_hh_t.shape[1]
    for t in range(T - 1, -1, -1):
        call(loops.address, (loops.buffers.ctypes.data, t, b0, b1))
        plan_step(plan, soon, t * B + b0, b1 - b0, terms(unit, width))
        now = gates.recurrent[t : t + 1]
        product_plus(unit, d_h, d_h, now, gates.weight_hh_t, width, b0, b1, plan)
        for b in range(b0, b1):
            if origin[t, b] >= 0:
                d_h[0, b] = 0
                d_rest[0, b] = 0
