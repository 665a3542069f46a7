"""The loop that codes the characters of several texts at a time; the arithmetic is that of scoring.rans.

Axes: B texts, T characters, W words, V vocabulary; the network's are those of charrnn.inference.writing_loop.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from numba.extending import register_jitable

from charrnn.inference.filters import argmax
from charrnn.inference.writing_loop import _step
from charrnn.kernels.loops.beside import growing
from charrnn.kernels.machine.jit import njit
from charrnn.scoring import rans

for _function in (
    rans.exp, rans.frequencies, rans.share_out, rans.find, rans.start_of, rans.push, rans.pull, rans.pop,
):  # fmt: skip
    register_jitable(_function)


@njit()
def _all_known(network: Any, last: Any, rows: int) -> bool:
    known = True
    for b in range(rows):
        known &= network.known[last[b]]
    return known


class Blocks(NamedTuple):
    """B texts and the network that reads them; those that have ended lie behind the others."""

    last: Any  # (B,) what each reads next
    texts: Any  # (B, T)
    lengths: Any  # (B,), which fall
    line_end: int  # the character after which a text begins anew, with START and a state of zero, or -1
    f: Any  # (V,) frequencies


class Words(NamedTuple):
    """What B texts are decoded from."""

    x: Any  # (B,) the coder's states
    words: Any  # (W,) of all
    places: Any  # (B,) the next word of each
    ends: Any  # (B,)


@njit()
def _read(network: Any, blocks: Any, t: int, rows: int, scratch: Any) -> int:
    """The texts that go on at t read their last characters: scratch.logits are those of the next ones.

    `rows` went on before t. Returns how many do now, the first ones; or -1, with nothing read, where a
    character is not in network.known.
    """
    state, last = scratch.state, blocks.last
    while rows > 0 and blocks.lengths[rows - 1] <= t:
        rows -= 1
    if not _all_known(network, last, rows):
        return -1
    for b in range(rows):
        if last[b] == blocks.line_end:
            last[b] = len(network.known) - 1
            for k in range(state.shape[0]):
                for j in range(state.shape[2]):
                    state[k, b, j] = 0
    _step(network, last, scratch, rows)
    return rows


class Learning(NamedTuple):
    """What counts the one text while it is coded; see charrnn.kernels.loops.beside.growing."""

    grown: Any
    past: Any  # (E,)


@njit()
def _frequencies(blocks: Any, b: int, logits: Any, scratch: Any, learning: Any) -> int:
    """Fill in blocks.f of what follows a text's last character, before which nothing is known of a START.

    Returns how many decisions `learning` then has to learn from; 0: there is none.
    """
    decisions = 0
    if learning is None:
        rans.frequencies(blocks.f, logits, scratch.p)
    if learning is not None:
        if blocks.last[b] == len(blocks.f):
            growing.forget(learning.past)
        growing.follow(learning.grown, learning.past, blocks.last[b])
        decisions = growing.spread(learning.grown, logits, learning.past, scratch.p)
        rans.share_out(blocks.f, scratch.p, argmax(scratch.p))
    return decisions


@njit()
def measure(
    network: Any, blocks: Any, t0: int, t1: int, starts: Any, shares: Any, scratch: Any, learning: Any
) -> int:
    """Where each character t0 .. t1 - 1 of the texts lies in its distribution: starts and shares, (B, T).

    `learning` is None, or there is one text. Returns t1, or before it the first t at which a text's last
    character is not in network.known.
    """
    f = blocks.f
    V, rows = len(f), len(blocks.lengths)
    for t in range(t0, t1):
        rows = _read(network, blocks, t, rows, scratch)
        if rows < 0:
            return t
        for b in range(rows):
            decisions = _frequencies(blocks, b, scratch.logits[b, :V], scratch, learning)
            symbol = blocks.texts[b, t]
            starts[b, t] = rans.start_of(f, symbol)
            shares[b, t] = f[symbol]
            if learning is not None:
                growing.learn(learning.grown, decisions, symbol)
            blocks.last[b] = symbol
    return t1


@njit()
def encode(starts: Any, shares: Any, words: Any) -> Any:
    """One text's words (W,), last to first, and its state, from where its characters lie, (T,) both."""
    x, count = rans.LOWEST, 0
    for t in range(len(starts) - 1, -1, -1):
        x, count = rans.push(x, starts[t], shares[t], words, count)
    return x, count


@njit()
def decode(network: Any, blocks: Any, t0: int, t1: int, coded: Any, scratch: Any, learning: Any) -> int:
    """Characters t0 .. t1 - 1 of the texts, from their words.

    Returns as `measure` does, or -1 when a text has too few words: they are not those that were written.
    """
    f, x, places = blocks.f, coded.x, coded.places
    V, rows = len(f), len(blocks.lengths)
    for t in range(t0, t1):
        rows = _read(network, blocks, t, rows, scratch)
        if rows < 0:
            return t
        for b in range(rows):
            decisions = _frequencies(blocks, b, scratch.logits[b, :V], scratch, learning)
            symbol, x[b], places[b] = rans.pull(x[b], f, coded.words, places[b], coded.ends[b])
            if x[b] < rans.LOWEST:
                return -1
            if learning is not None:
                growing.learn(learning.grown, decisions, symbol)
            blocks.texts[b, t] = symbol
            blocks.last[b] = symbol
    return t1
