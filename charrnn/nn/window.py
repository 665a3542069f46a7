"""Parameters, gradients and buffers for windows of T steps and B columns, to which modules are bound."""

from __future__ import annotations

import copy

import numpy as np

from charrnn.kernels.machine.aligned import aligned
from charrnn.kernels.products.gemm import padded
from charrnn.nn.operands import Arithmetic, Rows, Share, Weight
from charrnn.nn.parameters import Array, Parameters


class Window:
    """All that modules need for windows of T x B; without gradients, for forward passes only.

    `weights` are those with copies to refresh in each step, `operands` the rows over which weight gradients
    are summed, `inputs` those of them whose transposes these may need. `lengths` (B,) are those of the texts,
    for networks that read whole ones; what is written while they are read has `target_steps` steps. `labels`
    (T, B, columns) are the labels of the text at each position.
    """

    target_steps = 0

    def __init__(
        self,
        parameters: Parameters,
        gradients: Parameters | None,
        T: int,
        B: int,
        *,
        bfloat16: bool = False,
        columns: int = 0,
    ) -> None:
        self.parameters, self.gradients, self.T, self.B = parameters, gradients, T, B
        self.dtype, self.training = parameters.flat.dtype, gradients is not None
        self.lengths = np.full(B, T, np.int32)
        self.labels = np.zeros((T, B, columns), np.int32)
        self._sizes: list[int] = []  # of the buffers
        self._by_column: list[Array] = []  # those of them that are (.., B, ..)
        self._begin(bfloat16=bfloat16)
        self.weights: list[Weight] = []
        self.inputs: list[Rows] = []
        self.operands: list[Rows] = []

    def _begin(self, *, bfloat16: bool) -> None:
        widest = max(max(shape) for shape in self.parameters.shapes.values())
        self.arithmetic = Arithmetic(self.T, self.B, widest, self.dtype, bfloat16=bfloat16)
        self._scratch: dict[tuple[str, int], Array] = {}

    def of_steps(self, T: int) -> Window:
        """A window of T steps beside this one, for the same texts and parameters."""
        window = copy.copy(self)
        window.T = T
        window._begin(bfloat16=self.arithmetic.rounds)
        return window

    def array(self, N: int, steps: int | None = None, columns: int | None = None) -> Array:
        """Zeros (T, B, padded N); an empty array if N is 0."""
        shape = self.T if steps is None else steps, self.B if columns is None else columns
        found = aligned((*shape, padded(N) if N else 0), self.dtype)
        self._sizes.append(found.nbytes)
        if columns is None:
            self._by_column.append(found)
        return found

    def numbers(self) -> Array:
        """Zeros (T, B)."""
        found = np.zeros((self.T, self.B), self.dtype)
        self._by_column.append(found)
        return found

    def take_columns(self, other: Window, b0: int, share: Share) -> None:
        """Copy a share of the buffers from the columns of another window of this network, from b0 on."""
        for own, theirs in zip(self._by_column, other._by_column, strict=True):
            t0, t1 = share.of(len(own))
            own[t0:t1] = theirs[t0:t1, b0 : b0 + self.B]

    def round_operands(self, share: Share) -> None:
        """Refresh a share of the operands of weight gradients, after `take_columns`."""
        for rows in self.operands:
            rows.refresh(*share.of(self.B))

    @property
    def nbytes(self) -> int:
        """The size of what `array` has made, here and in windows of other steps."""
        return sum(self._sizes)

    def scratch(self, purpose: str, N: int) -> Array:
        """A buffer like `array` that all modules with this purpose share; its values last for one step."""
        if (purpose, N) not in self._scratch:  # less memory, of which more fits into the caches
            self._scratch[purpose, N] = self.array(N)
        return self._scratch[purpose, N]

    def gradient(self, name: str) -> Array:
        """The array for a parameter's gradient. Only for training."""
        assert self.gradients is not None
        return self.gradients[name]

    def weight(self, name: str, *, exact: bool = False, with_transpose: bool = True) -> Weight:
        """The parameter (N, K) as a factor of products. Only training needs its transpose."""
        arithmetic = self.arithmetic.exact if exact else self.arithmetic
        gradient = self.gradient(name) if self.training else None
        weight = Weight(
            self.parameters[name], gradient, self.parameters.shapes[name][0], arithmetic,
            with_transpose=with_transpose and self.training,
        )  # fmt: skip
        if arithmetic.rounds or weight.transposed is not None:
            self.weights.append(weight)
        return weight

    def rows(self, source: Array, N: int, *, are_inputs: bool = False) -> Rows:
        """Rows over which a weight's gradient is summed."""
        rows = Rows(source, N, self.arithmetic, are_inputs=are_inputs)
        self.operands.append(rows)
        if are_inputs:
            self.inputs.append(rows)
        return rows
