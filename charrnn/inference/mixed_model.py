"""What stands beside a network that reads windows of text, in the place of charrnn.nn.network.Model.

MixedModel has counts of the training text; their context, the last characters of each column, is a further
layer of the state. RecallingModel has a cache beside either, which is a further layer, too. GrowingModel has
counts of the text that it reads, beside any of these.
"""

from __future__ import annotations

import numpy as np

from charrnn.checkpoint.model_file import Checkpoint
from charrnn.config import CacheConfig
from charrnn.counts.compiled import CompiledLookup, begins
from charrnn.counts.gate import GatedCounts
from charrnn.counts.growing import GrowingCounts
from charrnn.kernels.loops.beside import mixing, recall
from charrnn.nn.network import Model, State
from charrnn.nn.operands import Share
from charrnn.nn.parameters import Array, Parameters
from charrnn.nn.workers import Workers
from charrnn.ranks.ranks import Ranks


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
        symbols = self._gated.symbols_of(labels, x.size)
        flat = logits.reshape(x.size, -1)

        def mix(share: Share) -> None:
            some = slice(*share.of(x.size))
            predicted = self.lookup.predict(contexts[some], symbols[some])
            mixing.predictions(flat[some], *predicted, self._gated.gate.numbers)

        self.workers.run(mix)
        return logits, _joined(inner, after)

    def losses(
        self,
        x: Array,
        y: Array,
        state: State | None = None,
        reset: Array | None = None,
        labels: Array | None = None,
        own: Array | None = None,
    ) -> tuple[Array, State]:
        """-log p(y) in nats for each position (T, B), and the state after the last character.

        `own` (T, B), if given, becomes those of the network alone.
        """
        inner, before = _parted(state or self.zero_state(x.shape[1]))
        doubts = np.empty((x.size, 2), np.float32)
        nats, inner = self.alone.losses(x, y, inner, reset, labels, doubts)
        if own is not None:
            own[:] = nats
        contexts, after = self._follow(x, reset, before)
        known = contexts, self._gated.symbols_of(labels, x.size)
        mixed = self._mixed(nats.reshape(-1), doubts, known, np.arange(x.size), y.reshape(-1))
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
        known = contexts, self._gated.symbols_of(None, x.size)
        mixed = self._mixed(nats, doubts, known, places, ids)
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
        return self.with_network(self.alone.for_reading())

    def with_network(self, model: Model) -> MixedModel:
        """The same counts beside another network."""
        return MixedModel(model, self._gated, self.lookup)

    def with_counts(self, gated: GatedCounts) -> MixedModel:
        """The same network, windows included, beside the same counts, of texts with other labels."""
        return MixedModel(self.alone, gated, self.lookup)

    def _follow(self, x: Array, reset: Array | None, before: Array) -> tuple[Array, Array]:
        """The contexts (T * B, n - 1) after each character of x, and those after the last (B, n - 1)."""
        return self.lookup.follow(x, _begun(x, reset), self.lookup.nothing(1), before)

    def _mixed(
        self, nats: Array, doubts: Array, known: tuple[Array, Array], places: Array, ids: Array
    ) -> Array:
        """-log p (n,) under the mixture, from those under the network; see Model.read.

        `known` are the contexts (T * B, n - 1), and the symbols of labels (T * B, columns).
        """
        nats = np.ascontiguousarray(nats, np.float32)

        def mix(share: Share) -> None:
            some = slice(*share.of(len(nats)))
            chances, told = self.lookup.score_after(known, places[some], ids[some])
            mixing.nats(nats[some], doubts[some], chances, told, self._gated.gate.numbers)

        self.workers.run(mix)
        return nats


