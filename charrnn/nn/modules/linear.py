"""A linear layer, such as the decoder."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from charrnn.nn.modules.module import Bound, Module, Shapes
from charrnn.nn.modules.stream import Stream

if TYPE_CHECKING:
    from charrnn.nn.modules.program import Program, Value
    from charrnn.nn.operands import Share
    from charrnn.nn.parameters import Array
    from charrnn.nn.window import Window


class Linear(Module):
    """y = W x + b, from K to N numbers."""

    def __init__(self, K: int, N: int, name: str) -> None:
        self.K, self.N, self.weight, self.bias = K, N, f"{name}.weight", f"{name}.bias"

    def __repr__(self) -> str:
        return f"Linear({self.K} -> {self.N})"

    def shapes(self) -> Shapes:
        """W and b."""
        return {self.weight: (self.N, self.K), self.bias: (self.N,)}

    def initial(self, random: np.random.Generator) -> dict[str, Array]:
        """Uniform within 1 / sqrt(K), as is usual for K inputs; no bias."""
        weight = random.uniform(-1.0, 1.0, (self.N, self.K)) / np.sqrt(self.K)
        return {self.weight: weight.astype(np.float32), self.bias: np.zeros(self.N, np.float32)}

    def bind(self, window: Window, x: Stream) -> Bound:
        """Passes over a window."""
        return _Bound(self, window, x)

    def step(self, program: Program, x: Value) -> Value:
        return program.product(x, self.weight, self.bias)


class _Bound(Bound):
    def __init__(self, module: Linear, window: Window, x: Stream) -> None:
        super().__init__(x, Stream(window, module.N))
        self.weight = window.weight(module.weight, with_transpose=x.wants_gradient)
        self.bias = window.parameters[module.bias]
        x.adds = True
        if window.training:
            self.d_bias = window.gradient(module.bias)
            self.x_rows = x.rows

    def connect(self) -> None:
        if self.y.window.training:
            if self.x.wants_gradient:
                _ = self.x.gradient  # is made now, rather than by several threads at once
            self.dy_rows = self.y.window.rows(self.y.gradient, self.y.N)

    def forward(self, b0: int, b1: int, t0: int, t1: int) -> None:
        self.weight.forward(self.y.values[t0:t1], self.bias, self.x.values[t0:t1], b0, b1)

    def backward(self, b0: int, b1: int) -> None:
        if self.x.wants_gradient:
            self.weight.backward(self.x.gradient, self.x.skipped(), self.y.gradient, b0, b1)
        self.dy_rows.refresh(b0, b1)
        self.x_rows.refresh(b0, b1)

    def parameter_gradients(self, share: Share) -> None:
        self.weight.sum_outer_products(self.x_rows, self.dy_rows, share)
        self.y.window.column_sums(self.d_bias, self.y.gradient, *share.of_columns(self.y.N))
