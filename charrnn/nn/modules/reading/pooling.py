"""Attention pooling: a text becomes the weighted mean of its positions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from charrnn import kernels
from charrnn.nn.modules.module import Bound, Module, Shapes
from charrnn.nn.modules.stream import Stream

if TYPE_CHECKING:
    from charrnn.nn.operands import Share
    from charrnn.nn.parameters import Array
    from charrnn.nn.window import Window


class AttentionPooling(Module):
    """y = sum over t of a_t x_t, where a = softmax(v . tanh(W x_t + b)) over a text's own steps.

    x has K numbers, v and b have A. The output is a window of one step.
    """

    def __init__(self, K: int, A: int, name: str = "pooling") -> None:
        self.K, self.A = K, A
        self.weight, self.bias, self.vector = (f"{name}.{part}" for part in ("weight", "bias", "vector"))

    def __repr__(self) -> str:
        return f"AttentionPooling({self.K}, {self.A})"

    def shapes(self) -> Shapes:
        """W, b and v."""
        return {self.weight: (self.A, self.K), self.bias: (self.A,), self.vector: (self.A,)}

    def initial(self, random: np.random.Generator) -> dict[str, Array]:
        """Uniform within 1 / sqrt(K), or 1 / sqrt(A) for v; no bias."""
        weight = random.uniform(-1.0, 1.0, (self.A, self.K)) / np.sqrt(self.K)
        vector = random.uniform(-1.0, 1.0, self.A) / np.sqrt(self.A)
        return {
            self.weight: weight.astype(np.float32), self.bias: np.zeros(self.A, np.float32),
            self.vector: vector.astype(np.float32),
        }  # fmt: skip

    def bind(self, window: Window, x: Stream) -> BoundAttentionPooling:
        """Passes over whole windows."""
        return BoundAttentionPooling(self, window, x)


class BoundAttentionPooling(Bound):
    """Attention whose only query is zero; `weights` (1, B, padded T) are those of the last forward pass."""

    def __init__(self, module: AttentionPooling, window: Window, x: Stream) -> None:
        super().__init__(x, Stream(window.of_steps(1), module.K))
        A, attention = module.A, kernels.loops.attention
        self.weight, self.bias = window.weight(module.weight), window.parameters[module.bias]
        self.keys, self.query = window.array(A), window.array(A, 1)
        self.weights = window.array(window.T, 1)
        columns = np.arange(window.B, dtype=np.int32)
        self.source = attention.Source(
            self.keys, x.values, window.lengths, columns, window.parameters[module.vector], True, A, module.K
        )  # fmt: skip
        if window.training:
            self.d_keys, self.d_query, self.d_vectors = (window.array(A, steps) for steps in (None, 1, 1))
            self.d_bias, self.d_vector = window.gradient(module.bias), window.gradient(module.vector)
            self.x_rows, self.d_rows = x.rows, window.rows(self.d_keys, A)

    def forward(self, b0: int, b1: int, t0: int, t1: int) -> None:
        self.weight.forward(self.keys, self.bias, self.x.values, b0, b1)
        kernels.loops.attention.forward(self.y.values, self.weights, self.query, self.source, 0, b0, b1)

    def backward(self, b0: int, b1: int) -> None:
        attention, dx, dy = kernels.loops.attention, self.x.gradient, self.y.gradient
        for array in (dx, self.d_keys, self.d_vectors):
            attention.clear(array, b0, b1)
        gradients = attention.Gradients(self.d_keys, dx, self.d_vectors)
        attention.backward(
            self.d_query, dy, self.weights, self.query, self.source, gradients, 0, (b0, b1)
        )  # fmt: skip
        self.weight.backward(dx, dx, self.d_keys, b0, b1)
        self.x_rows.refresh(b0, b1)
        self.d_rows.refresh(b0, b1)

    def parameter_gradients(self, share: Share) -> None:
        self.weight.sum_outer_products(self.x_rows, self.d_rows, share)
        columns = share.of_columns(self.source.A)
        self.x.window.column_sums(self.d_bias, self.d_keys, *columns)
        self.x.window.column_sums(self.d_vector, self.d_vectors, *columns)
