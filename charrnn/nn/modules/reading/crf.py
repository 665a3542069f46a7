"""A linear-chain CRF: the labels of a text are one choice, in which some follow others more readily."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from charrnn import kernels
from charrnn.nn.modules.module import Shapes
from charrnn.nn.modules.reading.heads import BoundHead, Head
from charrnn.nn.modules.stream import Stream

if TYPE_CHECKING:
    from charrnn.nn.operands import Share
    from charrnn.nn.parameters import Array
    from charrnn.nn.window import Window


class CRF(Head):
    """Scores of N labels from one to the next; targets are labels (T, B), weights (B,).

    The loss is that of a text divided by its length. Names are those of the package pytorch-crf.
    """

    def __init__(self, N: int, name: str = "crf") -> None:
        super().__init__(N)
        self.transitions = f"{name}.transitions"  # from the row's label to the column's
        self.start, self.end = f"{name}.start_transitions", f"{name}.end_transitions"
        self.by_row = (self.transitions,)

    def shapes(self) -> Shapes:
        """Scores of pairs, of first labels, and of last ones."""
        return {self.start: (self.N,), self.end: (self.N,), self.transitions: (self.N, self.N)}

    def initial(self, random: np.random.Generator) -> dict[str, Array]:
        """Zeros: at first, labels are independent."""
        return {name: np.zeros(shape, np.float32) for name, shape in self.shapes().items()}

    def total(self, weights: Array, lengths: Array) -> float:
        return float(np.add.reduce(weights.astype(np.float64) * lengths, axis=None))

    def bind(self, window: Window, x: Stream) -> BoundCRF:
        return BoundCRF(self, window, x)


class BoundCRF(BoundHead):
    """The loss in a window; best labels and their probabilities."""

    def __init__(self, module: CRF, window: Window, x: Stream) -> None:
        super().__init__(window, x)
        N, (T, B), dtype, chain = module.N, (window.T, window.B), window.dtype, kernels.loops.chain
        self.targets = np.zeros((T, B), np.int32)
        self.weights, self.losses = (np.zeros(B, dtype) for _ in range(2))
        transitions, start, end = (
            window.parameters[name] for name in (module.transitions, module.start, module.end)
        )
        factors = window.array(N, 1, N)[0]
        self.chain = chain.Chain(transitions, start, end, factors, np.zeros_like(end), np.zeros(2))
        pairs = window.array(N, B, N if window.training else 0)
        self.sums = chain.Sums(window.array(N), np.zeros((T, B), dtype), pairs)
        if window.training:
            self.d_transitions = window.gradient(module.transitions)
            self.d_ends = window.gradient(module.start), window.gradient(module.end)

    def prepare(self) -> None:
        kernels.loops.chain.prepare(self.chain, self.x.N)

    def backward(self, b0: int, b1: int) -> None:
        """The loss and the gradient of the logits."""
        self._backward(self.targets, self.weights, (b0, b1))

    def _backward(self, labels: Array, weights: Array, columns: tuple[int, int]) -> None:
        chain, x, lengths = kernels.loops.chain, self.x.values, self.lengths
        chain.forward(self.losses, x, labels, self.chain, self.sums, lengths, self.x.N, columns)
        chain.backward(x, labels, weights, self.chain, self.sums, lengths, self.x.N, columns)

    def best(self, labels: Array, scores: Array, b0: int, b1: int) -> None:
        """The most probable labels (T, B), int32, and their scores (B,)."""
        chain, x = kernels.loops.chain, self.x.values
        chain.best(labels, scores, x, self.chain, self.lengths, self.x.N, (b0, b1))

    def marginals(self, b0: int, b1: int) -> None:
        """The probability of each label at each position, in the place of the logits; 0 behind a text."""
        unknown, ones = np.full_like(self.targets, -1), np.ones_like(self.weights)
        self._backward(unknown, ones, (b0, b1))

    def parameter_gradients(self, share: Share) -> None:
        chain, labels, weights = kernels.loops.chain, self.targets, self.weights
        chain.transition_gradients(
            self.d_transitions, self.sums.pairs, self.chain.factors, labels, weights, self.lengths,
            *share.of(self.x.N),
        )  # fmt: skip
        chain.end_gradients(*self.d_ends, self.x.values, self.lengths, *share.of(self.x.N))
