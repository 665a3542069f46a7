"""A recurrent layer over a window, for any cell: input product, recurrent product, the cell's row loops.

Axes: T time, B batch, H hidden, G gates, R the state except h. Arrays are (T, B, padded), unless noted.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from charrnn.kernels.machine.jit import njit
from charrnn.kernels.machine.native_calls import call
from charrnn.kernels.machine.prefetch import plan_step
from charrnn.kernels.products.gemm import _terms, product
from charrnn.kernels.rows import _clear, _gather, _restart, gather_add

ROWS = 26  # fewest rows of an input product, for efficiency: two tiles of the largest height


class Inputs(NamedTuple):
    """The input of a layer, W_ih x + b: a product, or a look-up in the first layer.

    The first layer's x is one of a few embedded characters: the product for each is computed once per window,
    as a row of the table. In other layers the table has no rows. What labels add is always looked up.
    """

    table: Any  # (U, padded G H)
    index: Any  # (T, B)
    x: Any  # (T, B, padded K)
    weight_ih: Any  # (panels of G H, K, 32)
    bias: Any  # (padded G H,)
    K: int
    labels: Any  # (.., padded G H)
    label_index: Any  # (columns, T, B): each column of labels adds a row of these


class States(NamedTuple):
    """The state between positions, [0] left of the first: h, and the other parts side by side."""

    h: Any  # (T + 1, B, padded H)
    rest: Any  # (T + 1, B, padded R)
    # (T, B); where it is not -1, a text begins, and its state is that row of the next two.
    restart_rows: Any
    restart_h: Any  # (.., H)
    restart_rest: Any  # (.., R)


class Gates(NamedTuple):
    """The gates, and the operands of the recurrent product."""

    gates: Any  # G H numbers: W_ih x + b_ih, then activations, then the gradient of W_ih x + b_ih
    recurrent: Any  # W_hh h + b_hh, then its gradient, if the cell reads it apart; else `gates`
    apart: bool
    bias_hh: Any  # (padded G H,)
    weight_hh: Any  # (panels of G H, H, 32)
    weight_hh_t: Any  # (panels of H, G H, 32), or None: for backward
    N: int  # G H


class Steps(NamedTuple):
    """Columns b0 to b1, steps t0 to t1 of the window.

    In reverse, step n is at the position T - 1 - n, and the state before it comes from the one to the right.
    """

    b0: int
    b1: int
    t0: int
    t1: int
    reverse: bool


class Loops(NamedTuple):
    """The cell's loops: the address of equations.forward or backward, and equations.buffers for it."""

    address: int
    buffers: Any


@njit()
def forward(
    unit: Any, prefetches: Any, inputs: Any, gates: Any, states: Any, loops: Any, H: int, steps: Any
) -> None:
    """Some steps of the window, after those before them. For `prefetches`, see prefetch.table."""
    b0, b1, t0, t1, reverse = steps
    plan, (T, B, _) = np.empty((len(prefetches), 3), np.intp), gates.gates.shape
    R = states.restart_rest.shape[1]
    for n in range(t0, t1):
        t, before = (T - 1 - n, T - n) if reverse else (n, n)
        _restart(states.h[before], states.restart_h, states.restart_rows[t], H, b0, b1)
        _restart(states.rest[before], states.restart_rest, states.restart_rows[t], R, b0, b1)
        _read(unit, gates.gates, inputs, n, steps, plan[:0])
        plan_step(plan, prefetches, t * B + b0, b1 - b0, _terms(unit, H))
        now, h = gates.recurrent[t : t + 1], states.h[before : before + 1]
        if gates.apart:
            product(unit, now, gates.bias_hh, h, gates.weight_hh, H, (b0, b1), plan)
        else:
            product(unit, now, now, h, gates.weight_hh, H, (b0, b1), plan)
        call(loops.address, (loops.buffers.ctypes.data, n, b0, b1))


@njit()
def _read(unit: Any, gates: Any, inputs: Any, n: int, steps: Any, plan: Any) -> None:
    """gates[t, b] = table[index[t, b]], or bias + x[t, b] W_ih^T, for a block of steps if one begins at n.

    The rows of the labels are added.
    Blocks are short enough for the gates to stay in the cache, and long enough to reuse the weights.
    """
    b0, b1, t0, t1, reverse = steps
    block = max(1, ROWS // max(1, b1 - b0))
    if (n - t0) % block:
        return
    end = min(n + block, t1)
    first, stop = (len(gates) - end, len(gates) - n) if reverse else (n, end)
    now = gates[first:stop]
    if len(inputs.table) > 0:
        _gather(now, inputs.table, inputs.index[first:stop], inputs.bias.shape[0], b0, b1)
    else:
        product(unit, now, inputs.bias, inputs.x[first:stop], inputs.weight_ih, inputs.K, (b0, b1), plan)
    for column in range(len(inputs.label_index)):
        index = inputs.label_index[column, first:stop]
        gather_add(now, inputs.labels, index, inputs.bias.shape[0], b0, b1)


@njit()
def backward(
    unit: Any, prefetches: Any, gates: Any, d_h: Any, d_rest: Any, restart_rows: Any, loops: Any, steps: Any
) -> None:
    """The gradients of the gates, in place; d_h and d_rest, (1, B, padded), become those of the state before.

    Some steps of the window, before those after them. The loops find the output's gradient in their table.
    See prefetch.table on `prefetches`.
    """
    (b0, b1, t0, t1, reverse), (T, B, _) = steps, gates.gates.shape
    if t1 == T:
        for b in range(b0, b1):
            _clear(d_h[0, b])
            _clear(d_rest[0, b])
    plan = np.empty((len(prefetches), 3), np.intp)
    for n in range(t1 - 1, t0 - 1, -1):
        t = T - 1 - n if reverse else n
        call(loops.address, (loops.buffers.ctypes.data, n, b0, b1))
        plan_step(plan, prefetches, t * B + b0, b1 - b0, _terms(unit, gates.N))
        now = gates.recurrent[t : t + 1]
        product(unit, d_h, d_h, now, gates.weight_hh_t, gates.N, (b0, b1), plan)
        for b in range(b0, b1):
            if restart_rows[t, b] >= 0:
                _clear(d_h[0, b])
                _clear(d_rest[0, b])
