"""The connection of one module to the next: values and their gradient, or characters."""

from __future__ import annotations

from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from charrnn import kernels

if TYPE_CHECKING:
    from charrnn.nn.operands import Parts, Rows, Weight
    from charrnn.nn.parameters import Array
    from charrnn.nn.window import Window


class Stream:
    """N numbers for each position of a window, `values` (T, B, padded N), and their `gradient`.

    The reader computes the gradient, and may assign a free buffer of its own for it.
    """

    fixed = False  # must not be changed in place, since another module reads it, too
    changed = False  # values and gradient are changed in place by the module that passes it on
    wants_gradient = True  # something before it learns
    is_brief = False  # the gradient is not read after the backward pass of the module before
    plus: Stream | None = None  # a skip connection, whose gradient has to be added to this one's ..
    adds = False  # .. which the reader does, since its product can start from it

    def __init__(self, window: Window, N: int, values: Array | None = None) -> None:
        self.window, self.N = window, N
        self.values = window.array(N) if values is None else values

    @cached_property
    def gradient(self) -> Array:
        """(T, B, padded N): the buffer that was assigned, or else a new one."""
        return self.window.array(self.N)

    @cached_property
    def rows(self) -> Rows:
        """The values as operands of weight gradients."""
        return self.window.rows(self.values, self.N, are_inputs=True)

    def skipped(self) -> Array | None:
        """The gradient to which the reader adds its own, if any."""
        return None if self.plus is None else self.plus.gradient

    def rows_of_all(self) -> Stream:
        """A stream with a row for each position: this one."""
        return self

    def add_to(self, y: Stream, b0: int, b1: int, t0: int, t1: int) -> None:
        """y += x."""
        kernels.rows.add(y.values[t0:t1], self.values[t0:t1], self.N, b0, b1)

    def branch(self) -> Stream:
        """The same stream, for one of two readers."""
        branch = Stream(self.window, self.N, self.values)
        branch.fixed, branch.is_brief = True, self.is_brief
        return branch

    def join(self, branch: Stream, y: Stream) -> None:
        """Note that y is the sum of this stream and of what follows from the branch."""
        y.is_brief, branch.plus = False, y
        if self.window.training:
            self.gradient = branch.gradient

    def share_gradient(self, branch: Stream, b0: int, b1: int) -> None:
        """Add y's gradient after the branch's backward pass, unless the reader has done so."""
        if branch.plus is not None and not branch.adds:
            kernels.rows.add(self.gradient, branch.plus.gradient, self.N, b0, b1)


class Ids:
    """The characters of a window. Ids from V on, such as START, stand for the zero vector.

    Gradients of the vectors are those of each part of the window: they have a row for each id that is
    distinct in its part, one part after another.
    """

    def __init__(self, T: int, B: int, V: int, parts: Parts) -> None:
        self.V, self.parts = V, parts
        self.index = np.zeros((T, B), np.int32)  # into `used`, for each character of the window
        self.used = np.zeros(0, np.int32)  # the ids of the window's distinct characters
        self.known = 0  # the number of them without START, which comes last
        self.most = min(V + 1, T * B)  # U
        # The same for the rows of parts, of which part n has those from ends[n] to ends[n + 1].
        self.index_in_parts = np.zeros((T, B), np.int32) if parts.are_several else self.index
        self.used_in_parts = self.used
        self.ends = np.zeros(len(parts.columns) + 1, np.intp)
        self.most_in_parts = sum(min(V + 1, T * (b1 - b0)) for b0, b1 in parts.columns)

    def read(self, x: Array) -> None:
        """Load the characters of a window, (T, B)."""
        x = np.minimum(x, self.V)
        self.used, self.index[:] = _distinct(x, self.V)
        self.known = len(self.used) - int(self.used[-1] == self.V)
        if not self.parts.are_several:
            self.used_in_parts, self.ends[1] = self.used, len(self.used)
            return
        found = []
        for n, (b0, b1) in enumerate(self.parts.columns):
            used, index = _distinct(x[:, b0:b1], self.V)
            self.index_in_parts[:, b0:b1] = index + self.ends[n]
            self.ends[n + 1] = self.ends[n] + len(used)
            found.append(used)
        self.used_in_parts = np.concatenate(found)

    def ranges(self) -> list[tuple[int, int]]:
        """The rows of each part."""
        return list(pairwise(map(int, self.ends)))

    def rows_of(self, n: int, v0: int, v1: int) -> tuple[int, int]:
        """The rows of part n whose ids are v0 to before v1."""
        a, b = self.ends[n : n + 2]
        u0, u1 = a + np.searchsorted(self.used_in_parts[a:b], (v0, v1))
        return int(u0), int(u1)


def _distinct(x: Array, V: int) -> tuple[Array, Array]:
    """The distinct ids in ascending order, and their places, for ids up to V."""
    present = np.zeros(V + 1, np.bool_)
    present[x] = True
    used = np.flatnonzero(present).astype(np.int32)
    place = np.zeros(V + 1, np.int32)
    place[used] = np.arange(len(used), dtype=np.int32)
    return used, place[x]


class Characters(Stream):
    """The characters of a window: each stands for its row of `table` or, without a table, is one-hot.

    Few are distinct, so products are computed once for each and then looked up.
    """

    def __init__(
        self,
        window: Window,
        ids: Ids,
        N: int,
        table: Array | None = None,
        table_of_parts: Array | None = None,
    ) -> None:
        super().__init__(window, N, window.array(0, 0, 0))
        self.ids, self.table = ids, table  # table (1, U, padded N)
        self.table_of_parts = table_of_parts  # the same with the rows of each part
        # Weights that are multiplied with the rows, one for each different character, and the gradients of
        # the products, (U, padded).
        self.readers: list[tuple[Weight, Array]] = []
        self.copies: list[Stream] = []  # with a row for each position
        self.skips: list[Stream] = []  # outputs of skip connections, to which these rows are added

    def rows_of_all(self) -> Stream:
        """A stream with a row for each position, for modules that cannot look up characters."""
        self.copies.append(Stream(self.window, self.N))
        return self.copies[-1]

    def fill(self) -> None:
        """Fill these streams for a new window."""
        T, B = self.ids.index.shape
        for copy in self.copies:
            copy.values[:] = 0
            self.add_to(copy, 0, B, 0, T)

    def add_to(self, y: Stream, b0: int, b1: int, t0: int, t1: int) -> None:
        """y += the characters' rows."""
        index, H = self.ids.index[t0:t1], self.N
        if self.table is not None:
            kernels.rows.gather_add(y.values[t0:t1], self.table[0], index, H, b0, b1)
        else:
            ids = self.ids.used[index[:, b0:b1]]
            y.values[t0:t1, b0:b1, :H] += ids[..., None] == np.arange(H)

    def branch(self) -> Stream:
        """This stream, which no module changes."""
        return self

    def join(self, branch: Stream, y: Stream) -> None:
        """Note that the gradient of y is also one of the rows."""
        y.is_brief = False
        self.skips.append(y)

    def share_gradient(self, branch: Stream, b0: int, b1: int) -> None:
        """Nothing to do: the embedding sums the gradients over all columns."""
