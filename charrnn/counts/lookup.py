"""Counts -> the probabilities of the next character, in NumPy alone: text is there before Numba is imported.

charrnn.kernels.loops.context_tree does the same, compiled, bit for bit: all sums are of integers, or have one
order.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from charrnn.counts.counts import UNIT, Counts, offsets
from charrnn.kernels.coefficients import LOG2_SERIES, LOG2E

NOTHING = -1  # in a context, where a text is not known
Context = npt.NDArray[np.int32]
Features = npt.NDArray[np.float32]

_ONE, _LN2, _UNIT = np.float32(1), np.float32(1 / LOG2E), np.float32(1 / UNIT)
_FINE = np.float32(2**26)
_SERIES = tuple(map(np.float32, LOG2_SERIES))


class Tree(NamedTuple):
    """The arrays of Counts, with places in place of numbers."""

    symbols: Any  # (nodes,)
    child: Any  # (nodes + 1,) the first child of each
    begin: Any  # (nodes + 1,) where what follows it begins
    masses: Any  # (nodes,) codes
    following: Any  # (S,)
    codes: Any  # (S,)
    own: Any  # (n, codes) int64: by the context's length, the counts less their discounts
    mass_values: Any  # int64
    vocab_size: int

    @classmethod
    def of(cls, counts: Counts) -> Tree:
        values = counts.count_values.astype(np.int64)
        discounts = counts.discounts.astype(np.int64)
        child = np.full(len(counts.symbols) + 1, len(counts.symbols), np.int64)
        child[: len(counts.children) + 1] = 1 + offsets(counts.children)
        return cls(
            counts.symbols, child, offsets(counts.successors), counts.masses, counts.following, counts.codes,
            values * UNIT - discounts[:, np.minimum(values, 3) - 1], counts.mass_values.astype(np.int64),
            counts.vocab_size,
        )  # fmt: skip


class Lookup:
    """A text's last characters -> what follows them.

    The state is a context: (n - 1,) the last characters, the last one last, V for START, NOTHING before it.
    """

    def __init__(self, counts: Counts) -> None:
        self.tree = Tree.of(counts)
        self._n = counts.order

    def initial_state(self) -> Context:
        """The context at a document's start."""
        return self.after(self.tree.vocab_size, np.full(self._n - 1, NOTHING, np.int32))

    def after(self, character: int, context: Context) -> Context:
        """The context after one more character, 0 .. V-1 or V for START."""
        return np.append(context, np.int32(character))[1:]

    def predict(self, context: Context) -> tuple[npt.NDArray[np.float64], Features]:
        """The probabilities of what follows (V,), and their features (n + 1,).

        These are log(1 + count) of the contexts of 1 .. n - 1 characters, the largest probability, and the
        entropy in nats.
        """
        tree = self.tree
        p = np.full(tree.vocab_size, 1.0 / tree.vocab_size)
        totals = np.zeros(self._n, np.float32)
        for k, node in enumerate(self._nodes(context)):
            low, high = tree.begin[node], tree.begin[node + 1]
            own, mass = tree.own[k, tree.codes[low:high]], tree.mass_values[tree.masses[node]]
            scale = 1.0 / np.float64(own.sum() + mass)
            p *= np.float64(mass) * scale
            p[tree.following[low:high]] += own * scale
            totals[k] = _UNIT / np.float32(scale)
        x = p.astype(np.float32)
        entropy = np.float32(-(x * _log2(x) * _FINE).astype(np.int32).sum()) / _FINE * _LN2
        return p, np.append(_log2(_ONE + totals[1:]) * _LN2, [x.max(), entropy]).astype(np.float32)

    def _nodes(self, context: Context) -> Iterator[int]:
        """Those of its last 0, 1, .. characters."""
        node, tree = 0, self.tree
        yield node
        for symbol in context[::-1].tolist():
            low, high = tree.child[node], tree.child[node + 1]
            node = int(low + np.searchsorted(tree.symbols[low:high], symbol)) if symbol >= 0 else high
            if node >= high or tree.symbols[node] != symbol:
                return
            yield node


def _log2(x: Features) -> Features:
    """log2(x) of positive numbers, to 2e-6."""
    bits = x.view(np.int32)
    exponent = (bits >> 23) - np.int32(127)
    t = ((bits & np.int32(0x7FFFFF)) | np.int32(0x3F800000)).view(np.float32) - _ONE
    y = _SERIES[-1] * t
    for coefficient in _SERIES[-2::-1]:
        y = t * (coefficient + y)
    return exponent.astype(np.float32) + y
