"""A network over windows of characters: forward, loss and gradient, on several threads.

Axes: T time, B batch, V vocabulary, O outputs: V, or V + 1 if the end of a text is predicted, too. Windows
are time-major. The id O stands for START, a document's first input: any id from V on is the zero vector.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from charrnn.config import ModelConfig
from charrnn.errors import CharrnnError
from charrnn.kernels.machine.jit import JIT_DISABLED
from charrnn.kernels.products import gemm
from charrnn.nn.modules.cross_entropy import CrossEntropy
from charrnn.nn.modules.dropout import BoundDropout
from charrnn.nn.modules.label import UNKNOWN
from charrnn.nn.modules.module import Bound, Sequential
from charrnn.nn.modules.recurrent import BoundRecurrent
from charrnn.nn.modules.stream import Characters, Ids
from charrnn.nn.operands import Share
from charrnn.nn.parameters import Array, Parameters
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


def initial_tensors(config: ModelConfig, seed: int) -> dict[str, Array]:
    """New parameters, in PyTorch's names and layout (float32)."""
    return config.network().initial(np.random.default_rng([seed, 0]))


PIPELINE_STEPS = 64  # time steps that a layer computes before the next one follows


class _Passes:
    """A network bound to windows of T steps and B columns."""

    def __init__(self, network: Sequential, V: int, window: Window) -> None:
        self.window, self.ids = window, Ids(window.T, window.B, V)
        self.characters = Characters(window, self.ids, V)
        self.modules = network.bind(window, self.characters)
        self.loss = CrossEntropy(window, self.modules.y)
        self.flat = list(self.modules.flat())
        self.layers = [bound for bound in self.flat if isinstance(bound, BoundRecurrent)]
        self.dropouts = [bound for bound in self.flat if isinstance(bound, BoundDropout)]
        for bound in self.flat:
            bound.connect()
        self.transposes = window.inputs if gemm.wants_transposed(window.arithmetic.unit) else []
        self.stages = self._stages()
        self.zero_state = State.zero(network.states, 1, window.dtype)

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

    def prepare_share(self, share: Share) -> None:
        """Compute a share of what depends on characters and parameters alone."""
        for bound in self.flat:
            bound.prepare_share(share)
        for weight in self.window.weights:
            weight.refresh(share)

    def _stages(self) -> list[list[Bound]]:
        """The modules, cut before each one with a state but the first: the parts of a pipeline."""
        stages: list[list[Bound]] = [[]]
        begun = False
        for bound in self.modules.inner:
            if any(inner in self.layers for inner in bound.flat()):
                if begun:
                    stages.append([])
                begun = True
            stages[-1].append(bound)
        return stages

    def transpose(self, share: Share) -> None:
        """Transpose a share of the inputs, for units that compute weight gradients from transposes."""
        for operand in self.transposes:
            operand.transpose(share)

    def parameter_gradients(self, share: Share) -> None:
        """Compute a share of the gradients that are sums over the window's rows."""
        for bound in self.flat:
            bound.parameter_gradients(share)

    def late_gradients(self, share: Share) -> None:
        """Compute a share of the gradients that depend on those sums."""
        for bound in self.flat:
            bound.late_gradients(share)

    def state(self) -> State:
        """The state after the last step."""
        return State(tuple(layer.state() for layer in self.layers))

    def states_after(self, places: Array) -> State:
        """The states after the positions t * B + b, arrays of (n, width)."""
        return State(tuple(layer.states_after(places) for layer in self.layers))


