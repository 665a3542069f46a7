"""Sharing the steps of texts with a common prefix, and a schedule for the other steps.

A network that reads `port` and `post` is in the same state after `po`. So step j of a text, which reads
character j - 1 and predicts character j, is shared with the preceding text if their first j characters are
the same.

Arrays over texts are (n,); arrays over the characters of all texts, concatenated, are (N,).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from charrnn.kernels.machine.jit import njit

_CLASSES = 64  # of lengths: powers of two


class Texts(NamedTuple):
    """The texts, and the places of their steps."""

    ids: Any  # (N,)
    lengths: Any  # this and the following are (n,)
    same: Any  # number of leading characters equal to those of the preceding text
    shared: Any  # number of steps shared with the preceding text
    top: Any  # row of the first step of its own, and its column
    column: Any
    slot: Any  # of the state before that step


class Layout(NamedTuple):
    """The inputs of a network, row by row, and the places of its results."""

    x: Any  # (rows * B,) the input of each step
    restart_rows: Any  # (rows * B,) the slot of the text whose own steps begin there
    kept: Any  # (slots,) the place, row * B + column, of the state to save
    target: Any  # (N,) the index of each character's loss
    target_place: Any  # (N or fewer losses,) the place of each loss
    target_id: Any  # and its character


@njit()
def compare(ids: Any, lengths: Any, least: int, same: Any, shared: Any) -> None:
    """The common prefix of texts i - 1 and i: same[i] characters and shared[i] steps.

    Both are 0 if no more than `least` steps would be shared.
    """
    start, before = 0, 0
    for i in range(len(lengths)):
        both = min(lengths[i], lengths[i - 1]) if i > 0 else 0
        k = 0
        while k < both and ids[start + k] == ids[before + k]:
            k += 1
        same[i], shared[i] = k, min(k + 1, both)  # a shared step predicts the first character that differs
        if shared[i] <= least:
            same[i], shared[i] = 0, 0
        before = start
        start += lengths[i]


@njit()
def find_parents(lengths: Any, shared: Any, parent: Any) -> None:
    """parent[i]: the text that computes the last shared step of text i, or -1."""
    owner = np.empty(lengths.sum(), np.int64)  # of each step, the text that computes it
    start, before = 0, 0
    for i in range(len(lengths)):
        for j in range(lengths[i]):
            owner[start + j] = owner[before + j] if j < shared[i] else i
        parent[i] = owner[start + shared[i] - 1] if shared[i] > 0 else -1
        before = start
        start += lengths[i]


@njit()
def _push(heads: Any, follower: Any, place: int, i: int) -> None:
    follower[i] = heads[place]
    heads[place] = i


@njit()
def schedule(lengths: Any, shared: Any, parent: Any, T: int, B: int, top: Any, column: Any) -> int:
    """Place each text's own steps, from row top[i] of column[i] on; returns the number of rows.

    There are B columns, and windows of T rows. A text's own steps begin in a later window than its last
    shared step, whose state is then known. Long texts come first.
    """
    n = len(lengths)
    # The rows that a text occupies. If another text continues after its last step, one more, so that no text
    # that begins in the next row overwrites that state.
    size = lengths - shared
    for i in range(n):
        if parent[i] >= 0 and shared[i] == lengths[parent[i]]:
            size[parent[i]] = lengths[parent[i]] - shared[parent[i]] + 1
    total = size.sum()
    child, sibling = np.full(n, -1), np.full(n, -1)
    # Each window is either full or runs out of ready texts; then one of them extends into the next window.
    windows = 2 * (total // T + n) + 4
    ready, waiting, follower = np.full(windows, -1), np.full(_CLASSES, -1), np.full(n, -1)
    left = n
    for i in range(n):
        if lengths[i] == shared[i]:
            left -= 1
        elif parent[i] < 0:
            _push(ready, follower, 0, i)
        else:
            _push(child, sibling, parent[i], i)
    free = np.zeros(B, np.int64)  # the first row that is free in each column
    rows, window = 0, 0
    while left > 0:
        i = ready[window]
        while i >= 0:
            following, half, k = follower[i], size[i], 0
            while half > 1:
                half >>= 1
                k += 1
            _push(waiting, follower, k, i)
            i = following
        end = (window + 1) * T
        for b in range(B):
            k = _CLASSES - 1
            while free[b] < end:
                while k >= 0 and waiting[k] < 0:
                    k -= 1
                if k < 0:
                    free[b] = end
                    break
                i = waiting[k]
                waiting[k] = follower[i]
                top[i], column[i] = free[b], b
                free[b] += size[i]
                rows = max(rows, free[b])
                left -= 1
                c = child[i]
                while c >= 0:
                    last_shared = top[i] + shared[c] - 1 - shared[i]
                    _push(ready, follower, last_shared // T + 1, c)
                    c = sibling[c]
        window += 1
    return rows


@njit()
def lay_out(layout: Any, texts: Any, B: int, start_id: int) -> int:
    """Fill in the layout of B columns; returns the number of losses."""
    x, restart_rows, kept, target, target_place, target_id = layout
    ids, lengths, same, shared, top, column, slot = texts
    place = np.empty(len(ids), np.int64)  # of each step
    start, before, count = 0, 0, 0
    for i in range(len(lengths)):
        for j in range(lengths[i]):
            if j < shared[i]:
                place[start + j] = place[before + j]
            else:
                here = (top[i] + j - shared[i]) * B + column[i]
                place[start + j] = here
                x[here] = ids[start + j - 1] if j > 0 else start_id
                if j == shared[i]:
                    restart_rows[here] = slot[i]
            if j < same[i]:
                target[start + j] = target[before + j]
            else:
                target[start + j] = count
                target_place[count], target_id[count] = place[start + j], ids[start + j]
                count += 1
        if slot[i] > 0:
            kept[slot[i]] = place[start + shared[i] - 1]
        before = start
        start += lengths[i]
    return count
