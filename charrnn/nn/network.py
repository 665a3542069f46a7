"""The network: embedding or one-hot input, recurrent layers, decoder; forward and backward over a window.

Axes: T time, B batch, H hidden, D input, V vocabulary. Windows are time-major. The id V stands for START: a
document's first input, the zero vector.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from charrnn.config import ModelConfig
from charrnn.kernels import loss, norm, rows
from charrnn.kernels.machine.aligned import aligned
from charrnn.kernels.machine.prefetch import NOTHING
from charrnn.kernels.orthogonal import orthogonalize
from charrnn.kernels.products import gemm
from charrnn.kernels.products.gemm import PANEL, padded, panels
from charrnn.nn.layers import Recurrent
from charrnn.nn.operands import Arithmetic, Rows, Weight, sum_outer_products
from charrnn.nn.parameters import Array, Parameters
from charrnn.nn.workers import Phase, Workers, share


@dataclass(frozen=True)
class State:
    """What a network remembers, as a value: for each layer its arrays of (B, H), one for each part."""

    layers: tuple[tuple[Array, ...], ...]

    @classmethod
    def zero(cls, config: ModelConfig, B: int, dtype: Any = np.float32) -> State:
        """The state before anything was read."""
        count = len(config.recurrence.state)
        shape = (B, config.hidden_size)
        return cls(
            tuple(tuple(np.zeros(shape, dtype) for _ in range(count)) for _ in range(config.num_layers))
        )

    def tensors(self) -> dict[str, Array]:
        """The arrays by name, to be written to a file."""
        return {f"state.{k}.{n}": a for k, layer in enumerate(self.layers) for n, a in enumerate(layer)}

    def with_tensors(self, tensors: Mapping[str, Array]) -> State:
        """A state of this one's form, with the values that `tensors()` gave."""
        return State(
            tuple(
                tuple(tensors[f"state.{k}.{n}"] for n in range(len(layer)))
                for k, layer in enumerate(self.layers)
            )
        )


def initial_tensors(config: ModelConfig, seed: int) -> dict[str, Array]:
    """New parameters, in PyTorch's names and layout (float32).

    Recurrent weights are orthogonal, gate by gate (Saxe et al. 2014), unless the cell has them begin as the
    identity; input weights are Xavier-uniform. Biases are 0, without layer norm those of the cell.
    """
    random = np.random.default_rng([seed, 0])
    H, cell = config.hidden_size, config.recurrence
    tensors: dict[str, Array] = {}
    for name, shape in config.parameter_shapes().items():
        value = np.zeros(shape, np.float32)
        if name == "embedding.weight":
            value[:] = 0.5 * random.standard_normal(shape)
        elif ".weight_hh" in name:
            for gate in range(config.gates):
                block = slice(gate * H, (gate + 1) * H)
                if cell.recurrent_identity:
                    value[block] = np.eye(H)
                else:
                    q = random.standard_normal((H, H))
                    orthogonalize(q)
                    value[block] = q
        elif ".weight_ih" in name:
            bound = np.sqrt(6.0 / (shape[0] + shape[1]))
            value[:] = random.uniform(-bound, bound, shape)
        elif name == "decoder.weight":
            value[:] = random.uniform(-1.0, 1.0, shape) / np.sqrt(H)
        elif ".bias_ih" in name and not config.norm:
            for place, gate_name in enumerate(cell.gates):
                value[place * H : (place + 1) * H] = cell.biases.get(gate_name, 0.0)
        elif name.startswith("norm_") and name.endswith(".weight"):
            value[:] = 1.0
        tensors[name] = value
    return tensors


PIPELINE_STEPS = 64  # of a layer, before the next one follows


