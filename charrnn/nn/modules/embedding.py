"""The embedding: a character becomes a row of a matrix."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from charrnn import kernels
from charrnn.nn.modules.module import Bound, Module, Shapes
from charrnn.nn.modules.stream import Characters, Stream

if TYPE_CHECKING:
    from charrnn.nn.modules.program import Character, Program
    from charrnn.nn.operands import Share
    from charrnn.nn.parameters import Array
    from charrnn.nn.window import Window


class Embedding(Module):
    """A vector of D numbers for each of V characters."""

    reads_characters = True

    def __init__(self, V: int, D: int, name: str = "embedding") -> None:
        self.V, self.D, self.weight = V, D, f"{name}.weight"
        self.by_row = (self.weight,)

    def __repr__(self) -> str:
        return f"Embedding({self.V}, {self.D})"

    def shapes(self) -> Shapes:
        """The matrix."""
        return {self.weight: (self.V, self.D)}

    def initial(self, random: np.random.Generator) -> dict[str, Array]:
        """Normal, with a standard deviation of 0.5."""
        weight = 0.5 * random.standard_normal((self.V, self.D))
        return {self.weight: weight.astype(np.float32)}

    def bind(self, window: Window, x: Stream) -> Bound:
        """Passes over a window's characters."""
        assert isinstance(x, Characters)
        table = window.array(self.D, 1, x.ids.most)
        return _Bound(self, window, x, Characters(window, x.ids, self.D, table))

    def step(self, program: Program, x: Character) -> Character:
        """What follows looks the rows up."""
        return x._replace(width=self.D, embedding=self.weight)


class _Bound(Bound):
    # Forward and backward passes are empty: modules that read characters look them up, and the gradient of a
    # row is a sum over all columns.
    def __init__(self, module: Embedding, window: Window, x: Characters, y: Characters) -> None:
        super().__init__(x, y)
        self.D, self.ids, self.characters = module.D, x.ids, y
        self.weight = window.parameters[module.weight]
        self.gradient = window.gradient(module.weight) if window.training else None
        if window.training:  # gradients of the rows; `d_begin` without those of the readers
            self.d_begin, self.d_rows = (window.array(self.D, 1, x.ids.most) for _ in range(2))

    def prepare(self) -> None:
        """Look up the window's distinct characters; START is zero."""
        (U, known), y = (len(self.ids.used), self.ids.known), self.characters
        assert y.table is not None
        y.table[0, :known, : self.D] = self.weight[self.ids.used[:known]]
        y.table[0, known:U, : self.D] = 0
        y.fill()
        if self.gradient is not None:
            self.gradient[:] = 0  # only the rows of characters seen are written

    def parameter_gradients(self, share: Share) -> None:
        """Sum a share of the rows' gradients over the positions where they were added or copied."""
        j0, j1 = share.of(self.D)
        self.d_begin[0, : len(self.ids.used), j0:j1] = 0
        for stream in (*self.characters.skips, *self.characters.copies):
            kernels.rows.scatter_add(self.d_begin[0], stream.gradient, self.ids.index, j0, j1)

    def late_gradients(self, share: Share) -> None:
        u0, u1 = share.of(len(self.ids.used))
        begin = self.d_begin
        for weight, d_table in self.characters.readers:
            weight.backward(self.d_rows, begin, d_table[None], u0, u1)
            begin = self.d_rows
        u1 = min(u1, self.ids.known)
        kernels.rows.scatter_add(self.gradient, begin[:, u0:u1], self.ids.used[None, u0:u1], 0, self.D)
