"""A recurrent layer, whatever its cell."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from charrnn import kernels
from charrnn.nn.cell import Cell
from charrnn.nn.modules.module import Module, Shapes, Stateful
from charrnn.nn.modules.stream import Characters, Stream
from charrnn.nn.modules.writing.label import Label

if TYPE_CHECKING:
    from charrnn.nn.modules.program import Character, Program, Value
    from charrnn.nn.operands import Rows, Share, Weight
    from charrnn.nn.parameters import Array
    from charrnn.nn.window import Window


class Recurrent(Module):
    """Layer k of a network: D inputs and H outputs at each step.

    `biases` are the initial biases by gate, where they are not 0; `labels` the numbers of labels of a text,
    by column, if it has any. In `reverse`, it reads from the end of a text to its beginning.
    """

    reads_characters = True

    def __init__(
        self,
        cell: Cell,
        D: int,
        H: int,
        k: int,
        biases: Mapping[str, float],
        *,
        labels: tuple[int, ...] = (),
        reverse: bool = False,
        name: str = "rnn",
    ) -> None:
        self.cell, self.D, self.H, self.biases, self.gates = cell, D, H, biases, len(cell.gates)
        self.reverse, suffix = reverse, f"_l{k}_reverse" if reverse else f"_l{k}"
        self.label = Label(labels, self.gates * H, k)
        self.by_row = tuple(self.label.sizes)
        self.weight_ih, self.weight_hh = f"{name}.weight_ih{suffix}", f"{name}.weight_hh{suffix}"
        self.bias_ih, self.bias_hh = f"{name}.bias_ih{suffix}", f"{name}.bias_hh{suffix}"
        self.widths = cell.state_widths(H)

    def __repr__(self) -> str:
        more = [f"{size} labels" for size in self.label.sizes.values()] + ["reverse"] * self.reverse
        return f"Recurrent({', '.join([self.cell.name, f'{self.D} -> {self.H}', *more])})"

    def shapes(self) -> Shapes:
        """For each gate a block of H rows, packed as in PyTorch."""
        N = self.gates * self.H
        return {
            self.weight_ih: (N, self.D), self.weight_hh: (N, self.H), self.bias_ih: (N,), self.bias_hh: (N,),
            **self.label.shapes(),
        }  # fmt: skip

    def initial(self, random: np.random.Generator) -> dict[str, Array]:
        """Input weights are Xavier-uniform, recurrent ones orthogonal gate by gate (Saxe et al. 2014).

        With `Cell.recurrent_identity`, these are the identity.
        """
        N, H = self.gates * self.H, self.H
        bound = np.sqrt(6.0 / (N + self.D))
        weight_ih = random.uniform(-bound, bound, (N, self.D)).astype(np.float32)
        weight_hh = np.zeros((self.gates, H, H), np.float32)
        for block in weight_hh:
            if self.cell.recurrent_identity:
                block[:] = np.eye(H)
            else:
                q = random.standard_normal((H, H))
                kernels.orthogonal.orthogonalize(q)
                block[:] = q
        bias = np.repeat([self.biases.get(gate, 0.0) for gate in self.cell.gates], H).astype(np.float32)
        return {
            self.weight_ih: weight_ih, self.weight_hh: weight_hh.reshape(N, H), self.bias_ih: bias,
            self.bias_hh: np.zeros(N, np.float32), **self.label.initial(),
        }  # fmt: skip

    def bind(self, window: Window, x: Stream, y: Stream | None = None) -> BoundRecurrent:
        """Passes over a window, with the output `y`, if it is given."""
        return BoundRecurrent(self, window, x, y or Stream(window, self.H))

    def step(self, program: Program, x: Value | Character) -> Value:
        """The gates' two products, and the equations."""
        u = program.product(x, self.weight_ih, self.bias_ih)
        w = program.product(program.hidden(self.widths), self.weight_hh, self.bias_hh)
        return program.advance(self.cell, u, w)


class _Product:
    """The input of the gates, W_ih x + bias, as a product at each step."""

    def __init__(self, window: Window, x: Stream, name: str, free: Array) -> None:
        self.x, self.values, self.weight = x, x.values, window.weight(name)
        self.table, self.index = np.zeros((0, 0), window.dtype), np.zeros((0, 0), np.int32)
        x.adds = True
        if window.training:
            self.rows = x.rows
            if free.shape == x.values.shape:
                x.gradient = free

    def prepare_share(self, bias: Array, share: Share) -> None:
        """Nothing to do: the kernel multiplies step by step."""

    def backward(self, gates: Array, b0: int, b1: int) -> None:
        """Compute the gradient of x from that of the product."""
        self.rows.refresh(b0, b1)
        self.weight.backward(self.x.gradient, self.x.skipped(), gates, b0, b1)

    def parameter_gradients(self, gates: Rows, share: Share) -> Array:
        """Compute a share of the weight's gradient. Returns the rows whose sum is the bias's."""
        self.weight.sum_outer_products(self.rows, gates, share)
        return gates.source

    def ranges(self) -> None:
        """Those rows of each part of the window; None: they are its columns."""


