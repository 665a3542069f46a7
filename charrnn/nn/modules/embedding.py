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
        table = of_parts = window.array(self.D, 1, x.ids.most)
        if window.parts.are_several:
            of_parts = window.array(self.D, 1, x.ids.most_in_parts)
        return _Bound(self, window, x, Characters(window, x.ids, self.D, table, of_parts))

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
            self.d_begin, self.d_rows = (window.array(self.D, 1, x.ids.most_in_parts) for _ in range(2))

    def prepare(self) -> None:
        """Look up the window's distinct characters; START is zero."""
        y = self.characters
        self._look_up(y.table, self.ids.used)
        if y.table_of_parts is not y.table:
            self._look_up(y.table_of_parts, self.ids.used_in_parts)
        y.fill()

    def _look_up(self, table: Array | None, ids: Array) -> None:
        assert table is not None
        rows = table[0, : len(ids), : self.D]
        rows[:] = self.weight[np.minimum(ids, len(self.weight) - 1)]
        rows[ids >= len(self.weight)] = 0

    def parameter_gradients(self, share: Share) -> None:
        """Sum a share of the rows' gradients over the positions where they were added or copied."""
        j0, j1 = share.of(self.D)
        self.d_begin[0, : self.ids.ends[-1], j0:j1] = 0
        for stream in (*self.characters.skips, *self.characters.copies):
            kernels.rows.scatter_add(self.d_begin[0], stream.gradient, self.ids.index_in_parts, j0, j1)

    def late_gradients(self, share: Share) -> None:
        """Compute a share of the rows' gradients: those of some ids."""
        assert self.gradient is not None
        used, V = self.ids.used, len(self.gradient)
        # Whichever ids a part has, a worker's are those from the first of its share of the distinct ones on.
        v0, v1 = (used[u] if 0 < u < len(used) else V * (u > 0) for u in share.of(len(used)))

        def compute(n: int, gradient: Array) -> None:
            u0, u1 = self.ids.rows_of(n, v0, v1)
            begin = self.d_begin
            for weight, d_table in self.characters.readers:
                weight.backward(self.d_rows, begin, d_table[None], u0, u1)
                begin = self.d_rows
            gradient[v0:v1] = 0  # only the rows of characters seen are written
            used = self.ids.used_in_parts[None, u0:u1]
            kernels.rows.scatter_add(gradient, begin[:, u0:u1], used, 0, self.D)

        self.y.window.parts.add_up((self.gradient,), slice(v0, v1), compute)
