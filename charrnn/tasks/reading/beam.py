"""Beam search: the most probable targets of many texts at once."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from charrnn.nn.modules.reading.decoder import Encoded
from charrnn.nn.parameters import Array
from charrnn.nn.reader import Reader, window_length

Places = npt.NDArray[np.int64]


class Target(NamedTuple):
    """A complete target."""

    ids: npt.NDArray[np.int32]  # (n,), without the end
    log_probability: float  # in nats, that of the end included
    weights: npt.NDArray[np.float32]  # (n, S): how each step attended to the source; (0, S) if not wanted


class Wanted(NamedTuple):
    """What is searched for."""

    beam: int = 5  # beginnings that are kept of each text
    targets: int = 1  # of each text
    weights: bool = False  # whether those of attention are wanted


class _Tree:
    """The beginnings that were kept, each a step longer than its parent; numbers go through all steps."""

    def __init__(self) -> None:
        self._parents: list[Places] = []
        self._ids: list[npt.NDArray[np.int32]] = []
        self._weights: list[Array] = []
        self._firsts = [0]

    def add(self, parents: Places, ids: npt.NDArray[np.int32], weights: Array | None) -> Places:
        """The numbers of new beginnings, (R,). A parent of -1 is the empty one."""
        first = self._firsts[-1]
        self._parents.append(parents)
        self._ids.append(ids)
        if weights is not None:
            self._weights.append(weights)
        self._firsts.append(first + len(ids))
        return np.arange(first, first + len(ids))

    def path(self, number: int) -> tuple[npt.NDArray[np.int32], list[Array]]:
        """The ids and the weights of a beginning."""
        ids, weights = [], []
        step = int(np.searchsorted(self._firsts, number, side="right")) - 1
        while number >= 0:
            place = number - self._firsts[step]
            ids.append(int(self._ids[step][place]))
            if self._weights:
                weights.append(self._weights[step][place])
            number, step = int(self._parents[step][place]), step - 1
        return np.array(ids[::-1], np.int32), weights[::-1]


def search(reader: Reader, x: Array, lengths: Array, most: Array, wanted: Wanted) -> list[list[Target]]:
    """The targets of the first C texts x (S, ..), the most probable first.

    Each is of at most `most` (C,) characters. Each step keeps of each text the most probable beginnings,
    `beam` of them. A target is found where one of these ends. The search of a text ends when none of them is
    as probable as the best `targets`: with a beam as wide as there are beginnings, these are the best of all.
    """
    encoded, written = reader.encode(x, lengths)
    C, (V,) = len(most), reader.config.targets
    found = np.full((C, wanted.targets), -np.inf)  # log-probabilities of the targets, in descending order ..
    nodes = np.full((C, wanted.targets), -1)  # .. and the beginnings that ended there
    tree = _Tree()
    texts = np.arange(C)  # those that are not done: A of them, each with K beginnings
    scores, numbers = np.zeros((C, 1)), np.full((C, 1), -1)
    rows, previous = np.arange(C), np.full(C, V + 1)  # what to go on from, and the characters written last
    for step in range(int(most.max()) + 1):
        (A, K), R = scores.shape, scores.size
        columns = np.repeat(texts, K)
        padded = np.concatenate([np.arange(R), np.zeros(window_length(R) - R, np.int64)])
        logs, written, weights = reader.step(
            encoded, columns[padded], previous[padded], written.take(rows[padded])
        )
        total = scores[..., None] + logs[:R].reshape(A, K, V + 1)
        _merge(found, nodes, texts, total[..., V], numbers)
        best = _best(total[..., :V].reshape(A, K * V), wanted.beam)
        scores = np.take_along_axis(total[..., :V].reshape(A, K * V), best, axis=1)
        open_ = (step < most[texts]) & (scores[:, 0] > found[texts, -1])
        if not open_.any():
            break
        texts, scores, best = texts[open_], scores[open_], best[open_]
        parents, previous = np.divmod(best, V)
        rows = (np.flatnonzero(open_)[:, None] * K + parents).reshape(-1)
        kept = weights[rows] if wanted.weights else None
        previous = previous.reshape(-1)
        numbers = tree.add(numbers.reshape(-1)[rows], previous.astype(np.int32), kept).reshape(scores.shape)
    return [_targets(tree, encoded, int(lengths[c]), found[c], nodes[c]) for c in range(C)]


def _best(scores: Array, most: int) -> Places:
    """The places of the largest scores of each row, in descending order; of equal ones the first."""
    if scores.shape[1] > 8 * most:  # many: those alone are sorted that are among the best
        some = np.sort(np.argpartition(-scores, most - 1, axis=1)[:, :most], axis=1)
        order: Places = np.take_along_axis(
            some, _best(np.take_along_axis(scores, some, axis=1), most), axis=1
        )
        return order
    order = np.argsort(-scores, axis=1, kind="stable")[:, :most]
    return order


def _merge(found: Array, nodes: Array, texts: Places, ended: Array, numbers: Array) -> None:
    """Put targets that have just ended, (A, K), among the best ones of their texts."""
    scores = np.concatenate([found[texts], ended], axis=1)
    places = np.concatenate([nodes[texts], numbers], axis=1)
    order = _best(scores, found.shape[1])
    found[texts] = np.take_along_axis(scores, order, axis=1)
    nodes[texts] = np.take_along_axis(places, order, axis=1)


def _targets(tree: _Tree, encoded: Encoded, S: int, scores: Array, nodes: Array) -> list[Target]:
    result = []
    for score, node in zip(scores.tolist(), nodes.tolist(), strict=True):
        if score == -np.inf:
            break
        ids, weights = tree.path(node)
        rows = np.stack(weights)[:, :S] if weights else np.zeros((0, S), np.float32)
        result.append(Target(ids, score, rows))
    return result
