"""What followed states like the present one: the continuous cache, when a network writes and when it reads.

Grave, Joulin & Usunier, "Improving Neural Language Models with a Continuous Cache" (ICLR 2017). u are states
of length 1: u the present one, u_i the last N before it, and x_i the character that followed that one.

    e_i = exp(theta (u . u_i - 1)),  m = sum of e_i,  w = most m / (m + doubt)
    p(x) = (1 - w) p_model(x) + w / m (sum of the e_i where x_i = x)

The paper has one weight w for all characters. Here it grows with what is found: of m states like the present
one. `recall` does what charrnn.recall.recalling does in NumPy, bit for bit.

Axes: B texts, T characters, N places of a cache, V vocabulary, H hidden, S numbers of a layer's state.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from charrnn.kernels.activations import exp
from charrnn.kernels.coefficients import EXP_LEAST, NORM_LANES
from charrnn.kernels.exact_layers import _row
from charrnn.kernels.loops.beside.mixing import _exponentials, _log, _total
from charrnn.kernels.machine.jit import njit
from charrnn.kernels.machine.native_calls import WORD, _doubles_at, _floats_at, word_at
from charrnn.kernels.reductions import _sum_of_products

_ZERO, _ONE, _LEAST, _MOST = np.float32(0), np.float32(1), np.float32(EXP_LEAST), np.float32(3e38)
_SIZE = np.intp(4)  # the bytes of a float32
PLACE, KNOWN, FIRST = range(3)  # of the numbers of a cache, see `Memory`


class Memory(NamedTuple):
    """The caches of B texts.

    The numbers of each are: the place of the state whose character is not known yet, plus 1, or 0 if there is
    none; how many characters are known, which are the first ones; and N characters.
    """

    states: Any  # (B, N H) of length 1
    numbers: Any  # (B, 2 + N)


@njit()
def _dot(a: int, b: int, n: int) -> Any:
    """The sum of products of n numbers each, at these addresses."""
    return _sum_of_products(_ZERO, np.intp(a), np.intp(b), np.intp(n))


@njit()
def _scale(u: Any, h: Any) -> None:
    """u = h / |h|, both (H,); 0 where that has no length, or an infinite one."""
    square = _dot(h.ctypes.data, h.ctypes.data, len(h))
    known = square > _ZERO and square < _MOST
    scale = _ONE / np.sqrt(square) if known else _ZERO
    for k in range(len(h)):
        u[k] = h[k] * scale if known else _ZERO


@njit()
def _compare(e: Any, u: Any, states: int, theta: Any) -> None:
    """e (n,) of the n states (n, H) at an address."""
    H = len(u)
    for i in range(len(e)):
        x = theta * (_dot(u.ctypes.data, states + i * H * _SIZE, H) - _ONE)
        x = x if x < _ZERO else _ZERO
        e[i] = exp(x if x > _LEAST else _LEAST)


@njit()
def _move(numbers: Any, character: int) -> int:
    """The character is that of the last state, if there is one. Returns the place of the next state."""
    N = len(numbers) - FIRST
    place = int(numbers[PLACE])
    if place == 0:
        return 0
    numbers[FIRST + place - 1] = np.float32(character)
    if numbers[KNOWN] < N:
        numbers[KNOWN] += _ONE
    return place % N


def recall(table: int, characters: int, rows: int) -> None:
    """An instruction of the compiled loop: logits become log-probabilities, mixed with those of the cache.

    The table has V, the character that is never written or -1, N, H, S, the bytes from layer to layer of the
    state, the address of theta, the most weight and the doubt, and the addresses and widths of the result,
    the logits, the network's last output, and the state's first layer: see recalling.Layout.
    """
    V, never, N = word_at(table), word_at(table + WORD), word_at(table + 2 * WORD)
    H, S, stride = word_at(table + 3 * WORD), word_at(table + 4 * WORD), word_at(table + 5 * WORD)
    theta, most, doubt = _doubles_at(word_at(table + 6 * WORD), 3)
    entries = table + 7 * WORD
    each = S // H
    layers = (N + each - 1) // each
    u, e, hits = np.empty(H, np.float32), np.empty(N, np.float32), np.empty(V + 1)
    numbers, lanes = np.empty(FIRST + N, np.float32), np.zeros(NORM_LANES)
    shares, products = np.empty(V, np.float32), np.empty(V, np.float32)
    for b in range(rows):
        y, logits = _row(entries, b, V), _row(entries + 2 * WORD, b, V)
        state = word_at(entries + 6 * WORD) + b * S * _SIZE
        for k in range(0, FIRST + N, S):
            part = _floats_at(state + (layers + k // S) * stride, S)
            for j in range(min(S, FIRST + N - k)):
                numbers[k + j] = part[j]
        place = _move(numbers, word_at(characters + b * WORD))
        known = int(numbers[KNOWN])
        _scale(u, _row(entries + 4 * WORD, b, H))
        for k in range(0, known, each):
            _compare(e[k : min(k + each, known)], u, state + k // each * stride, np.float32(theta))
        hits[:] = 0.0
        for i in range(known):
            hits[int(numbers[FIRST + i])] += np.float64(e[i])
        _exponentials(shares, products, logits)
        whole, found = _total(shares, lanes), _total(e[:known], lanes)
        scale = most / (found + doubt)
        left = (1.0 - scale * found) / whole
        for i in range(V):
            y[i] = np.float32(_log(left * np.float64(shares[i]) + scale * hits[i]))
        if never >= 0:
            y[never] = np.float32(-1e30)
        kept = _floats_at(state + place // each * stride + place % each * H * _SIZE, H)
        for k in range(H):
            kept[k] = u[k]
        numbers[PLACE] = np.float32(place + 1)
        for k in range(0, FIRST + N, S):
            part = _floats_at(state + (layers + k // S) * stride, S)
            for j in range(min(S, FIRST + N - k)):
                part[j] = numbers[k + j]


class Asked(NamedTuple):
    """The characters of which the caches tell, and what they tell; position t * B + b has those from

    first[t * B + b] to first[t * B + b + 1].
    """

    first: Any  # (T * B + 1,)
    ids: Any  # (M,)
    found: Any  # (T * B,) m, where something is asked
    hits: Any  # (M,) the sum of the e_i of this character


class Reading(NamedTuple):
    """What is read."""

    x: Any  # (T, B)
    hidden: Any  # (T, B, padded H) the network's last output
    restart_rows: Any  # (T, B) where it is not -1, a text begins with that cache of `restarts`
    restarts: Memory
    kept_rows: Any  # (T * B,) where it is not -1, the cache after this position is kept there
    kept: Memory


@njit()
def _copy(to: Any, row: int, source: Any, of: int) -> None:
    """Copy a cache, as far as it is filled."""
    N, length = to.numbers.shape[1] - FIRST, to.states.shape[1]
    filled = max(int(source.numbers[of, PLACE]), int(source.numbers[of, KNOWN]))
    to.numbers[row, : FIRST + filled] = source.numbers[of, : FIRST + filled]
    filled *= length // N
    to.states[row, :filled] = source.states[of, :filled]


@njit()
def follow(
    asked: Any, reading: Any, memory: Any, theta: Any, H: int, V: int, b0: int, b1: int
) -> None:  # fmt: skip
    """Columns b0 to b1 read the characters: `memory` becomes the caches after them, `asked` is filled in."""
    T, B = reading.x.shape
    N = memory.numbers.shape[1] - FIRST
    u, e, hits = np.empty(H, np.float32), np.empty(N, np.float32), np.zeros(V + 1)
    for b in range(b0, b1):
        numbers, states = memory.numbers[b], memory.states[b]
        for t in range(T):
            at, restart = t * B + b, reading.restart_rows[t, b]
            if restart >= 0:
                numbers[:FIRST] = _ZERO
                _copy(memory, b, reading.restarts, restart)
            place = _move(numbers, reading.x[t, b])
            known = int(numbers[KNOWN])
            _scale(u, reading.hidden[t, b, :H])
            first, end = asked.first[at], asked.first[at + 1]
            if end > first:
                _compare(e[:known], u, states.ctypes.data, theta)
                total = 0.0
                for i in range(known):
                    total += np.float64(e[i])
                    hits[int(numbers[FIRST + i])] += np.float64(e[i])
                asked.found[at] = total
                for n in range(first, end):
                    asked.hits[n] = hits[asked.ids[n]]
                for i in range(known):
                    hits[int(numbers[FIRST + i])] = 0.0
            for k in range(H):
                states[place * H + k] = u[k]
            numbers[PLACE] = np.float32(place + 1)
            if reading.kept_rows[at] >= 0:
                _copy(reading.kept, reading.kept_rows[at], memory, b)


@njit()
def mix(nats: Any, places: Any, asked: Any, most: float, doubt: float) -> None:
    """nats (M,): -log p under the model of characters asked at these places become those with the cache.

    NaN stays.
    """
    for n in range(len(nats)):
        if nats[n] == nats[n]:
            found = asked.found[places[n]]
            scale = most / (found + doubt)
            p = (1.0 - scale * found) * np.float64(exp(-nats[n])) + scale * asked.hits[n]
            nats[n] = np.float32(-_log(p))


@njit()
def predictions(logits: Any, found: Any, hits: Any, most: float, doubt: float) -> None:
    """logits (M, V) of the model become log-probabilities with the cache; found (M,), hits (M, V)."""
    V = logits.shape[1]
    shares, products, lanes = np.empty(V, np.float32), np.empty(V, np.float32), np.zeros(NORM_LANES)
    for n in range(len(logits)):
        _exponentials(shares, products, logits[n])
        scale = most / (found[n] + doubt)
        left = (1.0 - scale * found[n]) / _total(shares, lanes)
        for i in range(V):
            logits[n, i] = np.float32(_log(left * np.float64(shares[i]) + scale * hits[n, i]))
