"""Attention of a network that writes to its own past states; see kernels.loops.retrospection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from charrnn import kernels
from charrnn.kernels.machine.aligned import aligned
from charrnn.kernels.products.gemm import PANEL
from charrnn.nn.modules.linear import Linear
from charrnn.nn.modules.module import Module, Shapes, Stateful
from charrnn.nn.modules.stream import Stream

if TYPE_CHECKING:
    from charrnn.nn.modules.program import Program, Value
    from charrnn.nn.operands import Share
    from charrnn.nn.parameters import Array
    from charrnn.nn.window import Window

MOST_KEY = 64  # numbers of a key
SHARPNESS, FEW = 12.0, 1.5  # on program code; 20 and 0 come to 1.056 nats where these come to 1.028


class Retrospection(Module):
    """y = x + W_o (a mean of the last `span` x) + b_o. Its state: those x, and how many of them there are."""

    def __init__(self, H: int, span: int, name: str = "attention") -> None:
        self.H, self.span, self.A = H, span, min(H, MOST_KEY)
        self.query, self.key = Linear(H, self.A, f"{name}.query"), Linear(H, self.A, f"{name}.key")
        self.output, self.lag = Linear(H, H, f"{name}.output"), f"{name}.lag"
        self.parts = self.query, self.key, self.output
        self.widths = span * H, 1

    def __repr__(self) -> str:
        return f"Retrospection({self.H}, {self.span})"

    def shapes(self) -> Shapes:
        """Those of the three linear layers, and a bias for each lag."""
        found = {name: shape for part in self.parts for name, shape in part.shapes().items()}
        return {**found, self.lag: (self.span,)}

    def initial(self, random: np.random.Generator) -> dict[str, Array]:
        """At first it finds what is like the present, as a cache does, and adds nothing: W_o is zero.

        Queries and keys are the same, with orthogonal rows: a score is about SHARPNESS times the cosine of
        two outputs, less as much, plus FEW.
        """
        found = {name: value for part in self.parts for name, value in part.initial(random).items()}
        rows = random.standard_normal((self.H, self.H))
        kernels.orthogonal.orthogonalize(rows)
        # The square of an output's length is about 2 H, with a norm and a skip connection.
        alike = np.float32(np.sqrt(SHARPNESS / (2 * np.sqrt(self.A)))) * rows[: self.A].astype(np.float32)
        found |= {self.query.weight: alike, self.key.weight: alike.copy()}
        found[self.output.weight][:] = 0
        return {**found, self.lag: np.full(self.span, FEW - SHARPNESS, np.float32)}

    def bind(self, window: Window, x: Stream) -> Stateful:
        """Passes over a window."""
        return _Bound(self, window, x)

    def step(self, program: Program, x: Value) -> Value:
        """What is attended to, beside x."""
        query, key = (program.product(x, part.weight, part.bias) for part in (self.query, self.key))
        context = program.attend(x, query, key, self.lag)
        return program.sum(x, program.product(context, self.output.weight, self.output.bias))


class _Bound(Stateful):
    def __init__(self, module: Retrospection, window: Window, x: Stream) -> None:
        super().__init__(x, Stream(window, module.H))
        self.module, self.window, self.widths = module, window, module.widths
        T, S, H, A = window.T, module.span, module.H, module.A
        self.whole = window.of_steps(S + T)  # with the steps before the window
        self.query, self.output = window.weight(module.query.weight), window.weight(module.output.weight)
        self.key = self.whole.weight(module.key.weight)
        self.biases = {part: window.parameters[part.bias] for part in module.parts}
        self.past, self.keys = self.whole.array(H), self.whole.array(A)
        self.queries, self.contexts = window.array(A), window.array(H)
        width = -(-T // PANEL) * PANEL + PANEL // 2  # no power of two
        self.weights = aligned((window.B, S + T, width), window.dtype)
        self.places = np.zeros((3, T, window.B), np.int64)  # see kernels.loops.retrospection.Seen
        self.begun, self.begun_keys = window.array(H, S, 1), window.array(A, S, 1)
        self.texts = 0  # that begin with states of others
        if window.training:
            self.d_queries, self.d_keys = window.array(A), self.whole.array(A)
            self.d_contexts, self.d_lags = window.array(H), window.array(S, 1)
            self.x_rows = x.rows
            self.context_rows = window.rows(self.contexts, H, are_inputs=True)
            self.past_rows = self.whole.rows(self.past, H, are_inputs=True)
            self.d_query_rows = window.rows(self.d_queries, A)
            self.d_key_rows = self.whole.rows(self.d_keys, A)
        else:
            self.begun_key = window.weight(module.key.weight, exact=True)

    def connect(self) -> None:
        if self.window.training:
            self.dy_rows = self.window.rows(self.y.gradient, self.module.H)

    def start(self, state: tuple[Array, ...], restart_rows: Any, restarts: tuple[Array, ...]) -> None:
        """Set the outputs before the window; where restart_rows is not -1, that row of `restarts`."""
        S, H, (T, B) = self.module.span, self.module.H, self.places.shape[1:]
        before, counts = restarts[0], restarts[1][:, 0].astype(np.int64)
        self.past[:S, :, :H] = state[0].reshape(B, S, H).transpose(1, 0, 2)
        rows = np.broadcast_to(restart_rows, (T, B))
        steps = np.where(rows >= 0, np.arange(T)[:, None], -1)
        origin = np.maximum.accumulate(steps, axis=0)
        begins, origin = origin >= 0, np.maximum(origin, 0)
        row = np.where(begins, rows[origin, np.arange(B)], 0)
        known = np.where(begins, counts[row], state[1][:, 0].astype(np.int64))
        used, place = np.unique(row[begins & (known > 0)]), np.full(len(counts), -1)
        place[used], self.texts = np.arange(len(used)), len(used)
        self.places[:] = np.where(begins, place[row], -1), origin, known
        if self.texts:
            self.begun, self.begun_keys = (self.window.array(n, S, len(used)) for n in (H, self.module.A))
            self.begun[:, :, :H] = before[used].reshape(-1, S, H).transpose(1, 0, 2)

    def prepare(self) -> None:
        """The keys of texts that begin with states of others."""
        if self.texts:
            self.begun_key.forward(self.begun_keys, self.biases[self.module.key], self.begun, 0, self.texts)

    def state(self) -> tuple[Array, ...]:
        T, B = self.places.shape[1:]
        return self.states_after(np.arange((T - 1) * B, T * B))

    def states_after(self, places: Array) -> tuple[Array, ...]:
        S, H, B = self.module.span, self.module.H, self.window.B
        past, counts = np.zeros((len(places), S, H), self.window.dtype), np.zeros((len(places), 1))
        for n, (t, b) in enumerate(zip(*divmod(places, B), strict=True)):
            row, origin, known = self.places[:, t, b].tolist()
            counts[n] = min(S, t + 1 - origin + known)
            if row < 0:
                past[n] = self.past[t + 1 : t + 1 + S, b, :H]
            else:
                own = self.past[S + origin : S + t + 1, b, :H]
                past[n] = np.concatenate((self.begun[:, row, :H], own))[-S:]
        return past.reshape(len(places), S * H), counts.astype(self.window.dtype)

    def state_gradient(self) -> tuple[Array, ...]:
        """None: outputs before the window are constants."""
        return tuple(np.zeros((self.window.B, width)) for width in self.widths)

    def _seen(self) -> Any:
        m = self.module
        return kernels.loops.retrospection.Seen(
            self.past, self.keys, self.begun, self.begun_keys, *self.places, self.window.parameters[m.lag],
            m.span, m.H, m.A,
        )  # fmt: skip

    def forward(self, b0: int, b1: int, t0: int, t1: int) -> None:
        """Keys and queries, the contexts, and what they add."""
        loop, m, seen, steps = kernels.loops.retrospection, self.module, self._seen(), slice(t0, t1)
        x, S = self.x.values, m.span
        if t0 == 0:
            self.key.forward(self.keys[:S], self.biases[m.key], self.past[:S], b0, b1)
        loop.take_in(seen, x, b0, b1, t0, t1)
        self.key.forward(self.keys[S + t0 : S + t1], self.biases[m.key], x[steps], b0, b1)
        self.query.forward(self.queries[steps], self.biases[m.query], x[steps], b0, b1)
        if self.texts:
            loop.forward_each(self.contexts, self.queries, seen, b0, b1, t0, t1)
        else:
            unit = self.window.arithmetic.exact.unit
            loop.forward(self.contexts, self.weights, self.queries, seen, unit, (b0, b1), (t0, t1))
        self.output.forward(self.y.values[steps], self.biases[m.output], self.contexts[steps], b0, b1)
        kernels.rows.add(self.y.values[steps], x[steps], m.H, b0, b1)

    def backward(self, b0: int, b1: int) -> None:
        loop, m, dx, unit = (
            kernels.loops.retrospection, self.module, self.x.gradient, self.window.arithmetic.exact.unit,
        )  # fmt: skip
        self.output.backward(self.d_contexts, None, self.y.gradient, b0, b1)
        kernels.rows.copy(dx, self.y.gradient, m.H, b0, b1)
        gradients = loop.Gradients(self.d_queries, dx, self.d_keys, self.d_lags)
        loop.backward(gradients, self.d_contexts, self.weights, self.queries, self._seen(), unit, (b0, b1))
        self.query.backward(dx, dx, self.d_queries, b0, b1)
        self.key.backward(dx, dx, self.d_keys[m.span :], b0, b1)
        inputs, outputs = (
            (self.x_rows, self.context_rows, self.past_rows),
            (self.d_query_rows, self.d_key_rows),
        )
        for rows in (*inputs, *outputs, self.dy_rows):
            rows.refresh(b0, b1)

    def parameter_gradients(self, share: Share) -> None:
        m, window = self.module, self.window
        self.output.sum_outer_products(self.context_rows, self.dy_rows, share)
        self.query.sum_outer_products(self.x_rows, self.d_query_rows, share)
        self.key.sum_outer_products(self.past_rows, self.d_key_rows, share)
        for name, rows in (
            (m.output.bias, self.y.gradient), (m.query.bias, self.d_queries), (m.key.bias, self.d_keys),
            (m.lag, self.d_lags),
        ):  # fmt: skip
            columns = share.of_columns(*window.parameters.shapes[name])
            window.column_sums(window.gradient(name), rows, *columns)
