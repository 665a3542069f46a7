"""What one module passes on to the next: values and their gradient, or characters."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from charrnn import kernels

if TYPE_CHECKING:
    from charrnn.nn.operands import Rows, Weight
    from charrnn.nn.parameters import Array
    from charrnn.nn.window import Window


class Stream:
    """N numbers for each place of a window, `values` (T, B, padded N), and their `gradient`.

    Who reads it puts the gradient there, into a buffer of its own choice if it has a free one.
    """

    fixed = False  # it may not be changed in place, since others read it, too
    changed = False  # values and gradient are changed in place by the module that passes it on
    is_brief = False  # nobody reads the gradient once the backward of the module that made it is done
    plus: Stream | None = None  # a skip: its gradient is to be added to this one's ..
    adds = False  # .. which the reader does, since its product can begin with it

    def __init__(self, window: Window, N: int, values: Array | None = None) -> None:
        self.window, self.N = window, N
        self.values = window.array(N) if values is None else values

    @cached_property
    def gradient(self) -> Array:
        """As `values`; assigned before it is first read, or a buffer of its own."""
        return self.window.array(self.N)

    @cached_property
    def rows(self) -> Rows:
        """The values as the gradients of weights read them."""
        return self.window.rows(self.values, self.N, are_inputs=True)

    def skipped(self) -> Array | None:
        """What the reader's gradient begins with, where it adds."""
        return None if self.plus is None else self.plus.gradient

    def rows_of_all(self) -> Stream:
        """Itself: it has a row for each place."""
        return self

    def add_to(self, y: Stream, b0: int, b1: int, t0: int, t1: int) -> None:
        """y += x."""
        kernels.rows.add(y.values[t0:t1], self.values[t0:t1], self.N, b0, b1)

    def branch(self) -> Stream:
        """The same, for a module beside which something else reads it."""
        branch = Stream(self.window, self.N, self.values)
        branch.fixed, branch.is_brief = True, self.is_brief
        return branch

    def join(self, branch: Stream, y: Stream) -> None:
        """The other reader of a branch has added it to y."""
        y.is_brief, branch.plus = False, y
        if self.window.training:
            self.gradient = branch.gradient

    def share_gradient(self, branch: Stream, b0: int, b1: int) -> None:
        """After the branch's backward: add y's gradient, unless the reader has."""
        if branch.plus is not None and not branch.adds:
            kernels.rows.add(self.gradient, branch.plus.gradient, self.N, b0, b1)


class Ids:
    """The characters of a window. V stands for START, the zero vector."""

    def __init__(self, T: int, B: int, V: int) -> None:
        self.V = V
        self.index = np.zeros((T, B), np.int32)  # of each character among the window's distinct ones
        self.used = np.zeros(0, np.int32)  # those, as ids
        self.known = 0  # how many of them are characters: START is the last
        self.most = min(V + 1, T * B)  # U

    def read(self, x: Array) -> None:
        """Take the window's characters, (T, B)."""
        V = self.V
        present = np.zeros(V + 1, np.bool_)
        present[x] = True
        self.used = np.flatnonzero(present).astype(np.int32)
        self.known = len(self.used) - int(present[V])
        place = np.zeros(V + 1, np.int32)
        place[self.used] = np.arange(len(self.used), dtype=np.int32)
        self.index[:] = place[x]


class Characters(Stream):
    """A window's characters: each place has the row of `table` that `ids` says, or is one-hot without it.

    Few are different, so what they become in a product is looked up.
    """

    def __init__(self, window: Window, ids: Ids, N: int, table: Array | None = None) -> None:
        super().__init__(window, N, window.array(0, 0, 0))
        self.ids, self.table = ids, table  # table (1, U, padded N)
        # Weights that are multiplied with the rows, one for each different character, and the gradients of
        # the products, (U, padded).
        self.readers: list[tuple[Weight, Array]] = []
        self.copies: list[Stream] = []  # with a row for each place
        self.skips: list[Stream] = []  # that these rows are added to

    def rows_of_all(self) -> Stream:
        """Streams for modules that look nothing up."""
        self.copies.append(Stream(self.window, self.N))
        return self.copies[-1]

    def fill(self) -> None:
        """Once the window is read: the rows for each place."""
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
        """Itself: nobody changes it."""
        return self

    def join(self, branch: Stream, y: Stream) -> None:
        """The gradient of y is also that of the rows."""
        y.is_brief = False
        self.skips.append(y)

    def share_gradient(self, branch: Stream, b0: int, b1: int) -> None:
        """That comes later, over all columns."""