class RecallingModel:
    """A model with a cache of what followed states like its present one; see kernels.loops.beside.recall.

    Probabilities are those of both, and gradients those of the network alone.
    """

    def __init__(self, model: Model | MixedModel, cache: CacheConfig) -> None:
        self._model, self.cache = model, cache
        self._network = model.alone if isinstance(model, MixedModel) else model
        self.config, self.workers, self.parameters = model.config, model.workers, model.parameters
        self._reading: RecallingModel | None = None  # the same, while the model has windows for gradients

    @property
    def gradients(self) -> Parameters:
        """The gradient of the last `gradient()`."""
        return self._model.gradients

    def zero_state(self, B: int) -> State:
        """The state before anything was read, for B columns."""
        return State((*self._model.zero_state(B).layers, self._nothing(B)))

    def _nothing(self, B: int) -> recall.Memory:
        """B empty caches."""
        N = self.cache.size
        shapes = (B, N * self.config.last_width), (B, recall.FIRST + N)
        return recall.Memory(*(np.zeros(shape, np.float32) for shape in shapes))

    def forward(
        self,
        x: Array,
        state: State | None = None,
        reset: Array | None = None,
        labels: Array | None = None,
    ) -> tuple[Array, State]:
        """See MixedModel.forward."""
        inner, before = _apart(state or self.zero_state(x.shape[1]))
        logits, inner = self._model.forward(x, inner, reset, labels)
        flat = logits.reshape(x.size, -1)
        ids = np.tile(np.arange(flat.shape[1], dtype=np.int32), x.size)
        asked = _asked(x.size, np.repeat(np.arange(x.size), flat.shape[1]), ids)
        memory, _ = self._follow(x, _begun(x, reset), self._nothing(1), before, asked)
        hits = asked.hits.reshape(flat.shape)

        def mix(share: Share) -> None:
            some = slice(*share.of(x.size))
            recall.predictions(flat[some], asked.found[some], hits[some], self.cache.weight, self.cache.doubt)

        self.workers.run(mix)
        return logits, State((*inner.layers, memory))

    def losses(
        self,
        x: Array,
        y: Array,
        state: State | None = None,
        reset: Array | None = None,
        labels: Array | None = None,
    ) -> tuple[Array, State]:
        """See MixedModel.losses."""
        inner, before = _apart(state or self.zero_state(x.shape[1]))
        nats, inner = self._model.losses(x, y, inner, reset, labels)
        asked = _asked(x.size, np.arange(x.size), y.reshape(-1))
        memory, _ = self._follow(x, _begun(x, reset), self._nothing(1), before, asked)
        return self._mixed(nats, np.arange(x.size), asked), State((*inner.layers, memory))

    def read(
        self, x: Array, restart_rows: Array, restarts: State, state: State | None, places: Array, ids: Array,
        kept: Array,
    ) -> tuple[Array, State, State]:  # fmt: skip
        """See Model.read."""
        inner, before = _apart(state or self.zero_state(x.shape[1]))
        begun, first = _apart(restarts)
        nats, left, inner = self._model.read(x, restart_rows, begun, inner, places, ids, kept)
        order = np.argsort(places, kind="stable")
        asked = _asked(x.size, places[order], ids[order])
        memory, caches = self._follow(x, restart_rows, first, before, asked, kept)
        nats[order] = self._mixed(nats[order], places[order], asked)
        return nats, State((*left.layers, caches)), State((*inner.layers, memory))

    def gradient(
        self, x: Array, y: Array, state: State, reset: Array, *, labels: Array | None = None
    ) -> tuple[float, State]:
        """The mean loss with the cache, and the state; `gradients` are those of the network's own loss."""
        if self._reading is None:
            self._reading = self.for_reading()
        nats, after = self._reading.losses(x, y, state, reset, labels)
        self._model.gradient(x, y, _apart(state)[0], reset, labels=labels)
        return float(np.mean(nats, dtype=np.float64)), after

    def for_reading(self) -> RecallingModel:
        """The same, with windows of its own."""
        return RecallingModel(self._model.for_reading(), self.cache)

    def with_counts(self, gated: GatedCounts) -> RecallingModel:
        """See MixedModel."""
        assert isinstance(self._model, MixedModel)
        return RecallingModel(self._model.with_counts(gated), self.cache)

    def _follow(
        self, x: Array, restart_rows: Array, restarts: recall.Memory, before: recall.Memory,
        asked: recall.Asked, kept: Array | None = None,
    ) -> tuple[recall.Memory, recall.Memory]:  # fmt: skip
        """The caches after the last characters of x (T, B), of which the model has just read them.

        And those after the places `kept`. What is `asked` is filled in.
        """
        (T, B), H = x.shape, self.config.last_width
        memory = recall.Memory(*(part.copy() for part in before))
        kept_rows, places = np.full(x.size, -1), np.zeros(0, np.int64) if kept is None else kept
        kept_rows[places] = np.arange(len(places))
        caches = self._nothing(len(places))
        reading = recall.Reading(
            np.ascontiguousarray(x), self._network.hidden(T, B), restart_rows, restarts, kept_rows, caches
        )

        def look_back(share: Share) -> None:
            theta, outputs = np.float32(self.cache.theta), self.config.outputs
            recall.follow(asked, reading, memory, theta, H, outputs, *share.of(B))

        self.workers.run(look_back)
        return memory, caches

    def _mixed(self, nats: Array, places: Array, asked: recall.Asked) -> Array:
        """-log p under the model of what was asked at these places becomes that with the cache."""
        mixed = np.array(nats, np.float32).reshape(-1)
        recall.mix(mixed, places, asked, self.cache.weight, self.cache.doubt)
        return mixed.reshape(nats.shape)


def _apart(state: State) -> tuple[State, recall.Memory]:
    """The model's state, and the caches."""
    *layers, cache = state.layers
    return State(tuple(layers)), recall.Memory(*cache)


def _begun(x: Array, reset: Array | None) -> Array:
    """The rows of nothing with which documents begin."""
    return begins(np.zeros(x.shape, np.bool_) if reset is None else reset)


def _asked(positions: int, places: Array, ids: Array) -> recall.Asked:
    """To be filled in: what is told of these characters, at places that do not fall."""
    first = np.searchsorted(places, np.arange(positions + 1))
    return recall.Asked(first, np.ascontiguousarray(ids, np.int32), np.zeros(positions), np.zeros(len(ids)))


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


AnyNetwork = Model | MixedModel | RecallingModel
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
    found = model if checkpoint.counts is None else MixedModel(model, checkpoint.counts)
    return found if checkpoint.cache is None else RecallingModel(found, checkpoint.cache)


def with_counts(network: AnyNetwork, gated: GatedCounts | None) -> AnyNetwork:
    """The same network beside the same counts, of texts with other labels, or without any."""
    return network if gated is None or isinstance(network, Model) else network.with_counts(gated)


def shared_by(network: AnyNetwork, ranks: Ranks) -> AnyNetwork:
    """The same network, whose columns are read by all ranks; what stands beside it is the leader's."""
    from charrnn.nn.learning.together import shared

    if isinstance(network, MixedModel):
        return network.with_network(shared(network.alone, ranks))
    assert isinstance(network, Model)
    found: Model = shared(network, ranks)
    return found
