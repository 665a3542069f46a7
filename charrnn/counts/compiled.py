"""Counts -> the probabilities of many texts at a time, and of whole texts, compiled.

They are those of charrnn.counts.lookup, bit for bit.
"""

from __future__ import annotations

import os

import numpy as np
import numpy.typing as npt

from charrnn.counts.counts import Array, Counts
from charrnn.counts.lookup import NOTHING, Context, Features, Tree
from charrnn.kernels.coefficients import WHOLE_ROWS
from charrnn.kernels.loops.beside import context_tree
from charrnn.kernels.machine.aligned import aligned
from charrnn.text.documents import Documents

MOST_NUMBERS = 2**17  # of rows of probabilities that are computed in advance


class CompiledLookup:
    """A text's last characters -> what follows them; several threads may use it."""

    def __init__(self, counts: Counts) -> None:
        tree, nodes, V = Tree.of(counts), len(counts.symbols), counts.vocab_size
        rates = aligned((nodes, 4), np.float64)
        rows = 1  # the nodes of contexts of up to WHOLE_ROWS characters, unless these are too many
        for _ in range(WHOLE_ROWS):
            rows = int(tree.child[rows])
        rows = min(rows, 1 + counts.plain_children) if counts.labels else rows
        rows, factor = max(1, min(rows, MOST_NUMBERS // V)), int.from_bytes(os.urandom(7), "little") | 1
        self.tree = context_tree.Tree(
            np.zeros(2 ** (2 * nodes).bit_length(), np.uint32), rates.view(np.uint32), rates,
            np.append(tree.following, np.zeros(context_tree.LANES, tree.following.dtype)),
            tree.codes.astype(np.uint16), np.ascontiguousarray(tree.own, np.float64),
            np.empty((rows, V)), V, factor, counts.order,
        )  # fmt: skip
        masses = tree.mass_values[tree.masses]
        context_tree.prepare(self.tree, tree.symbols, tree.child, tree.begin, masses)
        self._n, self._counts = counts.order, counts
        self._known = np.full((nodes, 2), np.nan, np.float32)

    def predict(
        self, contexts: Context, labels: Context | None = None, *, features: bool = True
    ) -> tuple[npt.NDArray[np.float64], Features]:
        """The probabilities (B, V) of what follows contexts (B, n - 1), and their features (B, n + 1).

        `labels` (B, columns) are the symbols of the texts' labels; -1, and None: unknown.
        """
        B = len(contexts)
        p = np.empty((B, self.tree.vocab_size))
        told = np.empty((B, self._n + 1 if features else 0), np.float32)
        context_tree.predict(p, told, contexts, _or_none(labels, B), self.tree)
        return p, told

    def score(
        self, documents: Documents, low: int, high: int, *, features: bool = True
    ) -> tuple[npt.NDArray[np.float64], Features]:
        """The probabilities of the characters low .. high - 1, and the features (high - low, n + 1)."""
        first = max(0, low - self._n)
        x, y, reset = documents.look_up(np.arange(first, high))
        contexts, _ = self.follow(x[:, None], begins(reset[:, None]), self.nothing(1), self.nothing(1))
        ids = documents.labels_at(np.arange(first, high)) if self._counts.labels else None
        labels = None if ids is None else np.ascontiguousarray(self._counts.symbols_of(ids))
        known, places = (contexts, _or_none(labels, len(x))), np.arange(low - first, high - first)
        return self.score_after(known, places, y[low - first :], features)

    def nothing(self, B: int) -> Context:
        """B contexts (B, n - 1) in which nothing is known."""
        return np.full((B, self._n - 1), NOTHING, np.int32)

    def follow(
        self, x: Context, restart_rows: Context, restarts: Context, before: Context
    ) -> tuple[Context, Context]:
        """The contexts (T * B, n - 1) after each character of x (T, B), and those after the last (B, n - 1).

        `before` (B, n - 1) are those before the first; where restart_rows (T, B) is not -1, the context
        before a character is that row of `restarts`.
        """
        contexts = np.empty((*x.shape, self._n - 1), np.int32)
        context_tree.follow(contexts, np.ascontiguousarray(x), restart_rows, restarts, before)
        return contexts.reshape(-1, self._n - 1), contexts[-1].copy()

    def score_after(
        self, known: tuple[Context, Context], places: Array, ids: Array, features: bool = True
    ) -> tuple[npt.NDArray[np.float64], Features]:
        """The probability of each id (M,) after what is known at its place, and the features (M, n + 1).

        `known` are contexts (P, n - 1), and the symbols of the texts' labels (P, columns).
        """
        chances = np.empty(len(ids))
        told = np.empty((len(ids), self._n + 1 if features else 0), np.float32)
        asked = np.ascontiguousarray(places, np.int64), np.ascontiguousarray(ids, np.int32)
        context_tree.score(chances, told, known, asked, self.tree, self._known)
        return chances, told


def _or_none(labels: Context | None, positions: int) -> Context:
    """Labels, or those of texts without any."""
    return np.zeros((positions, 0), np.int32) if labels is None else labels


def begins(reset: Array) -> Context:
    """The rows of `follow` where documents begin, of nothing, at these positions (T, B)."""
    return np.where(reset, 0, -1).astype(np.int32)
