"""The recurrent layers: each kind's buffers for a window and its passes, on the kernels of its name.

A new kind of layer is a new class here and an entry in LAYERS.

Every method that computes takes columns b0 to b1 of the batch or a worker's share of the parameters, so
that threads can work side by side without a reduction between them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from charrnn.config import ModelConfig
from charrnn.kernels import gemm, gru, lstm, prefetch, rnn, rows
from charrnn.kernels.gemm import padded, panels
from charrnn.kernels.memory import aligned
from charrnn.operands import Arithmetic, Rows, Weight, sum_outer_products
from charrnn.parameters import Array, Parameters
from charrnn.workers import share


class Recurrent:
    """One layer over a window of T steps and B columns; the subclasses are the cells.

    It reads `x` (T, B, padded H), or, as the first, the rows `index` (T, B) of `table`, which must hold
    W_ih x + bias of each distinct character. `gates` (T, B, padded G*H) after backward is the gradient of
    W_ih x. `output` (T, B, padded H) is h, and `dh`, of the same shape, must hold its gradient.
    """

    states = 1  # arrays of (B, H) that are carried from step to step
    free_after_backward: Array | None = None  # of its buffers, one of (T, B, padded H)

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
        training = gradients is not None
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
        self.first: tuple[Array, ...] = ()  # the states that `origin` is a row of
        self.x, self.dh = (np.zeros((0, 0, 0), dtype) for _ in range(2))
        self.table, self.index = np.zeros((0, 0), dtype), np.zeros((0, 0), np.int32)
        self.gates = aligned((T, B, padded(G * H)), dtype)
        self.output = aligned((T, B, padded(H)), dtype)
        self.h_prev = aligned((T + 1, B, padded(H)), dtype)
        self.zero = aligned((padded(G * H),), dtype)
        if training:
            self.dh_next = aligned((1, B, padded(H)), dtype)
            self.h_prev_rows = Rows(self.h_prev[:-1], H, arithmetic, are_inputs=True)
            self.gates_rows = Rows(self.gates, G * H, arithmetic)

    def look_up(self, table: Array, index: Array) -> None:
        """Be the first layer, and read these. As the next two, after `share_scratch`."""
        self.table, self.index = table, index
        self._list_what_is_soon()

    def follow(self, x: Array) -> None:
        """Read what the layer before passes on."""
        self.x = x
        self._list_what_is_soon()

    def receive(self, dh: Array) -> None:
        """Take the output's gradient from here."""
        self.dh = dh
        self._list_what_is_soon()

    def _list_what_is_soon(self) -> None:
        self.soon_forward = prefetch.table(*self._soon_forward())
        self.soon_backward = prefetch.table(*self._soon_backward())

    def _soon_forward(self) -> tuple[tuple[Array, int], ...]:
        """Forward, what is worked on after a step's recurrent product; see prefetch.table."""
        return (self.output, 0), (self.h_prev, 1), (self.x, 1), (self.gates, 1)

    def _soon_backward(self) -> tuple[tuple[Array, int], ...]:
        """And backward."""
        return (self.gates, -1), (self.dh, -1)

    def _inputs(self) -> tuple[Array, ...]:
        """As kernels.inputs takes them."""
        return self.table, self.index, self.x, self.weight_ih.forward, self.bias

    def share_scratch(self, other: Any) -> None:
        """Use those buffers of another layer that nothing reads once it is done with the same steps."""
        self.gates = other.gates

    def _parameter(self, name: str) -> Array:
        return self.parameters[self.names[name]]

    def _gradient(self, name: str) -> Array:
        assert self.gradients is not None
        return self.gradients[self.names[name]]

    @property
    def remembered(self) -> tuple[Array, ...]:
        """What each step starts from, and last what the window ends with; each (T + 1, B, padded H)."""
        return (self.h_prev,)

    def set_state(self, state: tuple[Array, ...]) -> None:
        """Start the window from these arrays of (B, H)."""
        for array, values in zip(self.remembered, state, strict=True):
            array[0, :, : self.H] = values

    def state(self) -> tuple[Array, ...]:
        """What the window ended with."""
        return tuple(array[-1, :, : self.H].copy() for array in self.remembered)

    def states_after(self, places: Array) -> tuple[Array, ...]:
        """What was remembered after the steps t * B + b, (n, H) each."""
        T, B, width = self.output.shape
        return tuple(array[1:].reshape(T * B, width)[places, : self.H] for array in self.remembered)

    def state_gradient(self) -> tuple[Array, ...]:
        """The gradient of what the window started from, after backward."""
        return (self.dh_next[0, :, : self.H].copy(),)

    def prepare(self) -> None:
        """Once a step, before anything else: what depends on the parameters alone."""
        np.add(self.bias_ih, self.bias_hh, out=self.bias)

    def copy_weights(self, worker: int, workers: int) -> None:
        """Once a training step: a share of the weights as the products read them."""
        self.weight_ih.refresh(worker, workers)
        self.weight_hh.refresh(worker, workers)

    def forward(self, b0: int, b1: int, t0: int, t1: int) -> None:
        """Steps t0 to t1, those before them being done."""
        raise NotImplementedError

    def backward(self, b0: int, b1: int) -> None:
        """The gates' gradient from the output's."""
        raise NotImplementedError

    def copy_rows(self, b0: int, b1: int) -> None:
        """After backward: what the weights' gradients are summed over."""
        self.h_prev_rows.refresh(b0, b1)
        self.gates_rows.refresh(b0, b1)

    @property
    def recurrent_rows(self) -> Rows:
        """After backward: the gradient of `W_hh h + b_hh`."""
        return self.gates_rows

    def parameter_gradients(self, inputs: Rows | None, d_inputs: Array, worker: int, workers: int) -> None:
        """A share of the gradients; `inputs` are the layer's, None where the caller has W_ih's.

        The rows of d_inputs (.., .., padded G*H) add up to the gradient of b_ih.
        """
        p0, p1 = share(panels(self.width), worker, workers)
        j0, j1 = p0 * gemm.PANEL, p1 * gemm.PANEL
        recurrent, gates = self.recurrent_rows, self.gates_rows
        sum_outer_products(
            self.unit, self._gradient("weight_hh"), self.zero, self.h_prev_rows, recurrent, worker, workers
        )
        rows.column_sums(self._gradient("bias_ih"), d_inputs, j0, j1)
        if recurrent is gates:
            self._gradient("bias_hh")[j0:j1] = self._gradient("bias_ih")[j0:j1]
        else:
            rows.column_sums(self._gradient("bias_hh"), recurrent.source, j0, j1)
        if inputs is not None:
            sum_outer_products(
                self.unit, self._gradient("weight_ih"), self.zero, inputs, gates, worker, workers
            )


