"""A decoder: it writes a text while it attends to another one that was read in both directions."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from charrnn import kernels
from charrnn.nn.cell import Cell
from charrnn.nn.modules.embedding import Embedding
from charrnn.nn.modules.linear import Linear
from charrnn.nn.modules.module import Bound, Module, Shapes
from charrnn.nn.modules.recurrent import Recurrent
from charrnn.nn.modules.stream import Stream

if TYPE_CHECKING:
    from charrnn.nn.operands import Share
    from charrnn.nn.parameters import Array
    from charrnn.nn.window import Window

ADDITIVE, DOT = "additive", "dot"  # kinds of attention: Bahdanau et al. 2015, Luong et al. 2015


class Decoder(Module):
    """One recurrent layer with attention and input feeding; see kernels.loops.decoder for the equations.

    It reads K numbers of each source position and the previous one of V characters, and puts out H numbers.
    A position's key is W x + b. The initial state is tanh(W e + b), where e is what both directions have
    read last.
    """

    def __init__(
        self,
        cell: Cell,
        embedding: tuple[int, int],
        K: int,
        H: int,
        biases: Mapping[str, float],
        attention: str = ADDITIVE,
    ) -> None:
        V, D = self.V, self.D = embedding
        self.K, self.H, self.attention = K, H, attention
        self.embedding = Embedding(V, D, "target.embedding")
        self.layer = Recurrent(cell, D + H, H, 0, biases, name="target.rnn")
        self.start = Linear(K, sum(self.layer.widths), "target.start")
        self.key, self.output = Linear(K, H, "attention.key"), Linear(K + H, H, "attention.output")
        self.parts = self.embedding, self.layer, self.start, self.key, self.output
        self.query, self.vector = "attention.query.weight", "attention.vector"
        self.by_row = self.embedding.by_row

    def __repr__(self) -> str:
        cell = self.layer.cell.name
        return f"Decoder({cell}, {self.V} -> {self.D}, {self.attention} attention to {self.K}, {self.H})"

    def shapes(self) -> Shapes:
        found = {name: shape for part in self.parts for name, shape in part.shapes().items()}
        additive = {self.query: (self.H, self.H), self.vector: (self.H,)}
        return {**found, **(additive if self.attention == ADDITIVE else {})}

    def initial(self, random: np.random.Generator) -> dict[str, Array]:
        """Of the parts; query and vector as those of Linear."""
        found = {name: value for part in self.parts for name, value in part.initial(random).items()}
        if self.attention == ADDITIVE:
            for name in (self.query, self.vector):
                value = random.uniform(-1.0, 1.0, self.shapes()[name]) / np.sqrt(self.H)
                found[name] = value.astype(np.float32)
        return found

    def bind(self, window: Window, x: Stream) -> BoundDecoder:
        """Passes over whole windows of source and target."""
        return BoundDecoder(self, window, x)


class Encoded(NamedTuple):
    """Texts that were read: what a decoder attends to."""

    keys: Array  # (S, C, padded H)
    values: Array  # (S, C, padded K)
    lengths: Array  # (C,)


class Written(NamedTuple):
    """The state of a decoder between two steps, for R rows."""

    parts: tuple[Array, ...]  # of the cell's state, (R, width) each
    fed: Array  # (R, H), the output of the step before

    def take(self, rows: Array) -> Written:
        """Some of the rows, in any order."""
        return Written(tuple(part[rows] for part in self.parts), self.fed[rows])


class Steps:
    """The steps of a decoder in a window: row b attends to the column `columns[b]` of what was read."""

    def __init__(self, module: Decoder, window: Window, encoded: Encoded) -> None:
        D, K, H = module.D, module.K, module.H
        self.module, self.window, self.additive = module, window, module.attention == ADDITIVE
        self.previous = np.zeros((window.T, window.B), np.int32)
        self.table = window.parameters[module.embedding.weight]
        self.x, self.y, self.joined = Stream(window, D + H), Stream(window, H), window.array(K + H)
        self.y.fixed = True  # since it is fed to the next step, too
        self.hidden = Stream(window, H, self.joined[..., K : K + H])
        self.cell = module.layer.bind(window, self.x, self.hidden)
        self.output = window.weight(module.output.weight)
        self.query = window.weight(module.query) if self.additive else self.output
        self.queries = window.array(H) if self.additive else self.cell.h_between[1:]
        self.vector = window.parameters[module.vector] if self.additive else window.arithmetic.zero
        self.bias = window.parameters[module.output.bias]
        self.S, self.weights = 0, window.array(0)
        self.attend(encoded, np.arange(window.B, dtype=np.int32))

    def attend(self, encoded: Encoded, columns: Array) -> None:
        """Attend to these texts from now on; `weights` (T, B, padded S) are those of the last pass."""
        module, loops, zero = self.module, kernels.loops, self.window.arithmetic.zero
        S = len(encoded.keys)
        if S != self.S:
            self.S, self.weights = S, self.window.array(S)
        source = loops.attention.Source(*encoded, columns, self.vector, self.additive, module.H, module.K)
        self.attending = loops.decoder.Attending(
            source, self.weights, self.queries, self.query.panels, self.joined, self.output.panels,
            self.bias, self.y.values, zero,
        )  # fmt: skip

    def start(self, state: tuple[Array, ...], fed: Array | float) -> None:
        """Set the state before the first step, and the output of the step before, (B, H)."""
        widths = self.module.layer.widths
        self.cell.prepare()
        self.cell.start(state, -1, tuple(np.zeros((1, width), self.window.dtype) for width in widths))
        self.x.values[0, :, self.module.D : self.x.N] = fed

    def state(self) -> Written:
        """The state after the last step."""
        return Written(self.cell.state(), self.y.values[-1, :, : self.module.H].copy())

    def forward(self, b0: int, b1: int) -> None:
        """All steps, after the characters `previous`; ids from V on are the zero vector."""
        decoder, cell, module = kernels.loops.decoder, self.cell, self.module
        decoder.embed(self.x.values, self.table, self.previous, b0, b1)
        arguments = decoder.Cell(
            cell.prefetches_forward, cell.inputs, cell.operands, cell.states(), cell.forward_loops
        )
        unit = self.window.arithmetic.unit
        decoder.forward(unit, arguments, self.attending, module.D, module.H, b0, b1)


class BoundDecoder(Bound):
    """The passes over a source and a target, whose steps are the window's `target_steps`."""

    def __init__(self, module: Decoder, window: Window, x: Stream) -> None:
        self.module, self.window, self.N = module, window, sum(module.layer.widths)
        K, H, parameters = module.K, module.H, window.parameters
        self.key, self.start = window.weight(module.key.weight), window.weight(module.start.weight)
        self.key_bias, self.start_bias = parameters[module.key.bias], parameters[module.start.bias]
        self.ends, self.started = window.array(K, 1), window.array(self.N, 1)
        self.encoded = Encoded(window.array(H), x.values, window.lengths)
        self.steps = Steps(module, window.of_steps(window.target_steps), self.encoded)
        super().__init__(x, self.steps.y)
        if window.training:
            self._bind_gradients()

    def _bind_gradients(self) -> None:
        module, window, steps, target = self.module, self.window, self.steps, self.steps.window
        D, K, H = module.D, module.K, module.H
        self.d_keys, self.d_vectors, self.one_step = window.array(H), window.array(H, 1), window.array(H, 1)
        self.d_ends, self.d_started = window.array(K, 1), window.array(self.N, 1)
        self.d_joined, self.d_queries = target.array(K + H), target.array(H)
        steps.hidden.gradient = self.d_joined[..., K : K + H]
        self.d_table = window.array(D, 1, module.V + 1)[0]  # a row for each character, and for START
        self.ids = np.zeros_like(steps.previous)
        self.inputs = {  # of products whose weights are not the cell's
            self.key: self.x.rows,
            self.start: window.rows(self.ends, K, are_inputs=True),
            steps.output: target.rows(steps.joined, K + H, are_inputs=True),
        }
        self.outputs = {
            self.key: window.rows(self.d_keys, H),
            self.start: window.rows(self.d_started, self.N),
        }
        self.biases = {self.key: module.key.bias, self.start: module.start.bias}
        self.biases[steps.output] = module.output.bias
        if steps.additive:
            self.inputs[steps.query] = target.rows(steps.cell.h_between[1:], H, are_inputs=True)
            self.outputs[steps.query] = target.rows(self.d_queries, H)

    def connect(self) -> None:
        steps, loops = self.steps, kernels.loops
        cell = steps.cell
        cell.connect()
        if not self.window.training:
            return
        d_y = self.y.gradient
        self.outputs[steps.output] = steps.window.rows(d_y, self.y.N)
        sums = loops.attention.Gradients(self.d_keys, self.x.gradient, self.d_vectors)
        self.through = loops.decoder.Through(
            cell.prefetches_backward, cell.operands, cell.dh_next, cell.d_rest, cell.restart_rows,
            cell.backward_loops, cell.input.weight.transposed, steps.x.gradient, self.d_queries,
            steps.query.transposed, self.d_joined, steps.output.transposed, d_y, self.one_step, sums,
        )  # fmt: skip

    def prepare(self) -> None:
        """Begin each target without a state, which the forward pass then computes."""
        zeros = tuple(
            np.zeros((self.window.B, width), self.window.dtype) for width in self.module.layer.widths
        )
        self.steps.start(zeros, 0)
        if self.window.training:
            np.minimum(self.steps.previous, self.module.V, out=self.ids)

    def initial_state(self) -> Written:
        """The state before the first step, after `forward`."""
        ends = list(accumulate(self.module.layer.widths, initial=0))
        parts = tuple(self.started[0, :, a:b].copy() for a, b in pairwise(ends))
        return Written(parts, np.zeros((self.window.B, self.module.H), self.window.dtype))

    def forward(self, b0: int, b1: int, t0: int, t1: int) -> None:
        """Keys and the initial state, then all steps."""
        decoder, cell, lengths = kernels.loops.decoder, self.steps.cell, self.window.lengths
        self.key.forward(self.encoded.keys, self.key_bias, self.x.values, b0, b1)
        decoder.gather_ends(self.ends, self.x.values, lengths, self.module.K, b0, b1)
        self.start.forward(self.started, self.start_bias, self.ends, b0, b1)
        decoder.begin(cell.h_between[0], cell.rest[0], self.started, self.module.H, b0, b1)
        self.steps.forward(b0, b1)

    def backward(self, b0: int, b1: int) -> None:
        module, steps, loops = self.module, self.steps, kernels.loops
        dx, cell, lengths = self.x.gradient, self.steps.cell, self.window.lengths
        for array in (dx, self.d_keys, self.d_vectors):
            loops.attention.clear(array, b0, b1)
        unit = steps.window.arithmetic.unit
        loops.decoder.backward(unit, steps.attending, self.through, module.D, module.H, b0, b1)
        self.key.backward(dx, dx, self.d_keys, b0, b1)
        loops.decoder.through_beginning(
            self.d_started, self.started, cell.dh_next, cell.d_rest, module.H, b0, b1
        )
        self.start.backward(self.d_ends, None, self.d_started, b0, b1)
        loops.decoder.scatter_ends(dx, self.d_ends, lengths, module.K, b0, b1)
        for rows in (*self.inputs.values(), *self.outputs.values(), steps.x.rows):
            rows.refresh(b0, b1)
        cell.refresh(b0, b1)

    def parameter_gradients(self, share: Share) -> None:
        module, steps, window = self.module, self.steps, self.window
        steps.cell.parameter_gradients(share)
        for weight, rows in self.inputs.items():
            weight.sum_outer_products(rows, self.outputs[weight], share)
        for weight, bias in self.biases.items():
            d_rows = self.outputs[weight].source
            window.column_sums(window.gradient(bias), d_rows, *share.of_columns(weight.N))
        if steps.additive:
            d_vector = window.gradient(module.vector)
            window.column_sums(d_vector, self.d_vectors, *share.of_columns(module.H))
        j0, j1 = share.of(module.D)
        self.d_table[:, j0:j1] = 0
        kernels.rows.scatter_add(self.d_table, steps.x.gradient, self.ids, j0, j1)
        window.gradient(module.embedding.weight)[:, j0:j1] = self.d_table[: module.V, j0:j1]