class _LookUp:
    """The same for characters: a `table` with a row for each distinct one.

    It takes few products, which would not gain from rounding.
    """

    def __init__(self, window: Window, x: Characters, name: str) -> None:
        has_gradient = x.table is not None
        self.weight: Weight = window.weight(name, exact=True, with_transpose=has_gradient)
        self.characters, self.ids, self.values, self.index = x, x.ids, x.values, x.ids.index
        self.table = window.array(self.weight.N, 1, x.ids.most)[0]  # (U, padded)
        self.d_table = self.table
        if window.training:
            self.d_table = window.array(self.weight.N, 1, x.ids.most_in_parts)[0]
        x.readers.append((self.weight, self.d_table))

    def prepare_share(self, bias: Array, share: Share) -> None:
        """Compute a share of the table's rows."""
        u0, u1 = share.of(len(self.ids.used))
        if self.characters.table is not None:
            self.weight.forward(self.table[None], bias, self.characters.table, u0, u1)
        else:
            used = self.ids.used[u0:u1]
            kernels.rows.gather_panel_rows(self.table[u0:u1], bias, self.weight.panels, used)

    def backward(self, gates: Array, b0: int, b1: int) -> None:
        """Nothing to do: the gradient of a character's row is a sum over all columns, see `Embedding`."""

    def parameter_gradients(self, gates: Rows, share: Share) -> Array:
        """Compute a share of the gradients of table and weight. Returns the rows whose sum is the bias's."""
        (j0, j1), ids = share.of_columns(self.weight.N), self.ids
        self.d_table[: ids.ends[-1], j0:j1] = 0
        kernels.rows.scatter_add(self.d_table, gates.source, ids.index_in_parts, j0, j1)
        if (table := self.characters.table_of_parts) is not None:
            self.weight.sum_outer_products_of_some(table[0], self.d_table, ids.ends, share)
        else:
            p0, p1 = share.of(len(self.weight.panels))
            ranges = self.ranges()

            def compute(n: int, gradient: Array) -> None:
                some = slice(*ranges[n])
                rows, used = self.d_table[some], ids.used_in_parts[some]
                kernels.rows.scatter_panel_rows(gradient, rows, used, p0, p1)

            assert self.weight.gradient is not None
            ids.parts.add_up((self.weight.gradient,), slice(p0, p1), compute)
        rows: Array = self.d_table[None]
        return rows

    def ranges(self) -> list[tuple[int, int]]:
        """Those rows of each part of the window."""
        return self.ids.ranges()


class Carried(Stateful):
    """The passes of a module with a state, parts of (B, width), h first, which goes from step to step.

    Where a text begins, the state is another. In `reverse`, steps go from the right to the left.
    """

    def __init__(self, window: Window, widths: tuple[int, ...], x: Stream, y: Stream) -> None:
        super().__init__(x, y)
        self.window, self.widths, rest = window, widths, sum(widths[1:])
        # The state between positions: left of the first, .. , right of the last. `rest` has the parts beside
        # h side by side.
        self.h_between, self.rest = window.array(widths[0], window.T + 1), window.array(rest, window.T + 1)
        self.restart_rows = np.zeros((window.T, window.B), np.int32)
        self.restarts: tuple[Array, ...] = ()  # h and the rest; `restart_rows` are indices into these

    def _in_order(self, array: Array) -> Array:
        """A view of an array (steps, ..) in the order in which the layer reads."""
        return array[::-1] if self.reverse else array

    def _parts(self, h: Array, rest: Array) -> tuple[Array, ...]:
        """The parts of the state as views of these arrays."""
        ends = list(accumulate(self.widths[1:], initial=0))
        return h[..., : self.widths[0]], *(rest[..., a:b] for a, b in pairwise(ends))

    def start(self, state: tuple[Array, ...], restart_rows: Any, restarts: tuple[Array, ...]) -> None:
        """Set the initial state, (B, width) each; where restart_rows is not -1, that row of `restarts`."""
        first = self._in_order(self.h_between)[0], self._in_order(self.rest)[0]
        for array, values in zip(self._parts(*first), state, strict=True):
            array[:] = values
        self.restart_rows[:] = restart_rows
        h, *rest = map(np.ascontiguousarray, restarts)
        self.restarts = h, np.concatenate(rest, axis=1) if rest else np.zeros((len(h), 0), h.dtype)

    def states(self) -> Any:
        """The states as an argument of kernels."""
        return kernels.loops.recurrent.States(self.h_between, self.rest, self.restart_rows, *self.restarts)

    def state(self) -> tuple[Array, ...]:
        """The state after the last step."""
        last = self._in_order(self.h_between)[-1], self._in_order(self.rest)[-1]
        return tuple(part.copy() for part in self._parts(*last))

    def states_before(self) -> tuple[Array, ...]:
        """The states before each step, (T, B, width): where a text begins, its first one."""
        before = slice(1, None) if self.reverse else slice(None, -1)
        return tuple(part.copy() for part in self._parts(self.h_between[before], self.rest[before]))

    def states_after(self, places: Array) -> tuple[Array, ...]:
        """The states after the positions t * B + b, (n, width) each."""
        n, after = self.window.T * self.window.B, slice(None, -1) if self.reverse else slice(1, None)
        h, rest = (array[after].reshape(n, array.shape[2])[places] for array in (self.h_between, self.rest))
        return self._parts(h, rest)


