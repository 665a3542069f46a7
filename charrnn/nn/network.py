"""A network over windows of characters: forward, loss and gradient, on several threads.

Axes: T time, B batch, V vocabulary, O outputs: V, or V + 1 if the end of a text is predicted, too. Windows
are time-major. The id O stands for START, a document's first input: any id from V on is the zero vector.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import numpy as np

from charrnn.config import ModelConfig
from charrnn.nn.modules.module import Bound, Sequential
from charrnn.nn.modules.recurrent import BoundRecurrent
from charrnn.nn.modules.writing.cross_entropy import CrossEntropy
from charrnn.nn.modules.writing.label import UNKNOWN
from charrnn.nn.operands import Columns, Share
from charrnn.nn.parameters import Array
from charrnn.nn.passes import Parametrized, Passes, Then
from charrnn.nn.window import Window
from charrnn.nn.workers import Phase, Workers


@dataclass(frozen=True)
class State:
    """The state of a network, as a value: for each layer, an array (B, width) for each part of it."""

    layers: tuple[tuple[Array, ...], ...]

    @classmethod
    def zero(cls, widths: tuple[tuple[int, ...], ...], B: int, dtype: Any = np.float32) -> State:
        """The state before the first character, with parts of these `widths` in each layer."""
        return cls(tuple(tuple(np.zeros((B, width), dtype) for width in layer) for layer in widths))

    def tensors(self) -> dict[str, Array]:
        """The arrays themselves by name, to be written to a file or filled from one."""
        return {f"state.{k}.{n}": a for k, layer in enumerate(self.layers) for n, a in enumerate(layer)}

    def columns(self, b0: int, b1: int) -> State:
        """The state of some columns."""
        return State(tuple(tuple(part[b0:b1] for part in layer) for layer in self.layers))

    @classmethod
    def joined(cls, states: Sequence[State]) -> State:
        """The state of the columns of all, one after another."""
        layers = zip(*(state.layers for state in states), strict=True)
        return cls(tuple(tuple(np.concatenate(parts) for parts in zip(*own, strict=True)) for own in layers))


@dataclass(frozen=True)
class Seen:
    """What a layer did in a window, and how a loss depends on it: arrays (T, B, width), by name."""

    gates: dict[str, Array]  # after their activation
    states: dict[str, Array]  # the parts of the state before each step
    gradients: dict[str, Array]  # of the loss at the last step, by these


def initial_tensors(config: ModelConfig, seed: int) -> dict[str, Array]:
    """New parameters, in PyTorch's names and layout (float32)."""
    return config.network().initial(np.random.default_rng([seed, 0]))


WINDOWS_KEPT = 6  # of what reads a line at a time, in windows of several sizes
PIPELINE_STEPS = 64  # time steps that a layer computes before the next one follows


class _Passes(Passes):
    """A network that writes, bound to a window."""

    loss: CrossEntropy

    def __init__(self, network: Sequential, V: int, window: Window) -> None:
        super().__init__(network, V, window)
        self.zero_state = State.zero(network.states, 1, window.dtype)

    def bind_loss(self) -> None:
        self.loss = CrossEntropy(self.window, self.modules.y)

    def read(
        self,
        x: Array,
        restart_rows: Array | None,
        state: State,
        restarts: State | None = None,
        labels: Array | None = None,
    ) -> None:
        """Load a window's characters, their labels and its initial state, and prepare all modules.

        Where restart_rows (T, B) is not -1, a text begins, with that row of `restarts` as its state. Without
        `restarts`, it is a mask of the positions where texts begin, with a zero state.
        """
        self.ids.read(x)
        self.characters.fill()
        self.window.labels[:] = UNKNOWN if labels is None else labels
        rows: Any = -1 if restart_rows is None else restart_rows
        if restarts is None:
            restarts = self.zero_state
            if restart_rows is not None:
                rows = restart_rows.astype(np.int32) - 1
        for layer, arrays, begun in zip(self.layers, state.layers, restarts.layers, strict=True):
            layer.start(arrays, rows, begun)
        for bound in self.flat:
            bound.prepare()

    def state(self) -> State:
        """The state after the last step."""
        return State(tuple(layer.state() for layer in self.layers))

    def pass_over(self, share: Share) -> None:
        """Both passes over a share of the columns, of which `loss` has the targets."""
        self.forward(share)
        self.modules.backward(*share.of(self.window.B))

    def forward(self, share: Share) -> None:
        """The first of them, and the gradient of the loss."""
        b0, b1 = share.of(self.window.B)
        self.modules.forward(b0, b1, 0, self.window.T)
        self.loss.gradient(b0, b1)

    def states_after(self, places: Array) -> State:
        """The states after the positions t * B + b, arrays of (n, width)."""
        return State(tuple(layer.states_after(places) for layer in self.layers))


