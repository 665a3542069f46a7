"""The losses of many texts read side by side, with each shared prefix read only once.

Lines of a log all begin with a date, and names have few different beginnings. A network's state depends on
the characters alone: where two texts begin alike, the second restarts from the state that the first one had.

Axes: B columns, S rows of all windows, n texts, N characters.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from charrnn.inference.mixed_model import AnyNetwork
from charrnn.kernels.loops import prefix_tree as kernels
from charrnn.nn.network import State

Ids = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]

WINDOW = 3072  # characters a call, at most, so that their activations stay in the cache
LOGITS = 2**24  # logits a call, at most: a large vocabulary would need gigabytes
# The most steps not worth sharing: few such prefixes exist, and all texts would wait for their states.
LEAST_SHARED = 2
LEAST_ROWS = 8  # of a window: with fewer, the call costs as much as its steps
STATES = 2**26  # bytes of states kept for restarts


class Window(NamedTuple):
    """One call of the network."""

    x: Ids  # (T, B)
    restart_rows: Ids  # (T, B) where a text begins, the slot of its first state; elsewhere -1
    places: Integers  # of the wanted losses, t * B + b
    ids: Ids  # the characters of these losses
    losses: Integers  # the indices of these losses among all
    kept: Integers  # places whose states are kept
    slots: Integers  # where they are kept


@dataclass(frozen=True)
class Plan:
    """How to read several texts in B columns."""

    B: int
    windows: list[Window]
    slots: int
    target: Integers  # (N,) the index of each character's loss


def plan(ids: Ids, lengths: Integers, columns: int, vocab_size: int, most_states: int) -> Plan:
    """A plan for concatenated texts of these lengths; texts that begin alike should be neighbours.

    At most `columns` columns, and at most `most_states` states kept.
    """
    n, N = len(lengths), len(ids)
    same, shared, parent, top, column, slot = (np.zeros(n, np.int64) for _ in range(6))
    kernels.compare(ids, lengths, LEAST_SHARED, same, shared)
    if np.count_nonzero(shared) > most_states:  # share only the longest
        without = np.argsort(-shared, kind="stable")[most_states:]
        same[without] = shared[without] = 0
    kernels.find_parents(lengths, shared, parent)
    own = lengths - shared
    B = min(columns, 1 << max(0, int(np.count_nonzero(own)) - 1).bit_length())
    T = max(1, min(WINDOW // B, LOGITS // (B * vocab_size), _rows(lengths, own, B)))
    rows = kernels.schedule(lengths, shared, parent, T, B, top, column)
    S = -(-rows // T) * T

    goes_on = (shared > 0) & (own > 0)
    slots = 1 + int(np.count_nonzero(goes_on))  # slot 0 is the zero state
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


def _rows(lengths: Integers, own: Integers, B: int) -> int:
    """Rows of a window: about as many as a text has characters, so that texts soon get the states they need.

    A power of two, since each height has buffers of its own.
    """
    height = max(int(lengths.max(initial=1)), -(-int(own.sum()) // B))
    typical = max(LEAST_ROWS, int(lengths.sum()) // max(1, len(lengths)))
    return 1 << max(0, min(height, typical) - 1).bit_length()


def _by_window(places: Integers, size: int, windows: int) -> Iterator[Integers]:
    """For each window, the indices of the places in it."""
    window = places // size
    order = np.argsort(window, kind="stable")
    cuts = np.searchsorted(window[order], np.arange(windows + 1))
    return (order[low:high] for low, high in itertools.pairwise(cuts))


def losses(model: AnyNetwork, ids: Ids, lengths: Integers, columns: int) -> Floats:
    """-log p in nats of every character, (N,), of concatenated texts of these lengths.

    The losses of a text do not depend on the other texts.
    """
    config = model.config
    nothing = model.zero_state(1)
    bytes_of_state = sum(array.nbytes for layer in nothing.layers for array in layer)
    p = plan(ids, lengths, columns, config.outputs, STATES // bytes_of_state)
    restarts = model.zero_state(p.slots)
    found = np.zeros(len(p.target), np.float32)
    state: State | None = None
    for window in p.windows:
        nats, kept, state = model.read(
            window.x, window.restart_rows, restarts, state, window.places, window.ids, window.kept
        )
        found[window.losses] = nats
        for to_layer, from_layer in zip(restarts.layers, kept.layers, strict=True):
            for to, values in zip(to_layer, from_layer, strict=True):
                to[window.slots] = values
    result: Floats = found[p.target]
    return result
