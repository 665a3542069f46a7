"""The operands of a window's matrix products, in the precision of these products.

In float32 they are the arrays themselves, in bfloat16 rounded copies, which are refreshed in each step:
parameters, sums, gradients and everything else stay float32. The copies have the dtype float32, but the bits
of each element hold two numbers.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

import numpy as np

from charrnn import kernels
from charrnn.kernels.machine.aligned import aligned
from charrnn.kernels.machine.prefetch import NOTHING
from charrnn.kernels.products import bfloat16, gemm
from charrnn.kernels.products.bfloat16 import LANES, whole_pairs
from charrnn.kernels.products.gemm import PANEL, Unit, padded, panels
from charrnn.nn.parameters import Array

Columns = tuple[int, int]  # the first, and that after the last
MANY_PANELS = 16  # for each worker: with so many, it hardly matters that shares are uneven


class Share(NamedTuple):
    """A worker's share of the work."""

    worker: int
    workers: int

    def of(self, n: int) -> tuple[int, int]:
        """The range of n items that is this worker's; the ranges are even and cover all."""
        return n * self.worker // self.workers, n * (self.worker + 1) // self.workers

    def of_columns(self, n: int) -> tuple[int, int]:
        """The same of n columns, in whole panels."""
        p0, p1 = self.of(panels(n))
        return p0 * PANEL, p1 * PANEL


def middle(low: int, high: int) -> int:
    """Where the tree divides the parts from low to high - 1."""
    return (low + high) // 2


@functools.cache
def additions(count: int) -> Array:
    """How often the last two sums become one after each of so many parts is computed, one after another.

    Of 4: 0, 1, 0, 2. The second is added to the first, the fourth to the third, and this sum to the other.
    """
    found = np.zeros(count, np.intp)

    def add(low: int, high: int) -> None:
        if high - low > 1:
            add(low, middle(low, high))
            add(middle(low, high), high)
            found[high - 1] += 1

    add(0, count)
    return found


class Parts:
    """The columns of each part of a window, whose gradients are added up in an order that nothing changes.

    It is that of a tree: of 8 parts, ((g0 + g1) + (g2 + g3)) + ((g4 + g5) + (g6 + g7)). Gradients are sums
    over those from `first` to before `last`.
    """

    def __init__(self, columns: Sequence[Columns]) -> None:
        self.columns = tuple(columns)
        self.first, self.last = self.all

    @property
    def all(self) -> Columns:
        """The first part, and that after the last."""
        return 0, len(self.columns)

    @property
    def are_several(self) -> bool:
        return len(self.columns) > 1

    @property
    def additions(self) -> Array:
        """See the function of this name."""
        return additions(self.last - self.first)

    def add_up(self, into: tuple[Array, ...], place: Any, compute: Callable[..., None]) -> None:
        """In each array[place], put the sum of what `compute(n, *arrays)` puts there for each part n."""
        if self.last == self.first + 1:  # as nearly always: small networks notice
            compute(self.first, *into)
            return
        sums, level = [into], 0
        for n, times in zip(range(self.first, self.last), self.additions, strict=True):
            if level == len(sums):
                sums.append(tuple(map(np.empty_like, into)))
            compute(n, *sums[level])
            level += 1
            for _ in range(times):
                level -= 1
                for left, right in zip(sums[level - 1], sums[level], strict=True):
                    np.add(left[place], right[place], out=left[place])