class Window:
    """The buffers for windows of T steps and B columns, and the passes over them."""

    def __init__(
        self,
        config: ModelConfig,
        parameters: Parameters,
        gradients: Parameters | None,
        T: int,
        B: int,
        *,
        bfloat16: bool = False,
    ) -> None:
        dtype, H, V = parameters.flat.dtype, config.hidden_size, config.vocab_size
        self.config, self.parameters, self.gradients = config, parameters, gradients
        self.T, self.B = T, B
        widest = max(config.gates * H, V)
        self.arithmetic = Arithmetic(T, B, widest, dtype, bfloat16=bfloat16)
        self.unit, self.exact = self.arithmetic.unit, self.arithmetic.exact.unit
        self.transposes = gemm.wants_transposed(self.unit)
        self.layers = [
            Recurrent(config, k, parameters, gradients, T, B, self.arithmetic)
            for k in range(config.num_layers)
        ]
        if gradients is None:  # less memory is more of it in the caches
            for layer in self.layers[1:]:
                layer.share_scratch(self.layers[0])
        # What layer k passes on: h itself, unless something is done to it.
        plain = not config.norm and config.dropout == 0.0
        self.outputs = [
            layer.output if plain and not config.has_skip(k) else aligned((T, B, padded(H)), dtype)
            for k, layer in enumerate(self.layers)
        ]
        self.decoder = Weight(
            parameters["decoder.weight"], V, self.arithmetic, with_transpose=gradients is not None
        )
        self.logits = aligned((T, B, padded(V)), dtype)
        self.losses, self.largest, self.log_partitions = (np.zeros((T, B), dtype) for _ in range(3))
        self.zero_state = State.zero(config, 1, dtype)
        self.targets = np.zeros((T, B), np.int32)
        self.index = np.zeros((T, B), np.int32)  # of each character among the window's distinct ones
        self.used = np.zeros(0, np.int32)  # those, as ids
        self.known = 0  # how many of them are characters: START, the largest id, is the zero vector
        U = min(V + 1, T * B)
        D = config.input_size
        # The first layer's input product is a look-up: one row for each distinct character.
        self.table = aligned((U, padded(config.gates * H)), dtype)
        self.layers[0].look_up(self.table, self.index)
        for layer, x in zip(self.layers[1:], self.outputs[:-1], strict=True):
            layer.follow(x)
        self.embedded = aligned((1, U, padded(D)), dtype) if config.embedding_size else None
        self.mean = np.zeros((config.num_layers, T, B), dtype)
        self.scale = np.zeros((config.num_layers, T, B), dtype)
        if gradients is not None:
            # Where a layer's own buffer is free once its backward is done, it takes its input's gradient.
            free = [layer.free_after_backward for layer in self.layers[1:]]
            self.d_outputs = [
                aligned((T, B, padded(H)), dtype) if buffer is None else buffer for buffer in (*free, None)
            ]
            self.dh = aligned((T, B, padded(H)), dtype)
            self.d_table = aligned(self.table.shape, dtype)
            self.d_embedded = aligned((1, U, padded(D)), dtype)
            self.d_skip_input = aligned((1, U, padded(D)), dtype)
            for layer, d_output in zip(self.layers, self.d_outputs, strict=True):
                layer.receive(self.dh if config.norm else d_output)
            self.output_rows = [Rows(output, H, self.arithmetic, are_inputs=True) for output in self.outputs]
            self.logits_rows = Rows(self.logits, V, self.arithmetic)
            self.zero = aligned((max(padded(H), padded(D), padded(V)),), dtype)

    def read(self, x: Array, origin: Array | None, state: State, first: State | None = None) -> None:
        """Take the window's characters and what it starts from, and look at the parameters.

        Where origin (T, B) is not -1, a text begins, with that row of `first`'s arrays as its state. Without
        `first`, origin is true where a text begins, with zeros.
        """
        V = self.config.vocab_size
        present = np.zeros(V + 1, np.bool_)
        present[x] = True
        self.used = np.flatnonzero(present).astype(np.int32)
        self.known = len(self.used) - int(present[V])
        place = np.zeros(V + 1, np.int32)
        place[self.used] = np.arange(len(self.used), dtype=np.int32)
        self.index[:] = place[x]
        rows: Any = -1 if origin is None else origin
        if first is None:
            first, rows = self.zero_state, -1 if origin is None else origin.astype(np.int32) - 1
        for layer, arrays, begun in zip(self.layers, state.layers, first.layers, strict=True):
            layer.start(arrays, rows, begun)
            layer.prepare()
        if self.embedded is not None:
            known, D = self.known, self.config.embedding_size
            self.embedded[0, :known, :D] = self.parameters["embedding.weight"][self.used[:known]]
            self.embedded[0, known : len(self.used), :D] = 0

    def make_table(self, worker: int, workers: int) -> None:
        """This worker's share of the first layer's input products."""
        first = self.layers[0]
        u0, u1 = share(len(self.used), worker, workers)
        if self.embedded is not None:
            D = self.config.embedding_size
            gemm.product(
                self.exact,
                self.table[None],
                first.bias,
                self.embedded,
                first.weight_ih.forward,
                D,
                (u0, u1),
                NOTHING,
            )
        else:
            weight = first.weight_ih.forward
            rows.gather_panel_rows(self.table[u0:u1], first.bias, weight, self.used[u0:u1])

    def forward(self, dropout_keys: list[int] | None, b0: int, b1: int) -> None:
        """Logits of columns b0 to b1."""
        for k in range(len(self.layers)):
            self.layer_forward(k, b0, b1, 0, self.T)
            if dropout_keys is not None:
                H = self.config.hidden_size
                rows.dropout(self.outputs[k], dropout_keys[k], self.config.dropout, H, b0, b1)
        self.decode(b0, b1, 0, self.T)

    def layer_forward(self, k: int, b0: int, b1: int, t0: int, t1: int) -> None:
        """Layer k with what surrounds it: columns b0 to b1, steps t0 to t1."""
        config, layer, H = self.config, self.layers[k], self.config.hidden_size
        steps = slice(t0, t1)
        y, h = self.outputs[k][steps], layer.output[steps]
        layer.forward(b0, b1, t0, t1)
        if config.norm:
            weight, bias = self.parameters[f"norm_l{k}.weight"], self.parameters[f"norm_l{k}.bias"]
            statistics = norm.Statistics(self.mean[k][steps], self.scale[k][steps])
            norm.forward(y, h, statistics, weight, bias, H, (b0, b1))
        elif self.outputs[k] is not layer.output:
            rows.copy(y, h, H, b0, b1)
        if config.has_skip(k) and k > 0:
            rows.add(y, self.outputs[k - 1][steps], H, b0, b1)
        elif config.has_skip(k) and self.embedded is not None:
            rows.gather_add(y, self.embedded[0], self.index[steps], H, b0, b1)
        elif config.has_skip(k):
            ids = self.used[self.index[steps, b0:b1]]
            y[:, b0:b1, :H] += ids[..., None] == np.arange(H)

    def decode(self, b0: int, b1: int, t0: int, t1: int) -> None:
        """Logits from the last layer's output."""
        y, bias, H = self.outputs[-1][t0:t1], self.parameters["decoder.bias"], self.config.hidden_size
        gemm.product(self.unit, self.logits[t0:t1], bias, y, self.decoder.forward, H, (b0, b1), NOTHING)

    def compare(self, b0: int, b1: int) -> None:
        """What `nats` needs of columns b0 to b1."""
        V = self.config.vocab_size
        loss.log_partitions(self.logits, self.largest, self.log_partitions, V, b0, b1)

    def nats(self, places: Array, ids: Array) -> Array:
        """-log p(ids[i]) at the place t * B + b = places[i], (n,)."""
        logits = self.logits.reshape(self.T * self.B, -1)[places, ids]
        largest, logs = (array.reshape(-1)[places] for array in (self.largest, self.log_partitions))
        with np.errstate(all="ignore"):  # where training explodes, losses are no numbers
            nats: Array = logs - (logits - largest)
        return nats

    def backward(self, dropout_keys: list[int] | None, b0: int, b1: int) -> None:
        """From the logits' gradient (in their place) to every layer's gates', columns b0 to b1."""
        config, p, H = self.config, self.parameters, self.config.hidden_size
        V, unit = config.vocab_size, self.unit
        gemm.product(
            unit, self.d_outputs[-1], self.zero, self.logits, self.decoder.backward, V, (b0, b1), NOTHING
        )
        self.logits_rows.refresh(b0, b1)
        for k in reversed(range(len(self.layers))):
            layer, dy = self.layers[k], self.d_outputs[k]
            if dropout_keys is not None:
                rows.dropout(dy, dropout_keys[k], config.dropout, H, b0, b1)
            if config.norm:
                statistics = norm.Statistics(self.mean[k], self.scale[k])
                norm.backward(self.dh, dy, layer.output, statistics, p[f"norm_l{k}.weight"], H, (b0, b1))
            layer.backward(b0, b1)
            layer.copy_rows(b0, b1)
            self.output_rows[k].refresh(b0, b1)
            if k == 0:
                break
            dx, weight = self.d_outputs[k - 1], layer.weight_ih.backward
            if config.has_skip(k):
                gemm.product_plus(unit, dx, dy, layer.gates, weight, layer.width, (b0, b1), NOTHING)
            else:
                gemm.product(unit, dx, self.zero, layer.gates, weight, layer.width, (b0, b1), NOTHING)

    def transpose_rows(self, worker: int, workers: int) -> None:
        """This worker's share of the transposes that some units want for the gradients of the weights."""
        for operand in (*(layer.h_prev_rows for layer in self.layers), *self.output_rows):
            operand.transpose(worker, workers)

    def parameter_gradients(self, worker: int, workers: int) -> None:
        """This worker's columns of every gradient but the embedding's; sums run over all rows."""
        assert self.gradients is not None
        config, g = self.config, self.gradients
        self._table_gradient(worker, workers)
        d_table = self.d_table[None, : len(self.used)]
        for k, layer in enumerate(self.layers):
            inputs, d_inputs = (self.output_rows[k - 1], layer.gates) if k else (None, d_table)
            layer.parameter_gradients(inputs, d_inputs, worker, workers)
            if config.norm:
                j0, j1 = share(config.hidden_size, worker, workers)
                norm.parameter_gradients(
                    g[f"norm_l{k}.weight"], g[f"norm_l{k}.bias"], self.d_outputs[k], layer.output,
                    norm.Statistics(self.mean[k], self.scale[k]), j0, j1,
                )  # fmt: skip
        sum_outer_products(
            self.unit, g["decoder.weight"], self.zero, self.output_rows[-1], self.logits_rows, worker, workers
        )
        p0, p1 = share(panels(config.vocab_size), worker, workers)
        rows.column_sums(g["decoder.bias"], self.logits, p0 * PANEL, p1 * PANEL)

    def _table_gradient(self, worker: int, workers: int) -> None:
        """The gradients of the table and the weight it was made with, and what a skip adds to its input."""
        assert self.gradients is not None
        first, U, D = self.layers[0], len(self.used), self.config.embedding_size
        d_weight = self.gradients["rnn.weight_ih_l0"]
        p0, p1 = share(panels(first.width), worker, workers)
        self.d_table[:U, p0 * PANEL : p1 * PANEL] = 0
        rows.scatter_add(self.d_table, first.gates, self.index, p0 * PANEL, p1 * PANEL)
        if self.embedded is None:
            rows.scatter_panel_rows(d_weight, self.d_table, self.used, p0, p1)
            return
        gemm.outer_product(self.exact, d_weight, self.zero, self.embedded[0], self.d_table, U, (p0, p1, 0, D))
        j0, j1 = share(D, worker, workers)
        self.d_skip_input[0, :U, j0:j1] = 0
        if self.config.has_skip(0):
            rows.scatter_add(self.d_skip_input[0], self.d_outputs[0], self.index, j0, j1)

    def embedding_gradient(self, worker: int, workers: int) -> None:
        """This worker's rows of the embedding's gradient, from that of the table."""
        if self.embedded is None:
            return
        assert self.gradients is not None
        first, D = self.layers[0], self.config.embedding_size
        u0, u1 = share(len(self.used), worker, workers)
        gemm.product_plus(
            self.exact, self.d_embedded, self.d_skip_input, self.d_table[None], first.weight_ih.backward,
            first.width, (u0, u1), NOTHING,
        )  # fmt: skip
        u1 = min(u1, self.known)
        gradient = self.gradients["embedding.weight"]
        rows.scatter_add(gradient, self.d_embedded[:, u0:u1], self.used[None, u0:u1], 0, D)

    def copy_weights(self, worker: int, workers: int) -> None:
        """This worker's share of the weights as the products read them: rounded, transposed."""
        for layer in self.layers:
            layer.copy_weights(worker, workers)
        self.decoder.refresh(worker, workers)

    def state(self) -> State:
        """What the window ended with."""
        return State(tuple(layer.state() for layer in self.layers))

    def states_after(self, places: Array) -> State:
        """What was remembered after the steps t * B + b, arrays of (n, H)."""
        return State(tuple(layer.states_after(places) for layer in self.layers))


