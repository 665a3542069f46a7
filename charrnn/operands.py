"""What a window's matrix products read, in the precision of its products.

In float32 that is the arrays themselves. In bfloat16 it is their rounded copies, made anew in each step:
parameters, sums, gradients and everything that is no operand of a product stay float32.
"""

from __future__ import annotations

from charrnn.kernels import bfloat16, gemm
from charrnn.kernels.bfloat16 import whole_pairs
from charrnn.kernels.gemm import PANEL, panels
from charrnn.kernels.tile import PAIR
from charrnn.parameters import Array, aligned
from charrnn.workers import share


def room(T: int, B: int, widest: int, rounded: bool) -> Array:
    """Words for the rounded rows of any of a window's products, `widest` numbers each; else nothing."""
    # As everywhere, no power of two from one row to the next.
    return aligned((T, B, whole_pairs(widest) + PANEL // 2) if rounded else (0, 0, 0), PAIR)


class Weight:
    """A weight W (N, K) as panels (panels of N, K, 32), and as those of its transpose.

    `forward` is what x W^T reads, `backward`, where it is wanted, what dy W reads.
    """

    def __init__(self, weight: Array, N: int, *, rounded: bool, with_transpose: bool) -> None:
        self._weight, self._N, self._rounded = weight, N, rounded
        K = weight.shape[1]
        self.forward = aligned((panels(N), whole_pairs(K), PANEL), PAIR) if rounded else weight
        self.backward: Array | None = None
        if with_transpose:
            shape, dtype = (whole_pairs(N), PAIR) if rounded else (N, weight.dtype)
            self.backward = aligned((panels(K), shape, PANEL), dtype)

    def refresh(self, worker: int, workers: int) -> None:
        """Once a step: a share of the copies."""
        if self._rounded:
            bfloat16.round_panels(self.forward, self._weight, *share(len(self.forward), worker, workers))
        if self.backward is None:
            return
        p0, p1 = share(len(self.backward), worker, workers)
        if self._rounded:
            bfloat16.round_transposed(self.backward, self._weight, p0, p1)
        else:
            gemm.transpose_panels(self.backward, self._weight, self._N, p0, p1)


class Rows:
    """Activations or their gradients (T, B, padded N) that the gradient of a weight is summed over."""

    def __init__(self, source: Array, N: int, *, rounded: bool) -> None:
        self.source, self._N, self._rounded = source, N, rounded
        T, B, width = source.shape
        self._rows = aligned((bfloat16.pairs(T), B, width), PAIR) if rounded else source

    def refresh(self, b0: int, b1: int) -> None:
        """Once a step, when the source has its values: columns b0 to b1."""
        if self._rounded:
            bfloat16.round_steps(self._rows, self.source, self._N, b0, b1)

    @property
    def flat(self) -> Array:
        """(R, padded N): a row for each place of the window, or for a pair of them."""
        return self._rows.reshape(-1, self._rows.shape[2])


def sum_outer_products(gradient: Array, zero: Array, inputs: Rows, outputs: Rows, p0: int, p1: int) -> None:
    """Panels p0 to p1 of the gradient of W, (panels of N, K, 32), from the x and dy of y = x W^T."""
    A, G = inputs.flat, outputs.flat
    gemm.outer_product(gradient, zero, A, G, len(A), p0, p1)
