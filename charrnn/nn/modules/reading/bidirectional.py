"""Two recurrent layers, one of which reads each text from its end: Schuster & Paliwal 1997."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from charrnn.nn.cell import Cell
from charrnn.nn.modules.module import Bound, Module, Shapes
from charrnn.nn.modules.recurrent import Recurrent
from charrnn.nn.modules.stream import Stream

if TYPE_CHECKING:
    import numpy as np

    from charrnn.nn.parameters import Array
    from charrnn.nn.window import Window


class Bidirectional(Module):
    """Layer k of a network: D inputs and 2 H outputs at each step, those of both directions side by side.

    Parameters, names and results are those of PyTorch's layer with bidirectional=True, for packed texts.
    """

    reads_characters = True

    def __init__(self, cell: Cell, D: int, H: int, k: int, biases: Mapping[str, float]) -> None:
        self.layers = [Recurrent(cell, D, H, k, biases, reverse=reverse) for reverse in (False, True)]

    def __repr__(self) -> str:
        ahead = self.layers[0]
        return f"Bidirectional({ahead.cell.name}, {ahead.D} -> 2 x {ahead.H})"

    def flat(self) -> Iterator[Module]:
        yield from self.layers

    def shapes(self) -> Shapes:
        return {name: shape for layer in self.layers for name, shape in layer.shapes().items()}

    def initial(self, random: np.random.Generator) -> dict[str, Array]:
        return {name: value for layer in self.layers for name, value in layer.initial(random).items()}

    def bind(self, window: Window, x: Stream) -> Bound:
        """Passes over a window, where lengths decide which states begin anew."""
        return _Bound(self, window, x)


class _Bound(Bound):
    def __init__(self, module: Bidirectional, window: Window, x: Stream) -> None:
        H = module.layers[0].H
        super().__init__(x, Stream(window, 2 * H))
        self.y.is_brief = True
        self.halves = [Stream(window, H, self.y.values[..., a : a + H]) for a in (0, H)]
        self.second = x.branch()
        inputs = zip(module.layers, (x, self.second), self.halves, strict=True)
        self.inner = tuple(layer.bind(window, x, half) for layer, x, half in inputs)
        self.second.plus = x  # the second layer adds its gradient to that of the first

    def connect(self) -> None:
        if not self.y.window.training:
            return
        for half, a in zip(self.halves, (0, self.y.N // 2), strict=True):
            half.gradient = self.y.gradient[..., a : a + half.N]
        if self.second is not self.x:  # characters sum the gradients of all that read them
            self.second.gradient = self.x.gradient

    def forward(self, b0: int, b1: int, t0: int, t1: int) -> None:
        """From both ends: the steps are all of the window's."""
        for bound in self.inner:
            bound.forward(b0, b1, t0, t1)

    def backward(self, b0: int, b1: int) -> None:
        for bound in self.inner:
            bound.backward(b0, b1)