class Model(Parametrized[_Passes]):
    """A network's parameters with forward and backward over windows of any shape.

    `network` replaces the network that the configuration describes.
    `dtype` is float32, or float64 for the gradient checks. With `bfloat16`, the operands of the matrix
    products of `gradient` are rounded (charrnn.nn.operands); with `reads_bfloat16`, those of `forward` and
    `losses`. Results do not depend on the number of workers. CharrnnError: Numba may not compile.
    """

    def __init__(
        self,
        config: ModelConfig,
        *,
        workers: Workers | None = None,
        dtype: Any = np.float32,
        bfloat16: bool = False,
        reads_bfloat16: bool = False,
        network: Sequential | None = None,
    ) -> None:
        super().__init__(network or config.network(), workers, dtype, bfloat16, reads_bfloat16)
        self.config, self.columns = config, len(config.labels)

    def _bind(self, window: Window, *sizes: int) -> _Passes:
        return _Passes(self.network, self.config.vocab_size, window)

    def for_reading(self) -> Model:
        """The same parameters, with windows of its own."""
        reading = Model(self.config, workers=self.workers, reads_bfloat16=self.reads_bfloat16)
        reading.parameters = self.parameters
        reading.windows_kept = WINDOWS_KEPT
        return reading

    def zero_state(self, B: int) -> State:
        """The state before anything was read, for B columns."""
        return State.zero(self.network.states, B, self.dtype)

    def forward(
        self,
        x: Array,
        state: State | None = None,
        reset: Array | None = None,
        labels: Array | None = None,
    ) -> tuple[Array, State]:
        """The logits (T, B, O) after each character of x (T, B), and the state after the last.

        Ids are 0 .. O - 1, and O for START; where `reset` (T, B) is true, the state is zero before the step.
        `labels` (T, B, columns) are the text's at each position; ids beyond the last, and None: unknown.
        """
        window = self._forward(x, reset, state, labels=labels)
        return window.modules.y.values[..., : self.config.outputs].copy(), window.state()

    def losses(
        self,
        x: Array,
        y: Array,
        state: State | None = None,
        reset: Array | None = None,
        labels: Array | None = None,
        doubts: Array | None = None,
    ) -> tuple[Array, State]:
        """-log p(y) in nats for each position (T, B), and the state after the last character.

        `doubts` (T * B, 2) is filled with -log of the largest probability, and the entropy in nats.
        """
        window, places = self._forward(x, reset, state, labels=labels), np.arange(x.size)
        if doubts is not None:
            doubts[:] = window.loss.doubts(places)
        return window.loss.nats(places, y.reshape(-1)).reshape(x.shape), window.state()

    def read(
        self,
        x: Array,
        restart_rows: Array,
        restarts: State,
        state: State | None,
        places: Array,
        ids: Array,
        kept: Array,
        doubts: Array | None = None,
    ) -> tuple[Array, State, State]:
        """Read texts that may begin with states of others, and predict any characters.

        Where restart_rows (T, B) is not -1, a text begins, with that row of the states `restarts`. Returns
        -log p(ids[i]) in nats at the place t * B + b = places[i], the states after the places `kept`, and
        the state after the last characters. `doubts` (n, 2) as in `losses`, at these places.
        """
        window = self._forward(x, restart_rows, state, restarts)
        if doubts is not None:
            doubts[:] = window.loss.doubts(places)
        return window.loss.nats(places, ids), window.states_after(kept), window.state()

    def _forward(
        self,
        x: Array,
        restart_rows: Array | None,
        state: State | None,
        restarts: State | None = None,
        labels: Array | None = None,
    ) -> _Passes:
        """The window with its logits, and with what its loss's `nats` needs. See _Passes.read."""
        T, B = x.shape
        window = self._bound(False, T, B)
        window.read(x, restart_rows, state or self.zero_state(B), restarts, labels)

        def compare(share: Share) -> None:
            window.loss.compare(*share.of(B))

        def pass_over(share: Share) -> None:
            window.modules.forward(*share.of(B), 0, T)
            compare(share)

        # In bfloat16, the layers share the memory that operands are rounded into: one at a time.
        if self.workers.size > B and len(window.stages) > 1 and not self.reads_bfloat16:
            self.workers.run(window.prepare_share, _pipeline(window.stages, T, B), compare)
        else:
            self.workers.run(window.prepare_share, pass_over)
        return window

    def hidden(self, T: int, B: int) -> Array:
        """What the output was computed from, (T, B, padded H), in the window T x B that was read last."""
        values: Array = self._bound(False, T, B).modules.inner[-1].x.values
        return values

    def gradient(
        self,
        x: Array,
        y: Array,
        state: State | None = None,
        reset: Array | None = None,
        dropout_seed: int | None = None,
        then: tuple[Phase, ...] = (),
        labels: Array | None = None,
        whole: int | None = None,
    ) -> tuple[float, State]:
        """Put the gradient of the mean loss over the window into `gradients`; return that loss and the state.

        Truncated back-propagation through time: the given state is a constant. Shapes as in `forward`.
        Dropout is on if `dropout_seed` is given. The phases `then` follow on the same threads: to wake these
        again would take 1 % of a small network's step. Of a mean over more positions, `whole` of them, loss
        and gradient are what the window adds.
        """
        B = x.shape[1]
        window = self._loaded((x, y, reset, labels), state or self.zero_state(B), whole or x.size)
        window.drop(*([] if dropout_seed is None else [(0, B, dropout_seed)]))
        self.workers.run(window.prepare_share, window.pass_over, *window.after_columns(), *then)
        return window.loss.mean(), window.state()

    def look_back(
        self,
        x: Array,
        y: Array,
        state: State | None = None,
        reset: Array | None = None,
        labels: Array | None = None,
    ) -> list[Seen]:
        """What each layer did in a window, and the gradients of each column's loss at the window's last step.

        Those of a layer are by its own state, as it goes from one step to the next: what the layers above
        make of its output at that step has no part in them. Shapes as in `forward`.
        """
        T, B = x.shape
        window = self._bound(True, T, B)
        window.read(x, reset, state or self.zero_state(B), labels=labels)
        window.loss.targets[:] = y
        window.drop()
        weights = np.zeros((T, B), self.dtype)
        weights[-1] = 1
        layers = [layer for layer in window.layers if isinstance(layer, BoundRecurrent)]
        gates = [layer.gates.copy() for layer in layers]
        for layer in layers:
            layer.d_states = tuple(np.zeros((T, B, width), self.dtype) for width in layer.widths)

        def pass_over(share: Share) -> None:
            b0, b1 = share.of(B)
            window.modules.forward(b0, b1, 0, T)
            for layer, kept in zip(layers, gates, strict=True):  # backward overwrites them
                kept[:, b0:b1] = layer.gates[:, b0:b1]
            window.loss.gradient(b0, b1, weights)
            window.modules.backward(b0, b1)

        self.workers.run(window.prepare_share, pass_over)
        return [_seen(layer, kept) for layer, kept in zip(layers, gates, strict=True)]

    def features(self) -> Array:
        """What the last module read in the window of the last gradient, (T, B, padded)."""
        (window,) = (w for key, w in self._windows.items() if key[2])
        values: Array = window.modules.inner[-1].x.values
        return values

    def learn(
        self,
        batch: tuple[Any, ...],
        carry: State | None,
        key: int,
        then: tuple[Phase, ...],
        whole: float | None = None,
    ) -> tuple[float, State]:
        """The loss and gradient of a batch: x, y and reset of `gradient`, and perhaps labels."""
        x, y, reset, *labels = batch
        known = labels[0] if labels else None
        return self.gradient(x, y, carry, reset, key, then, known, None if whole is None else int(whole))

    def learn_side_by_side(
        self,
        parts: Sequence[tuple[Any, ...]],
        carries: Sequence[State | None],
        keys: Sequence[int],
        whole: float,
        sums: Sequence[Columns],
        then: Then,
    ) -> list[tuple[float, State]]:
        # Products of few rows are slow, and no row depends on the others: so all columns are passed over at
        # once. The gradients of the parameters are sums over rows, for each part alone: see Parts.
        bounds = list(pairwise(accumulate((part[0].shape[1] for part in parts), initial=0)))
        begun = [
            self.zero_state(b1 - b0) if carry is None else carry
            for carry, (b0, b1) in zip(carries, bounds, strict=True)
        ]
        passes = self._loaded(_side_by_side(parts), State.joined(begun), whole, bounds)
        passes.drop(*((*columns, key) for columns, key in zip(bounds, keys, strict=True)))
        self.workers.run(passes.prepare_share, passes.forward, *passes.backward(sums, then))
        state = passes.state()
        return [(passes.loss.mean(*columns), state.columns(*columns)) for columns in bounds]

    def _loaded(
        self, batch: tuple[Any, ...], state: State, whole: float, parts: Sequence[Columns] = ()
    ) -> _Passes:
        """The passes over a batch, which is part of a mean over so many positions."""
        x, y, reset, *labels = batch
        window = self._bound(True, *x.shape, parts=parts)
        window.read(x, reset, state, labels=labels[0] if labels else None)
        window.loss.targets[:] = y
        window.loss.take_mean_over(int(whole))
        return window

    @property
    def learns_side_by_side(self) -> bool:
        """Whether all of its modules compute the gradients of parts, as what looks back does not."""
        config = self.config
        return not (config.span or config.has_memory or config.between or config.recurrence.is_made)

    def weight_of(self, batch: tuple[Any, ...]) -> float:
        """The number of its positions."""
        return float(batch[0].size)

    def columns_of(self, batch: tuple[Any, ...], b0: int, b1: int) -> tuple[Any, ...]:
        return tuple(None if part is None else part[:, b0:b1] for part in batch)

    def try_out_side_by_side(self) -> None:
        part = (np.zeros((1, 1), np.int32), np.zeros((1, 1), np.int32), None)
        self.learn_side_by_side(
            [part, part], [None, None], [0, 0], 2.0, [(0, 2)], lambda stage, n: lambda share: None
        )

    def try_out(self) -> None:
        x = np.zeros((1, 1), np.int32)
        self.losses(x, x)
        self.gradient(x, x, dropout_seed=0)  # last: an update may read its window

    def state_gradient(self) -> State:
        """The gradient of the state that the last `gradient()` started from."""
        (window,) = (w for key, w in self._windows.items() if key[2])
        return State(tuple(layer.state_gradient() for layer in window.layers))


