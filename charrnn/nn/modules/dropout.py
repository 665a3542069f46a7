"""Dropout: in training, random numbers become 0, and the others are scaled up."""

from __future__ import annotations

from typing import TYPE_CHECKING

from charrnn import kernels
from charrnn.nn.modules.module import Bound, Module
from charrnn.nn.modules.stream import Stream

if TYPE_CHECKING:
    from charrnn.nn.modules.program import Program, Value
    from charrnn.nn.parameters import Array
    from charrnn.nn.window import Window


class Dropout(Module):
    """Each number is dropped with the probability `rate`."""

    def __init__(self, rate: float) -> None:
        self.rate = rate

    def __repr__(self) -> str:
        return f"Dropout({self.rate})"

    def bind(self, window: Window, x: Stream) -> BoundDropout:
        """Passes over a window."""
        return BoundDropout(self, window, x)

    def step(self, program: Program, x: Value) -> Value:
        """Nothing is dropped when text is written."""
        return x


class BoundDropout(Bound):
    """Drops in columns that have a key, which decides what is dropped; in place where that is allowed."""

    keys: tuple[tuple[int, int, int], ...] = ()  # of the columns from the first to before the last: the key

    def __init__(self, module: Dropout, window: Window, x: Stream) -> None:
        super().__init__(x, Stream(window, x.N) if x.fixed else x)
        self.rate, self.in_place = module.rate, not x.fixed
        self.y.changed = True

    def forward(self, b0: int, b1: int, t0: int, t1: int) -> None:
        """Drop. With keys, the steps are all of the window's."""
        y = self.y.values[t0:t1]
        if not self.in_place:
            kernels.rows.copy(y, self.x.values[t0:t1], self.x.N, b0, b1)
        self._drop(y, b0, b1)

    def backward(self, b0: int, b1: int) -> None:
        """Drop the same."""
        dx = self.x.gradient
        if not self.in_place:
            kernels.rows.copy(dx, self.y.gradient, self.x.N, b0, b1)
        self._drop(dx, b0, b1)

    def _drop(self, y: Array, b0: int, b1: int) -> None:
        for first, last, key in self.keys:
            columns = max(first, b0), min(last, b1)
            if columns[0] < columns[1]:
                kernels.rows.dropout(y, key, self.rate, self.y.N, columns, (first, last))
