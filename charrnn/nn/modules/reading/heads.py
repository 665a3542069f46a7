"""The last module of a network that reads: it compares the logits with targets, as a weighted mean of nats.

A target with the weight 0 is not learned from.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from charrnn import kernels
from charrnn.nn.modules.module import Bound, Module
from charrnn.nn.modules.stream import Stream

if TYPE_CHECKING:
    from charrnn.nn.parameters import Array
    from charrnn.nn.window import Window


class BoundHead(Bound):
    """The loss in a window. `backward` computes it, and with it the gradient, which overwrites the logits.

    `losses` are in nats, not weighted; `targets`, `weights` and `losses` stay as they are between windows.
    """

    targets: Array
    weights: Array
    losses: Array
    beside: Array | None = None  # (B, N), of Classes: is added to the logits of a window

    def __init__(self, window: Window, x: Stream) -> None:
        super().__init__(x, x)
        self.lengths = window.lengths
        if window.training:
            x.gradient = x.values

    def load(self, targets: Array, weights: Array, total: float, beside: Array | None = None) -> None:
        """Take the targets of a window, its weights by their share of the total, and what is beside it."""
        self.targets[:], self.beside = targets, beside
        self.weights[:] = weights / total if total else 0

    def loss(self) -> float:
        """The mean loss, once all columns are done."""
        return float(np.add.reduce(self.weights.astype(np.float64) * self.losses, axis=None))


class Head(Module):
    """The loss of N logits, as the last module of a network."""

    def __init__(self, N: int) -> None:
        self.N = N

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.N})"

    def total(self, weights: Array, lengths: Array) -> float:
        """The sum of the weights of texts, each as it counts."""
        return float(np.add.reduce(weights.astype(np.float64), axis=None))


class Positions(Head):
    """Softmax cross-entropy at each position: targets and weights are (T, B)."""

    def bind(self, window: Window, x: Stream) -> BoundHead:
        return _BoundPositions(window, x)


class Classes(Head):
    """The same for whole texts, whose classes are asked for in several columns of so many logits each.

    Targets are distributions (B, N) side by side, for a text may have several classes; one of zeros is not
    known. The loss is the sum over the columns; weights are (B,).
    """

    def __init__(self, *sizes: int) -> None:
        super().__init__(sum(sizes))
        self.sizes = sizes

    def __repr__(self) -> str:
        return f"Classes({', '.join(map(str, self.sizes))})"

    def bind(self, window: Window, x: Stream) -> BoundHead:
        return _BoundClasses(window, x, self.sizes)


class _BoundPositions(BoundHead):
    def __init__(self, window: Window, x: Stream) -> None:
        super().__init__(window, x)
        shape = window.T, window.B
        self.targets = np.zeros(shape, np.int32)
        self.weights, self.losses = (np.zeros(shape, window.dtype) for _ in range(2))

    def backward(self, b0: int, b1: int) -> None:
        x = self.x
        kernels.loss.cross_entropy(x.values, self.targets, self.weights, self.losses, x.N, b0, b1)


class _BoundClasses(BoundHead):
    def __init__(self, window: Window, x: Stream, sizes: tuple[int, ...]) -> None:
        super().__init__(window, x)
        self.bounds = np.cumsum((0, *sizes))
        self.targets = np.zeros((window.B, x.N), window.dtype)
        self.weights, self.losses = (np.zeros(window.B, window.dtype) for _ in range(2))

    def backward(self, b0: int, b1: int) -> None:
        x = self.x
        if self.beside is not None:
            x.values[0, b0:b1, : x.N] += self.beside[b0:b1]
        kernels.loss.soft_cross_entropy(
            x.values, self.targets, self.weights, self.losses, self.bounds, b0, b1
        )
