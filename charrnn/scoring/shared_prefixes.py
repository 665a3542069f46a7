"""Texts that begin alike, read side by side: each beginning once.

Lines of a log all begin with a date, and of names there are only so many beginnings. What a network makes of
a text depends on nothing but its characters; so where two begin alike, the second goes on from the state that
the first one had.

Axes: B columns, S rows of all windows, n texts, N characters.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from charrnn.kernels.loops import prefix_tree as kernels
from charrnn.nn.network import Model, State

Ids = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float32]
Whole = npt.NDArray[np.int64]

WINDOW = 3072  # characters a call, at most: what they need should stay in the cache
LOGITS = 2**24  # numbers a call, so that a large vocabulary does not need gigabytes
# Steps that are not worth sharing. There are few different ones, and all texts would wait for them.
LEAST_SHARED = 2
LEAST_ROWS = 8  # of a window: with fewer, calling the network takes as long as its steps
STATES = 2**26  # bytes of states that are kept for texts that go on from them


class Window(NamedTuple):
    """One call of the network."""

    x: Ids  # (T, B)
    restart_rows: Ids  # (T, B) the slot of the state that a text begins with; -1 where it goes on
    places: Whole  # of the wanted losses, t * B + b
    ids: Ids  # and their characters
    losses: Whole  # the numbers of those losses
    kept: Whole  # places whose states are to be kept
    slots: Whole  # and where


@dataclass(frozen=True)
class Plan:
    """How to read several texts in B columns."""

    B: int
    windows: list[Window]
    slots: int
    target: Whole  # (N,) of each character the number of its loss


def plan(ids: Ids, lengths: Whole, columns: int, vocab_size: int, most_states: int) -> Plan:
    """For texts of these lengths that lie behind one another; those that begin alike should be neighbours.

    There are at most so many columns, and at most so many states are kept.
    """
    n, N = len(lengths), len(ids)
    same, shared, parent, top, column, slot = (np.zeros(n, np.int64) for _ in range(6))
    kernels.compare(ids, lengths, LEAST_SHARED, same, shared)
    if np.count_nonzero(shared) > most_states:  # those go without that gain the least
        without = np.argsort(-shared, kind="stable")[most_states:]
        same[without] = shared[without] = 0
    kernels.find_parents(lengths, shared, parent)
    own = lengths - shared
    B = min(columns, 1 << max(0, int(np.count_nonzero(own)) - 1).bit_length())
    T = max(1, min(WINDOW // B, LOGITS // (B * vocab_size), _rows(lengths, own, B)))
    rows = kernels.schedule(lengths, shared, parent, T, B, top, column)
    S = -(-rows // T) * T

    goes_on = (shared > 0) & (own > 0)
    slots = 1 + int(np.count_nonzero(goes_on))  # the first is the zero state
    slot[goes_on] = np.arange(1, slots)
    x, restart_rows = np.zeros(S * B, np.int32), np.full(S * B, -1, np.int32)
    kept = np.zeros(slots, np.int64)
    target, target_place, target_id = np.zeros(N, np.int64), np.zeros(N, np.int64), np.zeros(N, np.int32)
    texts = kernels.Texts(ids, lengths, same, shared, top, column, slot)
    layout = kernels.Layout(x, restart_rows, kept, target, target_place, target_id)
    count = kernels.lay_out(layout, texts, B, vocab_size)
    target_place, target_id = target_place[:count], target_id[:count]
    windows = []
    losses_of = _by_window(target_place, T * B, S // T)
    kept_of = _by_window(kept[1:], T * B, S // T)
    for w, (losses, slots_here) in enumerate(zip(losses_of, kept_of, strict=True)):
        first = w * T * B
        part = slice(first, first + T * B)
        windows.append(
            Window(
                x[part].reshape(T, B), restart_rows[part].reshape(T, B), target_place[losses] - first,
                target_id[losses], losses, kept[1:][slots_here] - first, slots_here + 1,
            )
        )  # fmt: skip
    return Plan(B, windows, slots, target)


def _rows(lengths: Whole, own: Whole, B: int) -> int:
    """Of a window, so that texts do not wait for long: about as many as a text has characters.

    One of few lengths, since each takes memory of its own.
    """
    height = max(int(lengths.max(initial=1)), -(-int(own.sum()) // B))
    typical = max(LEAST_ROWS, int(lengths.sum()) // max(1, len(lengths)))
    return 1 << max(0, min(height, typical) - 1).bit_length()


def _by_window(places: Whole, size: int, windows: int) -> Iterator[Whole]:
    """For each window the indices of the places in it."""
    window = places // size
    order = np.argsort(window, kind="stable")
    cuts = np.searchsorted(window[order], np.arange(windows + 1))
    return (order[low:high] for low, high in itertools.pairwise(cuts))


def losses(model: Model, ids: Ids, lengths: Whole, columns: int) -> Floats:
    """-log p in nats of every character, (N,), of texts of these lengths that lie behind one another.

    What is computed of a text is the same whatever stands beside it.
    """
    config = model.config
    nothing = model.zero_state(1)
    bytes_of_state = sum(array.nbytes for layer in nothing.layers for array in layer)
    p = plan(ids, lengths, columns, config.vocab_size, STATES // bytes_of_state)
    restarts = model.zero_state(p.slots)
    found = np.zeros(len(p.target), np.float32)
    state: State | None = None
    for window in p.windows:
        nats, kept, state = model.read(
            window.x, window.restart_rows, restarts, state, window.places, window.ids, window.kept
        )
        found[window.losses] = nats
        _put(restarts, window.slots, kept)
    result: Floats = found[p.target]
    return result


def _put(restarts: State, slots: Whole, states: State) -> None:
    for to_layer, from_layer in zip(restarts.layers, states.layers, strict=True):
        for to, values in zip(to_layer, from_layer, strict=True):
            to[slots] = values
