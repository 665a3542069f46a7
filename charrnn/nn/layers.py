"""A recurrent layer, whatever its cell: its buffers for a window and its passes.

Every method that computes takes columns b0 to b1 of the batch or a worker's share of the parameters, so
that threads can work side by side without a reduction between them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from charrnn.config import ModelConfig
from charrnn.kernels import activations, rows
from charrnn.kernels.loops import equations, recurrent
from charrnn.kernels.machine import prefetch
from charrnn.kernels.machine.aligned import aligned
from charrnn.kernels.machine.native_calls import address_of
from charrnn.kernels.products import gemm
from charrnn.kernels.products.gemm import padded, panels
from charrnn.nn.operands import Arithmetic, Rows, Weight, sum_outer_products
from charrnn.nn.parameters import Array, Parameters
from charrnn.nn.workers import share


class Recurrent:
    """One layer over a window of T steps and B columns.

    It reads `x` (T, B, padded H), or, as the first, the rows `index` (T, B) of `table`, which must hold
    W_ih x + bias of each distinct character. `gates` (T, B, padded G*H) after backward is the gradient of
    W_ih x. `output` (T, B, padded H) is h, and `dh`, of the same shape, must hold its gradient.
    """

    def __init__(
        self,
        config: ModelConfig,
        k: int,
        parameters: Parameters,
        gradients: Parameters | None,
        T: int,
        B: int,
        arithmetic: Arithmetic,
    ) -> None:
        dtype, H, G = parameters.flat.dtype, config.hidden_size, config.gates
        self.cell, training = config.recurrence, gradients is not None
        self.H, self.width = H, G * H
        self.names = {n: f"rnn.{n}_l{k}" for n in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")}
        self.parameters, self.gradients = parameters, gradients
        self.arithmetic, self.unit = arithmetic, arithmetic.unit
        # The first layer's input product is a look-up, made from a few products that gain nothing.
        self.weight_ih = Weight(
            self._parameter("weight_ih"), G * H, arithmetic if k else arithmetic.exact,
            # One-hot input has no gradient, so its weight needs no transpose.
            with_transpose=training and (k > 0 or config.embedding_size > 0),
        )  # fmt: skip
        self.weight_hh = Weight(self._parameter("weight_hh"), G * H, arithmetic, with_transpose=training)
        self.bias_ih, self.bias_hh = self._parameter("bias_ih"), self._parameter("bias_hh")
        self.bias = aligned(self.bias_ih.shape, dtype)  # of the input product
        self.origin = np.zeros((T, B), np.int32)
        self.first: tuple[Array, ...] = ()  # the states that `origin` is a row of, h and the rest
        self.x, self.dh = (np.zeros((0, 0, 0), dtype) for _ in range(2))
        self.table, self.index = np.zeros((0, 0), dtype), np.zeros((0, 0), np.int32)
        self.gates = aligned((T, B, padded(G * H)), dtype)
        self.output = aligned((T, B, padded(H)), dtype)
        # What each step starts from, or what a text begins with; [T] is the final state. h, and the other
        # parts of the state side by side.
        rest = (len(self.cell.state) - 1) * H
        self.h_prev = aligned((T + 1, B, padded(H)), dtype)
        self.rest = aligned((T + 1, B, padded(rest) if rest else 0), dtype)
        kept = len(self.cell.kept) * H
        self.kept = aligned((T, B, padded(kept) if kept else 0), dtype)
        # W_hh h + b_hh, after backward its gradient: the gates themselves, unless it is wanted apart.
        apart = self.cell.separate_hidden_bias
        self.recurrent = aligned(self.gates.shape, dtype) if apart else self.gates
        self.zero = aligned((padded(G * H),), dtype)
        self.dh_next, self.d_rest = (np.zeros((1, B, 0), dtype) for _ in range(2))
        if training:
            self.dh_next = aligned((1, *self.h_prev.shape[1:]), dtype)
            self.d_rest = aligned((1, *self.rest.shape[1:]), dtype)
            self.h_prev_rows = Rows(self.h_prev[:-1], H, arithmetic, are_inputs=True)
            self.gates_rows = Rows(self.gates, G * H, arithmetic)
            self.recurrent_rows = Rows(self.recurrent, G * H, arithmetic) if apart else self.gates_rows

    def look_up(self, table: Array, index: Array) -> None:
        """Be the first layer, and read these. As the next two, after `share_scratch`."""
        self.table, self.index = table, index
        self._list_arguments()

    def follow(self, x: Array) -> None:
        """Read what the layer before passes on."""
        self.x = x
        self._list_arguments()

    def receive(self, dh: Array) -> None:
        """Take the output's gradient from here."""
        self.dh = dh
        self._list_arguments()

    def _list_arguments(self) -> None:
        """What the kernels take, once it is known what the layer reads and where its gradient comes from."""
        cell, dtype, apart = self.cell, self.gates.dtype, self.cell.separate_hidden_bias
        weight = self.weight_hh.forward
        weight_t = weight if self.weight_hh.backward is None else self.weight_hh.backward
        self._inputs = recurrent.Inputs(
            self.table, self.index, self.x, self.weight_ih.forward, self.bias, self.H
        )
        self._gates = recurrent.Gates(self.gates, self.recurrent, apart, self.bias_hh, weight, weight_t)
        hidden = [self.recurrent] if apart else []
        self._soon_forward = prefetch.table(
            (self.output, 0), (self.h_prev, 1), (self.rest, 1), (self.kept, 0), (self.x, 1), (self.gates, 1),
            *((array, 1) for array in hidden),
        )  # fmt: skip
        buffers = equations.buffers(
            self.H,
            (
                self.gates, self.recurrent, self.h_prev, self.rest, self.output, self.kept, self.dh,
                self.dh_next, self.d_rest,
            ),
        )  # fmt: skip
        self._forward_loops = recurrent.Loops(
            address_of(equations.forward(cell, dtype), needed=False), buffers
        )
        if self.gradients is None:
            return
        reads = {*cell.backward(activations).reads}
        hidden += [self.h_prev] if "h" in reads else []
        hidden += [self.rest] if reads & {*cell.state[1:]} else []
        self._soon_backward = prefetch.table(
            (self.gates, -1), *((array, -1) for array in hidden), (self.kept, -1), (self.dh, -1)
        )
        self._backward_loops = recurrent.Loops(
            address_of(equations.backward(cell, dtype), needed=False), buffers
        )

    @property
    def free_after_backward(self) -> Array | None:
        """Of the buffers, one of (T, B, padded H)."""
        return self.kept if self.kept.shape == self.output.shape else None

    def share_scratch(self, other: Recurrent) -> None:
        """Use those buffers of another layer that nothing reads once it is done with the same steps."""
        self.gates, self.recurrent, self.kept = other.gates, other.recurrent, other.kept

    def _parameter(self, name: str) -> Array:
        return self.parameters[self.names[name]]

    def _gradient(self, name: str) -> Array:
        assert self.gradients is not None
        return self.gradients[self.names[name]]

    def _parts(self, h: Array, rest: Array) -> tuple[Array, ...]:
        """The state's parts, (.., H) each, of arrays that have h and the others side by side."""
        H = self.H
        others = (rest[..., n * H : (n + 1) * H] for n in range(len(self.cell.state) - 1))
        return (h[..., :H], *others)

    def start(self, state: tuple[Array, ...], origin: Any, first: tuple[Array, ...]) -> None:
        """Start the window from these arrays of (B, H), and, where origin is not -1, from rows of `first`."""
        for array, values in zip(self._parts(self.h_prev[0], self.rest[0]), state, strict=True):
            array[:] = values
        self.origin[:] = origin
        h, *rest = map(np.ascontiguousarray, first)
        self.first = h, np.concatenate(rest, axis=1) if rest else np.zeros((len(h), 0), h.dtype)

    def state(self) -> tuple[Array, ...]:
        """What the window ended with."""
        return tuple(part.copy() for part in self._parts(self.h_prev[-1], self.rest[-1]))

    def states_after(self, places: Array) -> tuple[Array, ...]:
        """What was remembered after the steps t * B + b, (n, H) each."""
        T, B, _ = self.output.shape
        h, rest = (array[1:].reshape(T * B, array.shape[2])[places] for array in (self.h_prev, self.rest))
        return self._parts(h, rest)

    def state_gradient(self) -> tuple[Array, ...]:
        """The gradient of what the window started from, after backward."""
        return tuple(part.copy() for part in self._parts(self.dh_next[0], self.d_rest[0]))

    def prepare(self) -> None:
        """Once a step, before anything else: what depends on the parameters alone."""
        if self.cell.separate_hidden_bias:
            self.bias[:] = self.bias_ih
        else:
            np.add(self.bias_ih, self.bias_hh, out=self.bias)

    def copy_weights(self, worker: int, workers: int) -> None:
        """Once a training step: a share of the weights as the products read them."""
        self.weight_ih.refresh(worker, workers)
        self.weight_hh.refresh(worker, workers)

    def forward(self, b0: int, b1: int, t0: int, t1: int) -> None:
        """Steps t0 to t1, those before them being done."""
        states = recurrent.States(self.h_prev, self.rest, self.origin, *self.first)
        steps = recurrent.Steps(b0, b1, t0, t1)
        recurrent.forward(
            self.unit,
            self._soon_forward,
            self._inputs,
            self._gates,
            states,
            self._forward_loops,
            self.H,
            steps,
        )

    def backward(self, b0: int, b1: int) -> None:
        """The gates' gradient from the output's."""
        recurrent.backward(
            self.unit, self._soon_backward, self._gates, self.dh_next, self.d_rest, self.origin,
            self._backward_loops, (b0, b1),
        )  # fmt: skip

    def copy_rows(self, b0: int, b1: int) -> None:
        """After backward: what the weights' gradients are summed over."""
        self.h_prev_rows.refresh(b0, b1)
        self.gates_rows.refresh(b0, b1)
        if self.recurrent_rows is not self.gates_rows:
            self.recurrent_rows.refresh(b0, b1)

    def parameter_gradients(self, inputs: Rows | None, d_inputs: Array, worker: int, workers: int) -> None:
        """A share of the gradients; `inputs` are the layer's, None where the caller has W_ih's.

        The rows of d_inputs (.., .., padded G*H) add up to the gradient of b_ih.
        """
        p0, p1 = share(panels(self.width), worker, workers)
        j0, j1 = p0 * gemm.PANEL, p1 * gemm.PANEL
        gates, hidden = self.gates_rows, self.recurrent_rows
        sum_outer_products(
            self.unit, self._gradient("weight_hh"), self.zero, self.h_prev_rows, hidden, worker, workers
        )
        rows.column_sums(self._gradient("bias_ih"), d_inputs, j0, j1)
        if hidden is gates:
            self._gradient("bias_hh")[j0:j1] = self._gradient("bias_ih")[j0:j1]
        else:
            rows.column_sums(self._gradient("bias_hh"), hidden.source, j0, j1)
        if inputs is not None:
            sum_outer_products(
                self.unit, self._gradient("weight_ih"), self.zero, inputs, gates, worker, workers
            )