def _side_by_side(parts: Sequence[tuple[Any, ...]]) -> tuple[Any, ...]:
    """The batch of which these are the columns."""
    arrays = zip(*parts, strict=True)
    return tuple(None if each[0] is None else np.concatenate(each, axis=1) for each in arrays)


def _seen(layer: BoundRecurrent, gates: Array) -> Seen:
    """What a layer has kept, which it need not keep any longer."""
    cell, H, gradients = layer.cell, layer.H, layer.d_states
    assert gradients is not None
    layer.d_states = None
    return Seen(
        {gate: gates[..., n * H : (n + 1) * H] for n, gate in enumerate(cell.gates)},
        dict(zip(cell.state, layer.states_before(), strict=True)),
        dict(zip(cell.state, gradients, strict=True)),
    )


def _pipeline(stages: Sequence[Sequence[Bound]], T: int, B: int) -> Phase:
    """For few columns: each worker has some of the stages, and follows the one before it in time."""
    parts = [(t, min(t + PIPELINE_STEPS, T)) for t in range(0, T, PIPELINE_STEPS)]
    passed = [threading.Semaphore(0) for _ in stages]  # counts the parts that stage k has finished

    def task(share: Share) -> None:
        first, last = share.of(len(stages))
        try:
            for t0, t1 in parts:
                for k in range(first, last):
                    if k == first and k > 0:
                        passed[k - 1].acquire()
                    for bound in stages[k]:
                        bound.forward(0, B, t0, t1)
                    passed[k].release()
        finally:  # after an error, too, or later workers would wait forever
            for k in range(first, last):
                passed[k].release(len(parts))

    return task
