"""A residual connection: the input of some modules is added to their output."""

from __future__ import annotations

from typing import TYPE_CHECKING

from charrnn import kernels
from charrnn.nn.modules.module import BoundSequential, Sequential
from charrnn.nn.modules.stream import Stream

if TYPE_CHECKING:
    from charrnn.nn.modules.program import Character, Program, Value
    from charrnn.nn.window import Window


class Residual(Sequential):
    """y = x + the modules' output, which has the width of x."""

    def bind(self, window: Window, x: Stream) -> BoundSequential:
        """Passes over a window."""
        return _Bound(super().bind(window, x.branch()), window, x)

    def step(self, program: Program, x: Value | Character) -> Value:
        y = program.row(super().step(program, x))
        return program.sum(y, program.row(x))


class _Bound(BoundSequential):
    def __init__(self, body: BoundSequential, window: Window, x: Stream) -> None:
        self.end = body.y
        # A gradient that is changed in place in the backward pass is no longer that of x.
        super().__init__(x, Stream(window, x.N) if self.end.changed else self.end, body.inner)
        self.branch = body.x
        x.join(self.branch, self.y)

    def forward(self, b0: int, b1: int, t0: int, t1: int) -> None:
        super().forward(b0, b1, t0, t1)
        if self.end is not self.y:
            kernels.rows.copy(self.y.values[t0:t1], self.end.values[t0:t1], self.y.N, b0, b1)
        self.x.add_to(self.y, b0, b1, t0, t1)

    def backward(self, b0: int, b1: int) -> None:
        if self.end is not self.y:
            kernels.rows.copy(self.end.gradient, self.y.gradient, self.y.N, b0, b1)
        super().backward(b0, b1)
        self.x.share_gradient(self.branch, b0, b1)
