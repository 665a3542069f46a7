"""A memory beside its controller: a neural Turing machine; see kernels.loops.memory for the equations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from charrnn import kernels
from charrnn.nn import cells
from charrnn.nn.cell import Cell
from charrnn.nn.modules.linear import Linear
from charrnn.nn.modules.module import Module, Shapes, Stateful
from charrnn.nn.modules.recurrent import Recurrent
from charrnn.nn.modules.stream import Stream

if TYPE_CHECKING:
    from charrnn.nn.modules.program import Program, Value
    from charrnn.nn.operands import Share
    from charrnn.nn.parameters import Array
    from charrnn.nn.window import Window


# How large the first weights of what tells the heads are, beside the usual ones: of keys, of what is erased
# and added, and of all that moves a head, which at first is the same whatever is read.
CONTENT, CONTROL = 3.0, 0.3
# The first biases of the head that reads, of staying and of its sharpness; and of the one that writes, of its
# gate, of moving on and of its sharpness.
READS, WRITES = (1.0, 1.0), (-4.0, 2.0, 3.0)


class Memory(Module):
    """N rows of M numbers, and a controller of H units that reads D numbers and what it reads of the memory.

    It puts out H + M numbers: the controller's state, and what it then reads. Its own state: that of the
    controller, and what kernels.loops.memory.state_size counts.
    """

    def __init__(self, cell: Cell, D: int, H: int, N: int, M: int, biases: Mapping[str, float]) -> None:
        controller = cells.cell_of(cell.controller or "", "")
        assert controller is not None
        self.D, self.H, self.N, self.M = D, H, N, M
        self.P, self.S = 4 * M + 12, M + 2 * N + N * M + 1
        self.layer = Recurrent(controller, D + M, H, 0, biases)
        self.heads = Linear(H, self.P, "heads")
        self.parts = self.layer, self.heads
        self.widths = *self.layer.widths, self.S

    def __repr__(self) -> str:
        return f"Memory({self.layer.cell.name}, {self.D} -> {self.H} + {self.M}, {self.N} x {self.M})"

    def shapes(self) -> Shapes:
        """Those of a layer that reads D + M numbers, and of what tells the heads."""
        return {name: shape for part in self.parts for name, shape in part.shapes().items()}

    def initial(self, random: np.random.Generator) -> dict[str, Array]:
        """Those of the layer and of a linear one, whose weights are larger.

        The head that reads would rather stay where it is, and the one that writes move on, wherever it is.
        """
        found = {name: value for part in self.parts for name, value in part.initial(random).items()}
        M, bias, weight = self.M, found[self.heads.bias], found[self.heads.weight]
        weight *= np.float32(CONTENT)
        for first in (M, 2 * M + 6):
            weight[first : first + 6] *= np.float32(CONTROL / CONTENT)
        reads, writes = bias[: M + 6], bias[M + 6 : 2 * M + 12]
        reads[M + 3], reads[M + 5] = READS
        writes[M + 1], writes[M + 2], writes[M + 5] = WRITES
        return found

    def bind(self, window: Window, x: Stream) -> Stateful:
        """Passes over a window."""
        return BoundMemory(self, window, x)

    def step(self, program: Program, x: Value) -> Value:
        """The controller, which reads what was read before, what it tells the heads, and what they read."""
        before = program.hidden((self.M, self.S - self.M))
        h = self.layer.step(program, program.join(x, before))
        told = program.product(h, self.heads.weight, self.heads.bias)
        return program.join(h, program.remember(told, before, self.N))


class BoundMemory(Stateful):
    """The passes of a memory. After `forward`, `states` (T + 1, B, padded S) are those between the steps."""

    goes_on = True

    def __init__(self, module: Memory, window: Window, x: Stream) -> None:
        super().__init__(x, Stream(window, module.H + module.M))
        self.module, self.window, self.widths = module, window, module.widths
        D, H, M, N, T = module.D, module.H, module.M, module.N, window.T
        self.joined, self.hidden = Stream(window, D + M), Stream(window, H)
        self.cell = module.layer.bind(window, self.joined, self.hidden)
        self.heads, self.bias = window.weight(module.heads.weight), window.parameters[module.heads.bias]
        self.states = window.array(module.S, T + 1)
        self.restart_rows = np.zeros((T, window.B), np.int32)
        self.restarts = np.zeros((1, module.S), window.dtype)
        sizes = {"heads": module.P, "memory": kernels.loops.memory.kept_size(N)}
        self.told, self.kept = (
            window.array(size) if window.training else window.scratch(purpose, size)
            for purpose, size in sizes.items()
        )
        if window.training:
            self.d_state = window.array(module.S, 1)
            self.h_rows = window.rows(self.hidden.values, H, are_inputs=True)
            self.told_rows = window.rows(self.told, module.P)

    def connect(self) -> None:
        """Pack the arguments of the kernels."""
        loops, cell = kernels.loops, self.cell
        cell.connect()
        if not self.window.training:
            return
        self.through = loops.memory.Through(
            cell.prefetches_backward, cell.operands, cell.dh_next, cell.d_rest, cell.restart_rows,
            cell.backward_loops, cell.input.weight.transposed, self.joined.gradient, self.heads.transposed,
            self.hidden.gradient, self.y.gradient, self.d_state, self.window.arithmetic.zero,
        )  # fmt: skip

    def start(self, state: tuple[Array, ...], restart_rows: Any, restarts: tuple[Array, ...]) -> None:
        self.cell.start(state[:-1], restart_rows, restarts[:-1])
        self.states[0, :, : self.module.S] = state[-1]
        self.restart_rows[:] = restart_rows
        self.restarts = np.ascontiguousarray(restarts[-1])

    def prepare(self) -> None:
        self.cell.prepare()

    def state(self) -> tuple[Array, ...]:
        return *self.cell.state(), self.states[-1, :, : self.module.S].copy()

    def states_after(self, places: Array) -> tuple[Array, ...]:
        n, S = self.window.T * self.window.B, self.module.S
        return *self.cell.states_after(places), self.states[1:].reshape(n, -1)[places, :S]

    def state_gradient(self) -> tuple[Array, ...]:
        return *self.cell.state_gradient(), self.d_state[0, :, : self.module.S].copy()

    def weights(self) -> Array:
        """Where the heads looked in each step, (T, B, 2, N): the one that reads, and the one that writes."""
        N = self.module.N
        found: Array = self.kept[..., N : 7 * N].reshape(*self.kept.shape[:2], 2, 3, N)[:, :, :, 2].copy()
        return found

    def _memory(self) -> Any:
        return kernels.loops.memory.Memory(
            self.states, self.restart_rows, self.restarts, self.told, self.kept, self.module.M, self.module.N
        )

    def forward(self, b0: int, b1: int, t0: int, t1: int) -> None:
        """The controller, and then the memory, step by step."""
        cell, m, steps = self.cell, self.module, slice(t0, t1)
        kernels.rows.copy(self.joined.values[steps], self.x.values[steps], m.D, b0, b1)
        machine = kernels.loops.memory.Machine(
            cell.prefetches_forward, cell.inputs, cell.operands, cell.states(), cell.forward_loops,
            self.heads.panels, self.bias, self.y.values,
        )  # fmt: skip
        unit = self.window.arithmetic.unit
        kernels.loops.memory.forward(unit, machine, self._memory(), m.D, m.H, (b0, b1), (t0, t1))

    def backward(self, b0: int, b1: int) -> None:
        m, unit = self.module, self.window.arithmetic.unit
        kernels.loops.memory.backward(unit, self.through, self._memory(), m.D, m.H, (b0, b1))
        kernels.rows.copy(self.x.gradient, self.joined.gradient, m.D, b0, b1)
        for rows in (self.h_rows, self.told_rows, self.joined.rows):
            rows.refresh(b0, b1)
        self.cell.refresh(b0, b1)

    def parameter_gradients(self, share: Share) -> None:
        self.cell.parameter_gradients(share)
        self.heads.sum_outer_products(self.h_rows, self.told_rows, share)
        j0, j1 = share.of_columns(self.module.P)
        self.window.column_sums(self.window.gradient(self.module.heads.bias), self.told, j0, j1)
