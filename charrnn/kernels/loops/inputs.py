"""What a recurrent layer reads at a step, W_ih x + b: a product, or for the first layer a look-up.

The first layer's x is one of a few embedded characters: the product of each is computed once a window, as a
row of a table. Both are done a few steps at a time, so that the recurrent product finds the gates in the
cache, but for enough rows at once that the weights are not read for a single one.
"""

from __future__ import annotations

from typing import Any

from charrnn.kernels.machine.jit import njit
from charrnn.kernels.products.gemm import product
from charrnn.kernels.rows import gather

ROWS = 26  # of gates that are worth a product of their own: two tiles of the widest kind


@njit()
def read(
    unit: Any, gates: Any, table: Any, index: Any, x: Any, weight_ih: Any, bias: Any, K: int, t: int, t0: int,
    t1: int, b0: int, b1: int, plan: Any,
) -> None:  # fmt: skip
    """gates[t, b] = table[index[t, b]], or bias + x[t, b] W_ih^T where the table has no rows; b0 <= b < b1.

    Called for t = t0, .. t1 - 1, it reads at some of them the next few steps. Shapes: gates (T, B, padded N),
    table (U, padded N), index (T, B), x (T, B, padded K), weight_ih (panels of N, K, 32), bias (padded N,).
    See gemm.product for the plan.
    """
    block = max(1, ROWS // max(1, b1 - b0))
    if (t - t0) % block:
        return
    stop = min(t + block, t1)
    now = gates[t:stop]
    if len(table) > 0:
        gather(now, table, index[t:stop], bias.shape[0], b0, b1)
    else:
        product(unit, now, bias, x[t:stop], weight_ih, K, b0, b1, plan)