class LSTM(Recurrent):
    """Gates i, f, g, o; the equations stand in `charrnn.kernels.lstm`."""

    states = 2

    def __init__(self, config: ModelConfig, k: int, *args: Any) -> None:
        super().__init__(config, k, *args)
        self.c_prev = aligned(self.h_prev.shape, self.h_prev.dtype)
        self.tanh_c = self.free_after_backward = aligned(self.output.shape, self.h_prev.dtype)
        if self.gradients is not None:
            self.dc = aligned(self.dh_next.shape, self.h_prev.dtype)

    def share_scratch(self, other: LSTM) -> None:
        super().share_scratch(other)
        self.tanh_c = other.tanh_c

    @property
    def remembered(self) -> tuple[Array, ...]:
        return (self.h_prev, self.c_prev)

    def state_gradient(self) -> tuple[Array, ...]:
        return (*super().state_gradient(), self.dc[0, :, : self.H].copy())

    def _soon_forward(self) -> tuple[tuple[Array, int], ...]:
        return (
            (self.output, 0), (self.h_prev, 1), (self.c_prev, 1), (self.tanh_c, 0), (self.x, 1),
            (self.gates, 1),
        )  # fmt: skip

    def _soon_backward(self) -> tuple[tuple[Array, int], ...]:
        return (self.gates, -1), (self.c_prev, -1), (self.tanh_c, -1), (self.dh, -1)

    def forward(self, b0: int, b1: int, t0: int, t1: int) -> None:
        lstm.forward(
            self.unit, self.soon_forward, *self._inputs(), self.gates, self.h_prev, self.c_prev, self.output,
            self.tanh_c, self.origin, *self.first, self.weight_hh.forward, self.H, b0, b1, t0, t1,
        )  # fmt: skip

    def backward(self, b0: int, b1: int) -> None:
        lstm.backward(
            self.unit, self.soon_backward, self.gates, self.c_prev, self.tanh_c, self.dh, self.dh_next,
            self.dc, self.origin, self.weight_hh.backward, self.H, b0, b1,
        )  # fmt: skip