class BoundRecurrent(Carried):
    """The passes of a layer."""

    # If there are such arrays, (T, B, width) for each part, `backward` fills them: the gradient of the state
    # before each step.
    d_states: tuple[Array, ...] | None = None

    def __init__(self, module: Recurrent, window: Window, x: Stream, y: Stream) -> None:
        super().__init__(window, module.widths, x, y)
        self.cell, self.H, self.reverse = module.cell, module.H, module.reverse
        N, H, B, rest = module.gates * module.H, module.H, window.B, sum(module.widths[1:])
        self.y.is_brief = True
        self.weight_hh = window.weight(module.weight_hh)
        self.bias_ih, self.bias_hh = window.parameters[module.bias_ih], window.parameters[module.bias_hh]
        self.bias = np.zeros_like(self.bias_ih)  # of the input product
        self.label = module.label.bind(window)
        apart, kept = self.cell.separate_hidden_bias, len(self.cell.kept) * H
        # W_ih x + b, then activations, then their gradient; likewise W_hh h + b_hh, for cells that need it
        # separately. After a step, only the backward pass reads them.
        self.gates = self._buffer("gates", N)
        self.recurrent = self._buffer("recurrent", N) if apart else self.gates
        self.kept = self._buffer("kept", kept)
        self.input: _Product | _LookUp
        if isinstance(x, Characters):
            self.input = _LookUp(window, x, module.weight_ih)
        else:
            self.input = _Product(window, x, module.weight_ih, self.kept)
        self.dh_next, self.d_rest = (np.zeros((1, B, 0), window.dtype) for _ in range(2))
        if window.training:
            self.dh_next, self.d_rest = window.array(H, 1), window.array(rest, 1)
            self.d_bias_ih, self.d_bias_hh = window.gradient(module.bias_ih), window.gradient(module.bias_hh)
            before = self.h_between[1:] if self.reverse else self.h_between[:-1]
            self.h_before_rows = window.rows(before, H, are_inputs=True)
            self.gates_rows = window.rows(self.gates, N)
            self.recurrent_rows = window.rows(self.recurrent, N) if apart else self.gates_rows

    def _buffer(self, purpose: str, N: int) -> Array:
        return self.window.array(N) if self.window.training or not N else self.window.scratch(purpose, N)

    def connect(self) -> None:
        """Pack the arguments of the kernels, once the buffer of the output's gradient is known."""
        loops, prefetch = kernels.loops, kernels.machine.prefetch
        address_of, activations = kernels.machine.native_calls.address_of, kernels.activations
        cell, dtype, apart, read = self.cell, self.window.dtype, self.recurrent is not self.gates, self.input
        training = self.window.training
        weight, weight_t = self.weight_hh.panels, self.weight_hh.transposed
        self.inputs = loops.recurrent.Inputs(
            read.table, read.index, read.values, read.weight.panels, self.bias, read.weight.K,
            self.label.table, self.label.index,
        )  # fmt: skip
        self.operands = loops.recurrent.Gates(
            self.gates, self.recurrent, apart, self.bias_hh, weight, weight if weight_t is None else weight_t,
            self.weight_hh.N,
        )  # fmt: skip
        hidden = [self.recurrent] if apart else []
        # The next position, the state before a position, and that after it.
        following, before, after = (-1, 1, 0) if self.reverse else (1, 0, 1)
        self.prefetches_forward = prefetch.table(
            (self.y.values, 0), (self.h_between, after), (self.rest, after), (self.kept, 0),
            (read.values, following), (self.gates, following), *((array, following) for array in hidden),
        )  # fmt: skip
        dh = self.y.gradient if training else self.window.array(0, 0, 0)
        arrays = (
            self.gates, self.recurrent, self.h_between, self.rest, self.y.values, self.kept, dh,
            self.dh_next, self.d_rest,
        )  # fmt: skip
        buffers = loops.equations.buffers(self.widths, tuple(map(self._in_order, arrays)))
        forward = address_of(loops.equations.forward(cell, dtype), needed=False)
        self.forward_loops = loops.recurrent.Loops(forward, buffers)
        if not training:
            return
        reads = {*cell.backward(activations).reads}
        between = [self.h_between] if "h" in reads else []
        between += [self.rest] if reads & {*cell.state[1:]} else []
        self.prefetches_backward = prefetch.table(
            (self.gates, -following), *((array, -following) for array in hidden),
            *((array, before - following) for array in between), (self.kept, -following), (dh, -following),
        )  # fmt: skip
        backward = address_of(loops.equations.backward(cell, dtype), needed=False)
        self.backward_loops = loops.recurrent.Loops(backward, buffers)

    def state_gradient(self) -> tuple[Array, ...]:
        """The gradient of the initial state, after `backward`."""
        return tuple(part.copy() for part in self._parts(self.dh_next[0], self.d_rest[0]))

    def prepare(self) -> None:
        """Sum both biases, unless the cell needs them separately, and look up the labels."""
        self.label.prepare()
        if self.cell.separate_hidden_bias:
            self.bias[:] = self.bias_ih
        else:
            np.add(self.bias_ih, self.bias_hh, out=self.bias)

    def prepare_share(self, share: Share) -> None:
        """Compute a share of the table in which characters are looked up."""
        self.input.prepare_share(self.bias, share)

    def forward(self, b0: int, b1: int, t0: int, t1: int) -> None:
        """Input product, recurrent product and equations, step by step."""
        recurrent = kernels.loops.recurrent
        recurrent.forward(
            self.window.arithmetic.unit, self.prefetches_forward, self.inputs, self.operands, self.states(),
            self.forward_loops, self.H, recurrent.Steps(b0, b1, t0, t1, self.reverse),
        )  # fmt: skip

    def backward(self, b0: int, b1: int) -> None:
        """The gates' gradient from the output's, then the input's."""
        if self.d_states is None:
            self._backward(b0, b1, 0, self.window.T)
        else:
            for t in reversed(range(self.window.T)):
                self._backward(b0, b1, t, t + 1)
                for kept, part in zip(self.d_states, self.state_gradient(), strict=True):
                    kept[t, b0:b1] = part[b0:b1]
        self.refresh(b0, b1)
        self.input.backward(self.gates, b0, b1)

    def _backward(self, b0: int, b1: int, t0: int, t1: int) -> None:
        """The gates' gradient in these steps, after those behind them."""
        recurrent = kernels.loops.recurrent
        recurrent.backward(
            self.window.arithmetic.unit, self.prefetches_backward, self.operands, self.dh_next, self.d_rest,
            self.restart_rows, self.backward_loops, recurrent.Steps(b0, b1, t0, t1, self.reverse),
        )  # fmt: skip

    def refresh(self, b0: int, b1: int) -> None:
        """Refresh the operands of the weights' gradients."""
        self.h_before_rows.refresh(b0, b1)
        self.gates_rows.refresh(b0, b1)
        if self.recurrent_rows is not self.gates_rows:
            self.recurrent_rows.refresh(b0, b1)

    def parameter_gradients(self, share: Share) -> None:
        """Compute a share of the gradients: weights by panels or rows, biases by columns."""
        self.weight_hh.sum_outer_products(self.h_before_rows, self.recurrent_rows, share)
        rows = self.input.parameter_gradients(self.gates_rows, share)
        self.label.parameter_gradients(self.gates, share)
        j0, j1 = share.of_columns(self.weight_hh.N)
        self.window.column_sums(self.d_bias_ih, rows, j0, j1, self.input.ranges())
        if self.recurrent_rows is self.gates_rows:
            self.d_bias_hh[j0:j1] = self.d_bias_ih[j0:j1]
        else:
            self.window.column_sums(self.d_bias_hh, self.recurrent, j0, j1)
