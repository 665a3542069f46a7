"""Layer norm: each row is normalised to mean 0 and variance 1, then multiplied and shifted by parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from charrnn import kernels
from charrnn.nn.modules.module import Bound, Module, Shapes
from charrnn.nn.modules.stream import Stream

if TYPE_CHECKING:
    from charrnn.nn.modules.program import Program, Value
    from charrnn.nn.operands import Share
    from charrnn.nn.parameters import Array
    from charrnn.nn.window import Window


class LayerNorm(Module):
    """Of H numbers; the names of its parameters begin with `name`."""

    def __init__(self, H: int, name: str) -> None:
        self.H, self.weight, self.bias = H, f"{name}.weight", f"{name}.bias"

    def __repr__(self) -> str:
        return f"LayerNorm({self.H})"

    def shapes(self) -> Shapes:
        """Scale and bias."""
        return {self.weight: (self.H,), self.bias: (self.H,)}

    def initial(self, random: np.random.Generator) -> dict[str, Array]:
        """Ones and zeros, which change nothing."""
        return {self.weight: np.ones(self.H, np.float32), self.bias: np.zeros(self.H, np.float32)}

    def bind(self, window: Window, x: Stream) -> Bound:
        """Passes over a window."""
        return _Bound(self, window, x)

    def step(self, program: Program, x: Value) -> Value:
        return program.norm(x, self.weight, self.bias)


class _Bound(Bound):
    def __init__(self, module: LayerNorm, window: Window, x: Stream) -> None:
        super().__init__(x, Stream(window, module.H))
        self.H = module.H
        self.weight, self.bias = window.parameters[module.weight], window.parameters[module.bias]
        mean, scale = window.numbers(), window.numbers()
        self.statistics = kernels.norm.Statistics(mean, scale)
        if window.training:
            self.d_weight, self.d_bias = window.gradient(module.weight), window.gradient(module.bias)
            if x.is_brief:
                x.gradient = window.scratch("gradient of an output", x.N)

    def forward(self, b0: int, b1: int, t0: int, t1: int) -> None:
        steps = slice(t0, t1)
        y, x = self.y.values[steps], self.x.values[steps]
        statistics = kernels.norm.Statistics(*(array[steps] for array in self.statistics))
        kernels.norm.forward(y, x, statistics, self.weight, self.bias, self.H, (b0, b1))

    def backward(self, b0: int, b1: int) -> None:
        dx, dy, x = self.x.gradient, self.y.gradient, self.x.values
        kernels.norm.backward(dx, dy, x, self.statistics, self.weight, self.H, (b0, b1))

    def parameter_gradients(self, share: Share) -> None:
        parts, (j0, j1) = self.y.window.parts, share.of(self.H)

        def compute(n: int, d_weight: Array, d_bias: Array) -> None:
            dy, x, columns = self.y.gradient, self.x.values, parts.columns[n]
            kernels.norm.parameter_gradients(d_weight, d_bias, dy, x, self.statistics, columns, j0, j1)

        parts.add_up((self.d_weight, self.d_bias), slice(j0, j1), compute)