class GRU(Recurrent):
    """Gates r, z, n; the equations stand in `charrnn.kernels.gru`."""

    def __init__(self, config: ModelConfig, k: int, *args: Any) -> None:
        super().__init__(config, k, *args)
        self.recurrent = aligned(self.gates.shape, self.gates.dtype)
        if self.gradients is not None:
            self._recurrent_rows = Rows(self.recurrent, self.width, self.arithmetic)

    def share_scratch(self, other: GRU) -> None:
        super().share_scratch(other)
        self.recurrent = other.recurrent

    def prepare(self) -> None:
        self.bias[:] = self.bias_ih  # b_hh is added within the reset gate's reach

    def copy_rows(self, b0: int, b1: int) -> None:
        super().copy_rows(b0, b1)
        self._recurrent_rows.refresh(b0, b1)

    @property
    def recurrent_rows(self) -> Rows:
        return self._recurrent_rows

    def _soon_forward(self) -> tuple[tuple[Array, int], ...]:
        return *super()._soon_forward(), (self.recurrent, 1)

    def _soon_backward(self) -> tuple[tuple[Array, int], ...]:
        return (self.gates, -1), (self.recurrent, -1), (self.h_prev, -1), (self.dh, -1)

    def forward(self, b0: int, b1: int, t0: int, t1: int) -> None:
        gru.forward(
            self.unit, self.soon_forward, *self._inputs(), self.gates, self.recurrent, self.h_prev,
            self.output, self.origin, *self.first, self.weight_hh.forward, self.bias_hh, self.H, b0, b1,
            t0, t1,
        )  # fmt: skip

    def backward(self, b0: int, b1: int) -> None:
        gru.backward(
            self.unit, self.soon_backward, self.gates, self.recurrent, self.h_prev, self.dh, self.dh_next,
            self.origin, self.weight_hh.backward, self.H, b0, b1,
        )  # fmt: skip


class RNN(Recurrent):
    """One tanh or ReLU; the equation stands in `charrnn.kernels.rnn`."""

    def __init__(self, config: ModelConfig, k: int, *args: Any) -> None:
        super().__init__(config, k, *args)
        self.relu = config.nonlinearity == "relu"

    def forward(self, b0: int, b1: int, t0: int, t1: int) -> None:
        rnn.forward(
            self.unit, self.soon_forward, *self._inputs(), self.gates, self.h_prev, self.output, self.origin,
            *self.first, self.weight_hh.forward, self.relu, self.H, b0, b1, t0, t1,
        )  # fmt: skip

    def backward(self, b0: int, b1: int) -> None:
        rnn.backward(
            self.unit, self.soon_backward, self.gates, self.dh, self.dh_next, self.origin,
            self.weight_hh.backward, self.relu, self.H, b0, b1,
        )  # fmt: skip


LAYERS: dict[str, type[Recurrent]] = {"lstm": LSTM, "gru": GRU, "rnn": RNN}
