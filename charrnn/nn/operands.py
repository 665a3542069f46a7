"""What a window's matrix products read, in the precision of its products.

In float32 that is the arrays themselves. In bfloat16 it is their rounded copies, made anew in each step:
parameters, sums, gradients and everything that is no operand of a product stay float32. The copies are
arrays of float32 by name, each number standing for the two that its bits hold.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from charrnn.kernels.machine.aligned import aligned
from charrnn.kernels.products import bfloat16, gemm
from charrnn.kernels.products.bfloat16 import LANES, whole_pairs
from charrnn.kernels.products.gemm import PANEL, Unit, padded, panels
from charrnn.nn.parameters import Array
from charrnn.nn.workers import share

MANY_PANELS = 16  # for each worker: one more or less is no matter


class Arithmetic:
    """The precision of a window's products, and the `unit` that its kernels multiply with.

    `exact` is the same without rounding, for products that gain nothing from it. No product of a window of
    T steps and B columns has rows of more than `widest` numbers.
    """

    def __init__(self, T: int, B: int, widest: int, dtype: Any, *, bfloat16: bool) -> None:
        self.rounds = bfloat16
        self.exact: Arithmetic = Arithmetic(T, B, widest, dtype, bfloat16=False) if bfloat16 else self
        if bfloat16:  # no power of two from one row to the next, as in gemm.padded
            self._words = aligned((T, B, whole_pairs(widest) + PANEL // 2), np.float32)
            self.unit: Unit = gemm.unit("bfloat16", self._words)
        else:
            self.unit = gemm.unit(np.dtype(dtype).name)


class Weight:
    """A weight W (N, K) as panels (panels of N, K, 32), and as those of its transpose.

    `forward` is what x W^T reads, `backward`, where it is wanted, what dy W reads.
    """

    def __init__(self, weight: Array, N: int, arithmetic: Arithmetic, *, with_transpose: bool) -> None:
        self._weight, self._N, self._rounds = weight, N, arithmetic.rounds
        K, dtype = weight.shape[1], weight.dtype
        self.forward = weight
        if self._rounds:
            self.forward = aligned((panels(N), whole_pairs(K), PANEL), dtype)
        self.backward: Array | None = None
        if with_transpose:
            self.backward = aligned((panels(K), whole_pairs(N) if self._rounds else N, PANEL), dtype)

    def refresh(self, worker: int, workers: int) -> None:
        """Once a step: a share of the copies."""
        if self._rounds:
            bfloat16.round_panels(self.forward, self._weight, *share(len(self.forward), worker, workers))
        if self.backward is None:
            return
        p0, p1 = share(len(self.backward), worker, workers)
        if self._rounds:
            bfloat16.round_transposed(self.backward, self._weight, p0, p1)
        else:
            gemm.transpose_panels(self.backward, self._weight, self._N, p0, p1)


class Rows:
    """Activations or their gradients (T, B, padded N) that the gradient of a weight is summed over."""

    def __init__(self, source: Array, N: int, arithmetic: Arithmetic, *, are_inputs: bool = False) -> None:
        self.source, self._N, self._rounds = source, N, arithmetic.rounds
        T, B, width = source.shape
        self._flat = source.reshape(T * B, width)  # (R, padded N): a row for each place of the window
        self._transposed: Array | None = None
        if self._rounds:  # or for each pair of places, and zeros up to a whole number of blocks
            R = bfloat16.pairs(T) * B
            self._flat = aligned((_blocks(R) * LANES, width), source.dtype)
            self._rows = self._flat[:R].reshape(-1, B, width)
            if are_inputs and gemm.wants_transposed(arithmetic.unit):
                self._transposed = aligned((_blocks(N) * LANES, padded(R)), source.dtype)

    def refresh(self, b0: int, b1: int) -> None:
        """Once a step, when the source has its values: columns b0 to b1."""
        if self._rounds:
            bfloat16.round_steps(self._rows, self.source, self._N, b0, b1)

    @property
    def operand(self) -> Array:
        """What `outer_product` reads."""
        return self._flat if self._transposed is None else self._transposed

    def transpose(self, worker: int, workers: int) -> None:
        """After all columns are refreshed: a share of the transpose, where one is wanted."""
        if self._transposed is not None:
            k0, k1 = share(_blocks(self._N), worker, workers)
            bfloat16.transpose_words(self._transposed, self._flat, k0 * LANES, k1 * LANES)


def sum_outer_products(
    unit: Unit, gradient: Array, zero: Array, inputs: Rows, outputs: Rows, worker: int, workers: int
) -> None:
    """A share of the gradient of W, (panels of N, K, 32), from the x and dy of y = x W^T.

    The shares are of panels, unless these are few: then of rows of all of them, which are nearly even.
    """
    A, G = inputs.operand, outputs.operand
    count, K = gradient.shape[:2]
    if count % workers == 0 or count > MANY_PANELS * workers:
        part = *share(count, worker, workers), 0, K
    else:
        part = 0, count, *share(K, worker, workers)
    gemm.outer_product(unit, gradient, zero, A, G, len(G), part)


def _blocks(n: int) -> int:
    return -(-n // LANES)
