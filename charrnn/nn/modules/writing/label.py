"""Labels of texts: each is one more bias of a layer's gates, added at every step.

    W_ih x + b_ih + sum over columns of E[label]

An unknown label is the zero vector: b_ih itself is what the network learns for texts without labels, and a
network of fixed labels is one without labels whose b_ih is that sum. A concatenation of x with the one-hot
label would be the same; so would be an embedding that is added to x, except that it would take the first
layer's look-up of characters, and a third of the speed.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from charrnn import kernels
from charrnn.nn.modules.module import Shapes
from charrnn.nn.modules.stream import Ids

if TYPE_CHECKING:
    from charrnn.nn.operands import Share
    from charrnn.nn.parameters import Array
    from charrnn.nn.window import Window

UNKNOWN = np.iinfo(np.int32).max  # any id beyond the last label is one


class Label:
    """What labels add to layer k: N numbers for each label. `sizes` are the numbers of labels, by column."""

    def __init__(self, sizes: tuple[int, ...], N: int, k: int) -> None:
        self.N = N
        self.sizes = {f"label.{column}.weight_l{k}": size for column, size in enumerate(sizes)}

    def shapes(self) -> Shapes:
        """A matrix for each column."""
        return {name: (size, self.N) for name, size in self.sizes.items()}

    def initial(self) -> dict[str, Array]:
        """Zeros: at first, no label makes a difference."""
        return {name: np.zeros(shape, np.float32) for name, shape in self.shapes().items()}

    def bias(self, bias: Array, tensors: Mapping[str, Array], labels: tuple[int, ...]) -> Array:
        """b_ih (N,) of a network of these labels: one id for each column."""
        for (name, size), label in zip(self.sizes.items(), labels, strict=True):
            bias = bias + tensors[name][label] if label < size else bias
        return bias

    def bind(self, window: Window) -> BoundLabel:
        """Passes over a window."""
        return BoundLabel(self, window)


class _Column(NamedTuple):
    """A column in a window: the labels there, the rows of the table that are theirs, and their parameters."""

    ids: Ids
    first: int  # of these rows
    rows: Array
    d_rows: Array
    weight: Array
    gradient: Array | None  # only for training


class BoundLabel:
    """The vectors of a window's labels, and their gradients.

    Position (t, b) has for each column a row of the `table`, whose number is in `index` (columns, T, B).
    """

    def __init__(self, label: Label, window: Window) -> None:
        self.N, self.labels = label.N, window.labels
        found = [Ids(window.T, window.B, size, window.parts) for size in label.sizes.values()]
        ends = [0, *accumulate(ids.most for ids in found)]
        self.index = np.zeros((len(found), window.T, window.B), np.int32)
        self.table = window.array(label.N if found else 0, 1, ends[-1])[0]
        self.columns = [
            _Column(
                ids, a, self.table[a:b], window.array(label.N, 1, ids.most_in_parts)[0],
                window.parameters[name], window.gradient(name) if window.training else None,
            )
            for ids, (a, b), name in zip(found, pairwise(ends), label.sizes, strict=True)
        ]  # fmt: skip

    def prepare(self) -> None:
        """Look up the window's distinct labels; unknown ones, which come last, are zero."""
        for number, (ids, first, rows, _, weight, _) in enumerate(self.columns):
            ids.read(self.labels[..., number])
            np.add(ids.index, first, out=self.index[number])
            rows[: ids.known, : self.N] = weight[ids.used[: ids.known]]
            rows[ids.known : len(ids.used)] = 0

    def parameter_gradients(self, gates: Array, share: Share) -> None:
        """Compute a share of the gradients, some columns, from that of the gates (T, B, padded N)."""
        j0, j1 = share.of(self.N)
        for column in self.columns:
            ids, d_rows, whole = column.ids, column.d_rows, column.gradient
            assert whole is not None
            d_rows[: ids.ends[-1], j0:j1] = 0
            kernels.rows.scatter_add(d_rows, gates, ids.index_in_parts, j0, j1)

            def compute(n: int, gradient: Array, ids: Ids = ids, d_rows: Array = d_rows) -> None:
                u0, u1 = ids.rows_of(n, 0, ids.V)
                gradient[:, j0:j1] = 0
                gradient[ids.used_in_parts[u0:u1], j0:j1] = d_rows[u0:u1, j0:j1]

            ids.parts.add_up((whole,), np.s_[:, j0:j1], compute)
