"""A network that reads windows of text, with counts beside it, in the place of charrnn.nn.network.Model.

The counts' context is a further layer of the state: the last characters of each column.

MixedModel has those of the training text, GrowingModel those of the text that it reads, beside either.
"""

from __future__ import annotations

import numpy as np

from charrnn.checkpoint.model_file import Checkpoint
from charrnn.counts.compiled import CompiledLookup, begins
from charrnn.counts.gate import GatedCounts
from charrnn.counts.growing import GrowingCounts
from charrnn.kernels.loops import mixing
from charrnn.nn.network import Model, State
from charrnn.nn.operands import Share
from charrnn.nn.parameters import Array, Parameters
from charrnn.nn.workers import Workers


class MixedModel:
    """See Model: probabilities are those of the mixture, and gradients those of the network alone."""

    def __init__(self, model: Model, gated: GatedCounts, lookup: CompiledLookup | None = None) -> None:
        """`lookup` is that of the counts, if it is there already."""
        self.alone, self._gated = model, gated
        self.lookup = lookup or CompiledLookup(gated.counts)
        self.config, self.workers, self.parameters = model.config, model.workers, model.parameters
        self._reading: MixedModel | None = None  # the same, while `alone` has windows for gradients

    @property
    def gradients(self) -> Parameters:
        """The gradient of the last `gradient()`."""
        return self.alone.gradients

    def zero_state(self, B: int) -> State:
        """The state before anything was read, for B columns."""
        return State((*self.alone.zero_state(B).layers, (self.lookup.nothing(B),)))

    def forward(
        self,
        x: Array,
        state: State | None = None,
        reset: Array | None = None,
        labels: Array | None = None,
    ) -> tuple[Array, State]:
        """log p (T, B, V) of what follows each character of x (T, B), and the state after the last."""
        inner, before = _parted(state or self.zero_state(x.shape[1]))
        logits, inner = self.alone.forward(x, inner, reset, labels)
        contexts, after = self._follow(x, reset, before)
        flat = logits.reshape(x.size, -1)

        def mix(share: Share) -> None:
            some = slice(*share.of(x.size))
            mixing.predictions(flat[some], *self.lookup.predict(contexts[some]), self._gated.gate.flat)

        self.workers.run(mix)
        return logits, _joined(inner, after)

    def losses(
        self,
        x: Array,
        y: Array,
        state: State | None = None,
        reset: Array | None = None,
        labels: Array | None = None,
    ) -> tuple[Array, State]:
        """-log p(y) in nats for each position (T, B), and the state after the last character."""
        inner, before = _parted(state or self.zero_state(x.shape[1]))
        doubts = np.empty((x.size, 2), np.float32)
        nats, inner = self.alone.losses(x, y, inner, reset, labels, doubts)
        contexts, after = self._follow(x, reset, before)
        mixed = self._mixed(nats.reshape(-1), doubts, contexts, np.arange(x.size), y.reshape(-1))
        return mixed.reshape(x.shape), _joined(inner, after)

    def read(
        self, x: Array, restart_rows: Array, restarts: State, state: State | None, places: Array, ids: Array,
        kept: Array,
    ) -> tuple[Array, State, State]:  # fmt: skip
        """See Model.read."""
        inner, before = _parted(state or self.zero_state(x.shape[1]))
        begun, first = _parted(restarts)
        doubts = np.empty((len(ids), 2), np.float32)
        nats, left, inner = self.alone.read(x, restart_rows, begun, inner, places, ids, kept, doubts)
        contexts, after = self.lookup.follow(x, restart_rows, first, before)
        mixed = self._mixed(nats, doubts, contexts, places, ids)
        return mixed, _joined(left, contexts[kept]), _joined(inner, after)

    def gradient(
        self, x: Array, y: Array, state: State, reset: Array, *, labels: Array | None = None
    ) -> tuple[float, State]:
        """The mean loss of the mixture, and the state; `gradients` are those of the network's own loss."""
        if self._reading is None:
            self._reading = self.for_reading()
        nats, _ = self._reading.losses(x, y, state, reset, labels)
        inner, before = _parted(state)
        _, inner = self.alone.gradient(x, y, inner, reset, labels=labels)
        _, after = self._follow(x, reset, before)
        return float(np.mean(nats, dtype=np.float64)), _joined(inner, after)

    def for_reading(self) -> MixedModel:
        """The same, with windows of its own."""
        return MixedModel(self.alone.for_reading(), self._gated, self.lookup)

    def _follow(self, x: Array, reset: Array | None, before: Array) -> tuple[Array, Array]:
        """The contexts (T * B, n - 1) after each character of x, and those after the last (B, n - 1)."""
        rows = begins(np.zeros(x.shape, np.bool_) if reset is None else reset)
        return self.lookup.follow(x, rows, self.lookup.nothing(1), before)

    def _mixed(self, nats: Array, doubts: Array, contexts: Array, places: Array, ids: Array) -> Array:
        """-log p (n,) under the mixture, from those under the network; see Model.read."""
        nats = np.ascontiguousarray(nats, np.float32)

        def mix(share: Share) -> None:
            some = slice(*share.of(len(nats)))
            chances, told = self.lookup.score_after(contexts, places[some], ids[some])
            mixing.nats(nats[some], doubts[some], chances, told, self._gated.gate.flat)

        self.workers.run(mix)
        return nats