class Model:
    """A network's parameters with forward and backward over windows of any shape.

    `dtype` is float32, or float64 for the gradient checks. With `bfloat16`, the operands of the matrix
    products of `gradient` are rounded (charrnn.nn.operands); with `reads_bfloat16`, those of `forward` and
    `losses`. Results do not depend on the number of workers.
    """

    def __init__(
        self,
        config: ModelConfig,
        *,
        workers: Workers | None = None,
        dtype: Any = np.float32,
        bfloat16: bool = False,
        reads_bfloat16: bool = False,
    ) -> None:
        self.config, self.bfloat16, self.reads_bfloat16 = config, bfloat16, reads_bfloat16
        self.dtype = np.dtype(dtype)
        self.parameters = Parameters(config, dtype)
        self.workers = workers or Workers()
        self._gradients: Parameters | None = None
        self._windows: dict[tuple[int, int, bool], Window] = {}

    @property
    def gradients(self) -> Parameters:
        """The gradient of the last `gradient()`, in the layout of `parameters`."""
        if self._gradients is None:
            self._gradients = Parameters(self.config, self.dtype)
        return self._gradients

    def load_tensors(self, tensors: Mapping[str, Array]) -> None:
        """Take parameters in PyTorch's names and layout."""
        self.parameters.load(tensors)

    def tensors(self) -> dict[str, Array]:
        """Copies of the parameters in PyTorch's names and layout."""
        return self.parameters.tensors()

    def zero_state(self, B: int) -> State:
        """The state before anything was read, for B columns."""
        return State.zero(self.config, B, self.dtype)

    def _window(self, T: int, B: int, training: bool) -> Window:
        key = (T, B, training)
        if key not in self._windows:
            self._windows.clear()  # before the next one is made: windows are large
            rounded = self.bfloat16 if training else self.reads_bfloat16
            gradients = self.gradients if training else None
            self._windows[key] = Window(self.config, self.parameters, gradients, T, B, bfloat16=rounded)
        return self._windows[key]

    def forward(
        self, x: Array, state: State | None = None, reset: Array | None = None
    ) -> tuple[Array, State]:
        """The logits (T, B, V) after each character of x (T, B), and the state after the last.

        Ids are 0 .. V - 1, and V for START; where `reset` (T, B) is true, the state is zero before the step.
        """
        window = self._forward(x, reset, state)
        return window.logits[..., : self.config.vocab_size].copy(), window.state()

    def losses(
        self, x: Array, y: Array, state: State | None = None, reset: Array | None = None
    ) -> tuple[Array, State]:
        """-log p(y) in nats for each position (T, B), and the state after the last character."""
        window = self._forward(x, reset, state, compare=True)
        return window.nats(np.arange(x.size), y.reshape(-1)).reshape(x.shape), window.state()

    def read(
        self,
        x: Array,
        origin: Array,
        first: State,
        state: State | None,
        places: Array,
        ids: Array,
        kept: Array,
    ) -> tuple[Array, State, State]:
        """Read texts that may begin with states of others, and predict any characters.

        Where origin (T, B) is not -1, a text begins, with that row of `first`'s arrays as its state. Returns
        -log p(ids[i]) in nats at the place t * B + b = places[i], the states after the places `kept`, and
        the state after the last characters.
        """
        window = self._forward(x, origin, state, first, compare=True)
        return window.nats(places, ids), window.states_after(kept), window.state()

    def _forward(
        self,
        x: Array,
        origin: Array | None,
        state: State | None,
        first: State | None = None,
        *,
        compare: bool = False,
    ) -> Window:
        """The window with its logits, and with `compare` what its `nats` needs. See Window.read."""
        T, B = x.shape
        window, n = self._window(T, B, False), self.workers.size
        window.read(x, origin, state or self.zero_state(B), first)

        def prepare(worker: int) -> None:
            window.make_table(worker, n)
            if self.reads_bfloat16:
                window.copy_weights(worker, n)

        def finish(worker: int) -> None:
            if compare:
                window.compare(*share(B, worker, n))

        def pass_over(worker: int) -> None:
            window.forward(None, *share(B, worker, n))
            finish(worker)

        # In bfloat16, the layers share the memory that operands are rounded into: one at a time.
        if n > B and self.config.num_layers > 1 and not self.reads_bfloat16:
            self.workers.run(prepare, self._pipeline(window), finish)
        else:
            self.workers.run(prepare, pass_over)
        return window

    def _pipeline(self, window: Window) -> Phase:
        """For few columns: each worker has some of the layers, and follows the worker before it in time."""
        L, n, T, B = self.config.num_layers, self.workers.size, window.T, window.B
        parts = [(t, min(t + PIPELINE_STEPS, T)) for t in range(0, T, PIPELINE_STEPS)]
        passed = [threading.Semaphore(0) for _ in range(L)]  # parts that layer k is done with

        def task(worker: int) -> None:
            first, last = share(L, worker, n)
            try:
                for t0, t1 in parts:
                    for k in range(first, last):
                        if k == first and k > 0:
                            passed[k - 1].acquire()
                        window.layer_forward(k, 0, B, t0, t1)
                        passed[k].release()
                    if first < last == L:
                        window.decode(0, B, t0, t1)
            finally:  # after an error, nobody waits for what will not come
                for k in range(first, last):
                    passed[k].release(len(parts))

        return task

    def gradient(
        self,
        x: Array,
        y: Array,
        state: State | None = None,
        reset: Array | None = None,
        dropout_seed: int | None = None,
        then: tuple[Phase, ...] = (),
    ) -> tuple[float, State]:
        """Put the gradient of the mean loss over the window into `gradients`; return that loss and the state.

        Truncated back-propagation through time: the given state is a constant. Shapes as in `forward`.
        Dropout acts when `dropout_seed` is given. What comes `then` is done by the same threads before they
        rest: to wake them again would take a hundredth of a step of a small network.
        """
        (T, B), V, n = x.shape, self.config.vocab_size, self.workers.size
        window = self._window(T, B, True)
        window.read(x, reset, state or self.zero_state(B))
        window.targets[:] = y
        keys = None
        if dropout_seed is not None and self.config.dropout > 0:
            keys = [mix(dropout_seed, k) for k in range(self.config.num_layers)]
        if self.config.embedding_size:
            self.gradients["embedding.weight"][:] = 0  # only the rows of characters seen are written

        def prepare(worker: int) -> None:
            window.make_table(worker, n)
            window.copy_weights(worker, n)

        def pass_over(worker: int) -> None:
            b0, b1 = share(B, worker, n)
            window.forward(keys, b0, b1)
            weight = 1.0 / (T * B)
            loss.cross_entropy(window.logits, window.targets, window.losses, weight, V, b0, b1)
            window.backward(keys, b0, b1)

        self.workers.run(
            prepare,
            pass_over,
            *([lambda worker: window.transpose_rows(worker, n)] if window.transposes else []),
            lambda worker: window.parameter_gradients(worker, n),
            lambda worker: window.embedding_gradient(worker, n),
            *then,
        )
        total = np.add.reduce(window.losses, axis=None, dtype=np.float64)
        return float(total) / window.losses.size, window.state()

    def state_gradient(self) -> State:
        """The gradient of the state that the last `gradient()` started from."""
        (window,) = (w for key, w in self._windows.items() if key[2])
        return State(tuple(layer.state_gradient() for layer in window.layers))


def mix(seed: int, number: int) -> int:
    """A key of 63 bits from a seed and a number (the finaliser of SplitMix64)."""
    mask = 2**64 - 1
    z = (seed + (number + 1) * 0x9E3779B97F4A7C15) & mask
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
    return (z ^ (z >> 31)) >> 1
