"""Counts -> the probabilities of many texts at a time, and of whole texts, compiled.

They are those of charrnn.counts.lookup, bit for bit.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from charrnn.counts.counts import Array, Counts
from charrnn.counts.lookup import Context, Features, Tree
from charrnn.kernels.loops import context_tree
from charrnn.text.corpus import Documents


class CompiledLookup:
    """A text's last characters -> what follows them; several threads may use it."""

    def __init__(self, counts: Counts) -> None:
        tree, nodes = Tree.of(counts), len(counts.symbols)
        self.tree = context_tree.Tree(
            _with_room(tree.symbols), np.empty((nodes + 1, 2), np.uint32), np.empty((nodes, 2)),
            _with_room(tree.following), tree.codes, tree.own.astype(np.float64), tree.vocab_size,
        )  # fmt: skip
        context_tree.prepare(self.tree, tree.child, tree.begin, tree.mass_values[tree.masses])
        self._n = counts.order
        self._known = np.full((nodes, 2), np.nan, np.float32)

    def predict(
        self, contexts: Context, *, features: bool = True
    ) -> tuple[npt.NDArray[np.float64], Features]:
        """The probabilities (B, V) of what follows contexts (B, n - 1), and their features (B, n + 1)."""
        B = len(contexts)
        p = np.empty((B, self.tree.vocab_size))
        told = np.empty((B, self._n + 1 if features else 0), np.float32)
        context_tree.predict(p, told, contexts, self.tree)
        return p, told

    def score(
        self, documents: Documents, low: int, high: int, *, features: bool = True
    ) -> tuple[npt.NDArray[np.float64], Features]:
        """The probabilities of the characters low .. high - 1, and the features (high - low, n + 1)."""
        inputs = documents.look_up(np.arange(max(0, low - self._n), high))
        chances = np.empty(high - low)
        told = np.empty((high - low, self._n + 1 if features else 0), np.float32)
        context_tree.score(chances, told, inputs, self.tree, self._known)
        return chances, told


def _with_room(values: Array) -> Array:
    """The values, and after them as many as may be read beyond the last."""
    return np.append(values, np.zeros(context_tree.LANES, values.dtype))