class GrowingModel:
    """A model beside which counts go on counting what it reads, in one column; see charrnn.counts.growing.

    What is read last is a further layer of its state. Losses depend on all that was read before, in order.
    """

    def __init__(self, model: AnyNetwork, counts: GrowingCounts) -> None:
        self._model, self._counts = model, counts
        self._reading = model.for_reading()
        self.config, self.workers, self.parameters = model.config, model.workers, model.parameters

    @property
    def gradients(self) -> Parameters:
        """The gradient of the last `gradient()`."""
        return self._model.gradients

    def zero_state(self, B: int = 1) -> State:
        """The state before anything was read, for one column."""
        return State((*self._model.zero_state(B).layers, (self._counts.nothing()[None],)))

    def losses(
        self,
        x: Array,
        y: Array,
        state: State | None = None,
        reset: Array | None = None,
        labels: Array | None = None,
    ) -> tuple[Array, State]:
        """-log p(y) in nats for each position (T, 1), which is then learned, and the state after the last.

        Where y is -1, the loss is 0 and nothing is learned: x is only read.
        """
        inner, (past,) = _parted(state or self.zero_state())
        logits, inner = self._reading.forward(x, inner, reset, labels)
        starts = np.zeros(len(x), np.bool_) if reset is None else reset[:, 0]
        past, read, following = past.copy(), x[:, 0].astype(np.int32), y[:, 0].astype(np.int32)
        nats = self._counts.read(logits[:, 0], read, following, starts, past)
        return nats.astype(np.float32)[:, None], _joined(inner, past[None])

    def gradient(
        self, x: Array, y: Array, state: State, reset: Array, *, labels: Array | None = None
    ) -> tuple[float, State]:
        """The mean loss, and the state; `gradients` are those of the network's own loss."""
        nats, after = self.losses(x, y, state, reset, labels)
        inner, _ = _parted(state)
        self._model.gradient(x, y, inner, reset, labels=labels)
        return float(np.mean(nats, dtype=np.float64)), after


AnyNetwork = Model | MixedModel
InOrder = AnyNetwork | GrowingModel  # what may read in order, in one column


def _parted(state: State) -> tuple[State, Array]:
    """The network's state, and the contexts."""
    *layers, (contexts,) = state.layers
    return State(tuple(layers)), contexts


def _joined(state: State, contexts: Array) -> State:
    return State((*state.layers, (contexts,)))


def model_of(checkpoint: Checkpoint, threads: int | None, *, reads_bfloat16: bool = False) -> AnyNetwork:
    """The checkpoint's network to read texts with, and what stands beside it; see Model."""
    model = Model(checkpoint.config, workers=Workers(threads), reads_bfloat16=reads_bfloat16)
    model.load_tensors(checkpoint.tensors)
    return model if checkpoint.counts is None else MixedModel(model, checkpoint.counts)