class Arithmetic:
    """The precision of a window's products, and the `unit` that its kernels multiply with.

    `exact` is the same without rounding, for products that are too small to gain from it. The rows of the
    products, in windows of T steps and B columns, have at most `widest` numbers.
    """

    def __init__(self, T: int, B: int, widest: int, dtype: Any, *, bfloat16: bool) -> None:
        self.rounds = bfloat16
        self.exact: Arithmetic = Arithmetic(T, B, widest, dtype, bfloat16=False) if bfloat16 else self
        self.zero = aligned((padded(widest),), dtype)
        if bfloat16:  # no power of two from one row to the next, as in gemm.padded
            self._words = aligned((T, B, whole_pairs(widest) + PANEL // 2), np.float32)
            self.unit: Unit = gemm.unit("bfloat16", self._words)
        else:
            self.unit = gemm.unit(np.dtype(dtype).name)


class Weight:
    """A weight W (N, K) as panels (panels of N, K, 32), and as those of its transpose.

    The product x W^T reads `panels`, and dy W, if it is needed, `transposed`.
    """

    def __init__(
        self,
        weight: Array,
        gradient: Array | None,
        N: int,
        arithmetic: Arithmetic,
        parts: Parts,
        *,
        with_transpose: bool,
    ) -> None:
        self._weight, self.gradient, self.N, self.K = weight, gradient, N, weight.shape[1]
        self._arithmetic, self._unit, self._rounds = arithmetic, arithmetic.unit, arithmetic.rounds
        self._parts = parts
        dtype = weight.dtype
        self.panels = weight
        if self._rounds:
            self.panels = aligned((panels(N), whole_pairs(self.K), PANEL), dtype)
        self.transposed: Array | None = None
        if with_transpose:
            shape = panels(self.K), whole_pairs(N) if self._rounds else N, PANEL
            self.transposed = aligned(shape, dtype)

    def refresh(self, share: Share) -> None:
        """Refresh a share of the copies, once a step."""
        if self._rounds:
            bfloat16.round_panels(self.panels, self._weight, *share.of(len(self.panels)))
        if self.transposed is None:
            return
        p0, p1 = share.of(len(self.transposed))
        if self._rounds:
            bfloat16.round_transposed(self.transposed, self._weight, p0, p1)
        else:
            gemm.transpose_panels(self.transposed, self._weight, self.N, p0, p1)

    def forward(self, y: Array, bias: Array, x: Array, b0: int, b1: int) -> None:
        """y = x W^T + bias in columns b0 to b1; x and y are (T, B, padded)."""
        gemm.product(self._unit, y, bias, x, self.panels, self.K, (b0, b1), NOTHING)

    def backward(self, dx: Array, plus: Array | None, dy: Array, b0: int, b1: int) -> None:
        """dx = plus + dy W."""
        start = self._arithmetic.zero if plus is None else plus
        gemm.product(self._unit, dx, start, dy, self.transposed, self.N, (b0, b1), NOTHING)

    def sum_outer_products(self, x: Rows, dy: Rows, share: Share) -> None:
        """Compute a share of the gradient of W.

        A share is some of the panels or, if there are too few to divide them evenly, some rows of all panels.
        """
        assert self.gradient is not None
        count, K = self.gradient.shape[:2]
        if count % share.workers == 0 or count > MANY_PANELS * share.workers:
            part = *share.of(count), 0, K
        else:
            part = 0, count, *share.of(K)
        A, G, zero = x.operand, dy.operand, self._arithmetic.zero
        if self._parts.are_several:
            self._sum_of_parts(A, G, self._parts.columns, x.ends, part)
        else:
            gemm.outer_product(self._unit, self.gradient, zero, A, G, len(G), part)

    def sum_outer_products_of_some(self, x: Array, dy: Array, ends: Array, share: Share) -> None:
        """The same from rows of x (U, padded K) and dy (U, padded N); a share is some panels.

        The rows of part n are those from ends[n] to ends[n + 1].
        """
        zero, part = self._arithmetic.zero, (*share.of(panels(self.N)), 0, self.K)
        if self._parts.are_several:
            self._sum_of_parts(x, dy[None], tuple(pairwise(ends)), ends, part)
        else:
            gemm.outer_product(self._unit, self.gradient, zero, x, dy, ends[1], part)

    def _sum_of_parts(
        self, A: Array, G: Array, columns: Sequence[Columns], ends: Array, part: tuple[int, ...]
    ) -> None:
        (first, last), zero = (self._parts.first, self._parts.last), self._arithmetic.zero
        tree, own = (ends[first : last + 1], self._parts.additions), np.array(columns[first:last], np.intp)
        gemm.sum_of_outer_products(self._unit, self.gradient, zero, A, G, own, tree, part)


class Rows:
    """Activations or their gradients (T, B, padded N), over which a weight's gradient is summed.

    Inputs of several parts are copied: those of part n stand one after another, from ends[n] to ends[n + 1].
    """

    def __init__(
        self, source: Array, N: int, arithmetic: Arithmetic, parts: Parts, *, are_inputs: bool = False
    ) -> None:
        self._parts = parts
        self.source, self._N, self._rounds = source, N, arithmetic.rounds
        T, B, width = source.shape
        self._flat = source.reshape(T * B, width)  # (R, padded N): a row for each position
        self._rows = source
        self._transposed: Array | None = None
        self._packed: Array | None = None
        if self._rounds:  # a row for each pair of positions, then zeros up to a whole block
            R = bfloat16.pairs(T) * B
            self._flat = aligned((_blocks(R) * LANES, width), source.dtype)
            self._rows = self._flat[:R].reshape(-1, B, width)
        steps, whole = len(self._rows), LANES if self._rounds else 1
        columns = parts.columns if parts.are_several else [(0, B)]
        counts = [-(-steps * (b1 - b0) // whole) * whole for b0, b1 in columns]
        self.ends = np.array([0, *accumulate(counts)], np.intp)
        R = int(self.ends[-1])
        if are_inputs and parts.are_several:
            self._packed = aligned((R, width), source.dtype)
        if are_inputs and self._rounds and gemm.wants_transposed(arithmetic.unit):
            self._transposed = aligned((_blocks(N) * LANES, padded(R)), source.dtype)

    def refresh(self, b0: int, b1: int) -> None:
        """Round and copy columns b0 to b1, once a step, after the source is computed."""
        if self._rounds:
            bfloat16.round_steps(self._rows, self.source, self._N, b0, b1)
        if self._packed is not None:
            for at, part in zip(self.ends, self._parts.columns, strict=False):
                first, last = max(part[0], b0), min(part[1], b1)
                if first < last:
                    kernels.rows.pack(self._packed, self._rows, at, part, first, last)

    @property
    def operand(self) -> Array:
        """The operand of products: of several parts, unless they are inputs, rows (T, B, padded N)."""
        if self._parts.are_several and self._packed is None:
            return self._rows
        found = self._flat if self._packed is None else self._packed
        return found if self._transposed is None else self._transposed

    def transpose(self, share: Share) -> None:
        """Compute a share of the transpose, if it is needed, after all columns are refreshed."""
        if self._transposed is not None:
            k0, k1 = share.of(_blocks(self._N))
            source = self._flat if self._packed is None else self._packed
            bfloat16.transpose_words(self._transposed, source, k0 * LANES, k1 * LANES)


def _blocks(n: int) -> int:
    return -(-n // LANES)
