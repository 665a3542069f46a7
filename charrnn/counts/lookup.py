"""Counts -> the probabilities of the next character, in NumPy alone: text is there before Numba is imported.

charrnn.kernels.loops.beside.context_tree does the same, compiled, bit for bit: all sums are of integers, or
have one order.
"""

from __future__ import annotations

import functools
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from charrnn.counts.counts import UNIT, Counts, offsets
from charrnn.kernels.coefficients import LABEL_SHARE, LOG2_SERIES, LOG2E, WHOLE_ROWS

NOTHING = -1  # in a context, where a text is not known
FEW = 6  # as many characters take Python less time than NumPy
ROWS = 256  # of probabilities after short contexts that are kept
Context = npt.NDArray[np.int32]
Features = npt.NDArray[np.float32]
Wide = npt.NDArray[np.float64]

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
    own: Any  # (n, codes) int64: by the context's length, the counts less their discounts; 2 n with labels
    mass_values: Any  # int64
    vocab_size: int

    @classmethod
    def of(cls, counts: Counts) -> Tree:
        values = counts.count_values.astype(np.int64)
        discounts = counts.all_discounts.astype(np.int64)
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

    def __init__(self, counts: Counts, labels: Sequence[int] = ()) -> None:
        """`labels` are the symbols of those that the text has; -1: unknown."""
        self.tree = Tree.of(counts)
        self._n, self._labels = counts.order, labels
        # What Python indexes faster than arrays.
        arrays: dict[str, Any] = {name: memoryview(getattr(self.tree, name)) for name in Tree._fields[:6]}
        self._places = self.tree._replace(**arrays)
        self._own = self.tree.own.tolist()
        self._row = functools.lru_cache(ROWS)(self._whole_row)

    def initial_state(self) -> Context:
        """The context at a document's start."""
        return self.after(self.tree.vocab_size, np.full(self._n - 1, NOTHING, np.int32))

    def after(self, character: int, context: Context) -> Context:
        """The context after one more character, 0 .. V-1 or V for START."""
        return np.append(context, np.int32(character))[1:]

    def predict(self, context: Context) -> tuple[Wide, Features]:
        """The probabilities of what follows (V,), and their features (n + 1,).

        These are log(1 + count) of the contexts of 1 .. n - 1 characters, the largest probability, and the
        entropy in nats.
        """
        latest = context.tolist()[::-1]
        V, nodes = self.tree.vocab_size, [*self._nodes(latest)]
        x = np.ones(V + self._n - 1, np.float32)  # of which logarithms are needed
        whole, left, longer = min(len(nodes) - 1, WHOLE_ROWS), 1.0, []
        for k in range(len(nodes) - 1, 0, -1):
            if k > whole:
                following, own, scale, share = self._after(nodes[k], k)
                longer.append((following, own, left * scale))
                left *= share
            else:
                _, scale = self._row(tuple(nodes[: k + 1]))
            x[V + k - 1] += _UNIT / np.float32(scale)
        row, _ = self._row(tuple(nodes[: whole + 1]))
        p = row * left
        for part in longer:
            _add(p, *part)
        for label in self._labels:
            self._look_behind(label, latest, p)
        x[:V] = p
        logs = log2(x)
        entropy = np.float32(-(x[:V] * logs[:V] * _FINE).astype(np.int32).sum()) / _FINE * _LN2
        features = np.empty(self._n + 1, np.float32)
        features[:-2] = logs[V:] * _LN2
        features[-2:] = x[:V].max(), entropy
        return p, features

    def _look_behind(self, label: int, latest: list[int], p: Wide) -> None:
        """p (V,) becomes what follows in texts with this label."""
        _, *nodes = self._nodes([label, *latest])
        if not nodes:
            return
        left, longer = LABEL_SHARE, []
        for k in range(len(nodes) - 1, -1, -1):
            following, own, scale, share = self._after(nodes[k], self._n + k)
            longer.append((following, own, left * scale))
            left *= share
        p *= (1.0 - LABEL_SHARE) + left
        for part in longer:
            _add(p, *part)

    def _whole_row(self, nodes: tuple[int, ...]) -> tuple[Wide, float]:
        """The probabilities after the context of the last of these nodes (V,), and 1 / its total."""
        following, own, scale, share = self._after(nodes[-1], len(nodes) - 1)
        if len(nodes) == 1:
            p = np.full(self.tree.vocab_size, 1 / self.tree.vocab_size) * share
        else:
            p = self._row(nodes[:-1])[0] * share
        _add(p, following, own, scale)
        return p, scale

    def _after(self, node: int, k: int) -> tuple[Any, Any, float, float]:
        """What follows the context of a node, of k characters, or of k - n behind a label.

        These are ids, and their counts less the discounts.

        And 1 / total, and the share that is left to the shorter context.
        """
        tree, places = self.tree, self._places
        low, high = places.begin[node], places.begin[node + 1]
        mass = int(tree.mass_values[places.masses[node]])
        if high - low > FEW:
            following, own = tree.following[low:high], tree.own[k].take(tree.codes[low:high])
            total = int(own.sum()) + mass
        else:
            following, own = places.following[low:high], [self._own[k][c] for c in places.codes[low:high]]
            total = sum(own) + mass
        scale = 1.0 / float(total)
        return following, own, scale, float(mass) * scale

    def _nodes(self, latest: list[int]) -> Iterator[int]:
        """Those of the first 0, 1, .. of these symbols, of which each is older than the one before."""
        node, symbols, child = 0, self._places.symbols, self._places.child
        yield node
        for symbol in latest:
            high = child[node + 1]
            node = bisect_left(symbols, symbol, child[node], high)
            if node == high or symbols[node] != symbol:
                return
            yield node


def _add(p: Wide, following: Any, own: Any, scale: float) -> None:
    """p[following] += own * scale."""
    if len(own) > FEW:
        p[following] += own * scale
    else:
        for character, value in zip(following, own, strict=True):
            p[character] += value * scale


def log2(x: Features) -> Features:
    """log2(x) of positive numbers, to 2e-6."""
    bits = x.view(np.int32)
    exponent = (bits >> 23) - np.int32(127)
    t = ((bits & np.int32(0x7FFFFF)) | np.int32(0x3F800000)).view(np.float32) - _ONE
    y = _SERIES[-1] * t
    for coefficient in _SERIES[-2::-1]:
        y = t * (coefficient + y)
    return exponent.astype(np.float32) + y
