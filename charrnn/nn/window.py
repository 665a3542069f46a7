"""Parameters, gradients and buffers for windows of T steps and B columns, to which modules are bound."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np

from charrnn import kernels
from charrnn.kernels.machine.aligned import aligned
from charrnn.kernels.products.gemm import padded
from charrnn.nn.operands import Arithmetic, Columns, Parts, Rows, Weight
from charrnn.nn.parameters import Array, Parameters


class Window:
    """All that modules need for windows of T x B; without gradients, for forward passes only.

    `weights` are those with copies to refresh in each step, `inputs` the rows whose transposes weight
    gradients may need. `lengths` (B,) are those of the texts, for networks that read whole ones; what is
    written while they are read has `target_steps` steps. `labels` (T, B, columns) are the labels of the text
    at each position. Gradients are computed for each of the `parts` alone, and added up.
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
        parts: Sequence[Columns] = (),
    ) -> None:
        self.parameters, self.gradients, self.T, self.B = parameters, gradients, T, B
        self.dtype, self.training = parameters.flat.dtype, gradients is not None
        self.parts = Parts(parts or [(0, B)])
        self.lengths = np.full(B, T, np.int32)
        self.labels = np.zeros((T, B, columns), np.int32)
        self._sizes: list[int] = []  # of the buffers
        self._begin(bfloat16=bfloat16)
        self.weights: list[Weight] = []
        self.inputs: list[Rows] = []

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
        return found

    def numbers(self) -> Array:
        """Zeros (T, B)."""
        return np.zeros((self.T, self.B), self.dtype)

    @property
    def nbytes(self) -> int:
        """The size of what `array` has made, here and in windows of other steps."""
        return sum(self._sizes)

    def column_sums(
        self, total: Array, rows: Array, j0: int, j1: int, ranges: Sequence[Columns] | None = None
    ) -> None:
        """A bias's gradient: total[j] = the sum of rows[t, b, j], that of each part by itself.

        `ranges` are the b of each part, if they are not columns of the window.
        """
        own = ranges or (self.parts.columns if self.parts.are_several else [(0, rows.shape[1])])

        def compute(n: int, some: Array) -> None:
            kernels.rows.column_sums(some, rows, own[n], j0, j1)

        self.parts.add_up((total,), slice(j0, j1), compute)

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
            self.parameters[name], gradient, self.parameters.shapes[name][0], arithmetic, self.parts,
            with_transpose=with_transpose and self.training,
        )  # fmt: skip
        if arithmetic.rounds or weight.transposed is not None:
            self.weights.append(weight)
        return weight

    def rows(self, source: Array, N: int, *, are_inputs: bool = False) -> Rows:
        """Rows over which a weight's gradient is summed."""
        rows = Rows(source, N, self.arithmetic, self.parts, are_inputs=are_inputs)
        if are_inputs:
            self.inputs.append(rows)
        return rows
