"""Networks that read whole texts of different lengths, and label or rewrite them.

Axes: T time, B batch, V characters. Windows are time-major; a text begins at step 0 and may be shorter than
its window: what is behind its end changes nothing.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from charrnn.config import ModelConfig
from charrnn.nn.modules.linear import Linear
from charrnn.nn.modules.module import Sequential
from charrnn.nn.modules.reading.crf import CRF, BoundCRF
from charrnn.nn.modules.reading.heads import BoundHead, Classes, Positions
from charrnn.nn.modules.reading.pooling import AttentionPooling
from charrnn.nn.network import State
from charrnn.nn.operands import Share
from charrnn.nn.parameters import Array
from charrnn.nn.passes import Parametrized, Passes
from charrnn.nn.window import Window
from charrnn.nn.workers import Phase, Workers


class Batch(NamedTuple):
    """Texts and what is to be learned of them; for targets and weights see the network's head."""

    x: Array  # (T, B) ids
    lengths: Array  # (B,), from 1 to T
    targets: Array
    weights: Array


def classifier(config: ModelConfig, classes: int) -> Sequential:
    """Reads in both directions, pools by attention, and tells the class of a text."""
    H = config.hidden_size
    pooled = AttentionPooling(2 * H, H), Linear(2 * H, classes, "decoder"), Classes(classes)
    return Sequential(*config.layers(both_ways=True), *pooled)


def labeller(config: ModelConfig, labels: int) -> Sequential:
    """Reads in both directions, and tells a label of each character."""
    decoder = Linear(2 * config.hidden_size, labels, "decoder")
    return Sequential(*config.layers(both_ways=True), decoder, Positions(labels))


def tagger(config: ModelConfig, labels: int) -> Sequential:
    """The same for labels that depend on those beside them."""
    decoder = Linear(2 * config.hidden_size, labels, "decoder")
    return Sequential(*config.layers(both_ways=True), decoder, CRF(labels))


class _Passes(Passes):
    """A network that reads, bound to a window."""

    head: BoundHead

    def bind_loss(self) -> None:
        head = self.modules.inner[-1]
        assert isinstance(head, BoundHead)
        self.head = head

    def read(self, x: Array, lengths: Array) -> None:
        """Load a window's texts and prepare all modules. What is behind a text has the zero state."""
        window, steps = self.window, np.arange(self.window.T)[:, None]
        window.lengths[:] = lengths
        self.ids.read(np.where(steps < lengths, x, self.ids.V))
        self.characters.fill()
        for layer in self.layers:
            rows = np.where(steps < lengths - layer.reverse, -1, 0)
            zeros = [[np.zeros((n, width), window.dtype) for width in layer.widths] for n in (window.B, 1)]
            layer.start(tuple(zeros[0]), rows, tuple(zeros[1]))
        for bound in self.flat:
            bound.prepare()


class Reader(Parametrized[_Passes]):
    """A network that ends in a head, over texts of V characters. See Parametrized."""

    def __init__(
        self,
        network: Sequential,
        V: int,
        *,
        workers: Workers | None = None,
        dtype: Any = np.float32,
        bfloat16: bool = False,
        reads_bfloat16: bool = False,
    ) -> None:
        super().__init__(network, workers, dtype, bfloat16, reads_bfloat16)
        self.V = V

    def _bind(self, window: Window, *sizes: int) -> _Passes:
        return _Passes(self.network, self.V, window)

    def zero_state(self, B: int) -> State:
        """Nothing: texts do not continue from one batch to the next."""
        return State(())

    def gradient(self, batch: Batch, dropout_seed: int | None = None, then: tuple[Phase, ...] = ()) -> float:
        """Put the gradient of the mean loss into `gradients`; return that loss. See Model.gradient."""
        passes = self._bound(True, *batch.x.shape)
        passes.read(batch.x, batch.lengths)
        passes.head.load(batch.targets, batch.weights, batch.lengths)
        passes.drop(dropout_seed)

        def pass_over(share: Share) -> None:
            b0, b1 = share.of(passes.window.B)
            passes.modules.forward(b0, b1, 0, passes.window.T)
            passes.modules.backward(b0, b1)

        self.workers.run(passes.prepare_share, pass_over, *passes.after_columns(), *then)
        return passes.head.loss()

    def learn(
        self, batch: Batch, carry: State | None, key: int, then: tuple[Phase, ...]
    ) -> tuple[float, State]:
        """A gradient as `Learner` asks for it."""
        return self.gradient(batch, key, then), State(())

    def losses(self, batch: Batch) -> Array:
        """The loss of each text (B,) or position (T, B) in nats, not weighted; 0 where the weight is."""
        return self._compared(batch).losses.copy()

    def loss(self, batch: Batch) -> float:
        """The weighted mean of the losses."""
        return self._compared(batch).loss()

    def _compared(self, batch: Batch) -> BoundHead:
        head = self._bound(False, *batch.x.shape).head
        head.load(batch.targets, batch.weights, batch.lengths)
        self._forward(batch.x, batch.lengths, head.backward)
        return head

    def forward(self, x: Array, lengths: Array) -> Array:
        """The logits: (B, N) of whole texts, or (T, B, N)."""
        y = self._forward(x, lengths).modules.y
        logits = y.values[..., : y.N].copy()
        return logits[0] if isinstance(self.network.modules[-1], Classes) else logits

    def best(self, x: Array, lengths: Array) -> tuple[Array, Array]:
        """The most probable labels (T, B) by a CRF, 0 behind a text, and their scores (B,)."""
        labels, scores = np.zeros(x.shape, np.int32), np.zeros(x.shape[1], self.dtype)
        head = self._crf(x)
        self._forward(x, lengths, lambda b0, b1: head.best(labels, scores, b0, b1))
        return labels, scores

    def marginals(self, x: Array, lengths: Array) -> Array:
        """The probability of each label at each position (T, B, N) by a CRF; 0 behind a text."""
        y = self._forward(x, lengths, self._crf(x).marginals).modules.y
        return y.values[..., : y.N].copy()

    def _crf(self, x: Array) -> BoundCRF:
        head = self._bound(False, *x.shape).head
        assert isinstance(head, BoundCRF)
        return head

    def _forward(self, x: Array, lengths: Array, then: Any = None) -> _Passes:
        """The passes with their logits, after which `then` is called for all columns."""
        passes = self._bound(False, *x.shape)
        passes.read(x, lengths)

        def pass_over(share: Share) -> None:
            columns = share.of(passes.window.B)
            passes.modules.forward(*columns, 0, passes.window.T)
            if then is not None:
                then(*columns)

        self.workers.run(passes.prepare_share, pass_over)
        return passes