class Model:
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
        if JIT_DISABLED:
            raise CharrnnError(
                "a network learns and reads texts with compiled code, which NUMBA_DISABLE_JIT forbids",
                "unset it; sample, next and enumerate work with it",
            )
        self.config, self.bfloat16, self.reads_bfloat16 = config, bfloat16, reads_bfloat16
        self.network = network or config.network()
        self.dtype = np.dtype(dtype)
        self.parameters = self._parameters()
        self.workers = workers or Workers()
        self._gradients: Parameters | None = None
        self._windows: dict[tuple[int, int, bool], _Passes] = {}

    def _parameters(self) -> Parameters:
        by_row = [name for module in self.network.flat() for name in module.by_row]
        return Parameters(self.network.shapes(), by_row, self.dtype)

    @property
    def gradients(self) -> Parameters:
        """The gradient of the last `gradient()`, in the layout of `parameters`."""
        if self._gradients is None:
            self._gradients = self._parameters()
        return self._gradients

    def load_tensors(self, tensors: Mapping[str, Array]) -> None:
        """Take parameters in PyTorch's names and layout."""
        self.parameters.load(tensors)

    def tensors(self) -> dict[str, Array]:
        """Copies of the parameters in PyTorch's names and layout."""
        return self.parameters.tensors()

    def zero_state(self, B: int) -> State:
        """The state before anything was read, for B columns."""
        return State.zero(self.network.states, B, self.dtype)

    def _window(self, T: int, B: int, training: bool) -> _Passes:
        key = (T, B, training)
        if key not in self._windows:
            self._windows.clear()  # first, since windows are large
            rounded = self.bfloat16 if training else self.reads_bfloat16
            gradients = self.gradients if training else None
            columns = len(self.config.labels)
            window = Window(self.parameters, gradients, T, B, bfloat16=rounded, columns=columns)
            self._windows[key] = _Passes(self.network, self.config.vocab_size, window)
        return self._windows[key]

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
    ) -> tuple[Array, State]:
        """-log p(y) in nats for each position (T, B), and the state after the last character."""
        window = self._forward(x, reset, state, labels=labels)
        return window.loss.nats(np.arange(x.size), y.reshape(-1)).reshape(x.shape), window.state()

    def read(
        self,
        x: Array,
        restart_rows: Array,
        restarts: State,
        state: State | None,
        places: Array,
        ids: Array,
        kept: Array,
    ) -> tuple[Array, State, State]:
        """Read texts that may begin with states of others, and predict any characters.

        Where restart_rows (T, B) is not -1, a text begins, with that row of the states `restarts`. Returns
        -log p(ids[i]) in nats at the place t * B + b = places[i], the states after the places `kept`, and
        the state after the last characters.
        """
        window = self._forward(x, restart_rows, state, restarts)
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
        window = self._window(T, B, False)
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

    def gradient(
        self,
        x: Array,
        y: Array,
        state: State | None = None,
        reset: Array | None = None,
        dropout_seed: int | None = None,
        then: tuple[Phase, ...] = (),
        labels: Array | None = None,
    ) -> tuple[float, State]:
        """Put the gradient of the mean loss over the window into `gradients`; return that loss and the state.

        Truncated back-propagation through time: the given state is a constant. Shapes as in `forward`.
        Dropout is on if `dropout_seed` is given. The phases `then` follow on the same threads: to wake these
        again would take 1 % of a small network's step.
        """
        T, B = x.shape
        window = self._window(T, B, True)
        window.read(x, reset, state or self.zero_state(B), labels=labels)
        window.loss.targets[:] = y
        for k, dropout in enumerate(window.dropouts):
            dropout.key = None if dropout_seed is None else mix(dropout_seed, k)

        def pass_over(share: Share) -> None:
            b0, b1 = share.of(B)
            window.modules.forward(b0, b1, 0, T)
            window.loss.gradient(b0, b1)
            window.modules.backward(b0, b1)

        transpose = [window.transpose] if window.transposes else []
        gradients = window.parameter_gradients, window.late_gradients
        self.workers.run(window.prepare_share, pass_over, *transpose, *gradients, *then)
        return window.loss.mean(), window.state()

    def state_gradient(self) -> State:
        """The gradient of the state that the last `gradient()` started from."""
        (window,) = (w for key, w in self._windows.items() if key[2])
        return State(tuple(layer.state_gradient() for layer in window.layers))


def _pipeline(stages: list[list[Bound]], T: int, B: int) -> Phase:
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


def mix(seed: int, number: int) -> int:
    """A key of 63 bits from a seed and a number (the finaliser of SplitMix64)."""
    mask = 2**64 - 1
    z = (seed + (number + 1) * 0x9E3779B97F4A7C15) & mask
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
    return (z ^ (z >> 31)) >> 1
