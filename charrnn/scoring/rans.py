"""rANS entropy coding: logits -> integer frequencies -> a state and words, and back.

rANS is the range variant of asymmetric numeral systems (Duda 2009, 2013), here with a state of 63 bits that
emits words of 32. It is a stack: the symbol pushed last is popped first, so the encoder goes through the text
backwards. With frequencies f of the sum 2^26 a symbol costs log2(2^26 / f) bits. Rounding x // f, which is at
least 32, adds less than a thousandth on average.

Plain loops over one row: the same source runs as Python and under Numba (charrnn.scoring.rans_loop). Decoding
needs exactly the frequencies of encoding, on every machine. So the C library's exp, whose last bit differs
between machines, is not used; float64 sums, products and quotients are the same everywhere.
"""

from __future__ import annotations

import math
from typing import Any

from charrnn.inference.filters import argmax, total

SCALE = 26  # log2 of the sum of frequencies; each is at least 1
TOTAL = 1 << SCALE
LOWEST = 1 << 31  # the state lies in 2^31 .. 2^63 - 1
WORD = 32  # bits that move between the state and the words at a time
MASK = (1 << WORD) - 1

_INFINITY = math.inf
_LEAST = -24.0  # e^-24 * 2^26 is 0.003: such symbols have the frequency 1
_E2, _E3, _E4, _E5, _E6, _E7, _E8, _E9, _E10 = (1 / math.factorial(n) for n in range(2, 11))


def exp(x: float) -> float:
    """exp(x) for -24 <= x <= 0, to 1e-10: exp(x / 64)^64 by its series, which vectorises."""
    r = x * 0.015625
    y = _E10 * r + _E9
    y = y * r + _E8
    y = y * r + _E7
    y = y * r + _E6
    y = y * r + _E5
    y = y * r + _E4
    y = y * r + _E3
    y = y * r + _E2
    y = y * r + 1.0
    y = y * r + 1.0
    y = y * y
    y = y * y
    y = y * y
    y = y * y
    y = y * y
    return y * y


def frequencies(f: Any, logits: Any, p: Any) -> None:
    """f = softmax(logits) as integers, (V,), each at least 1, of the sum 2^26; V is far below that.

    The most probable symbol takes the rounding error. Infinite logits are the limit of large ones; NaN gets
    1. p (V,) of float64 is scratch space.
    """
    V = len(f)
    best = argmax(logits)
    greatest = 1.0 * logits[best]  # float64, whatever `logits` are; Numba's float() of a float32 is a float32
    if -_INFINITY < greatest < _INFINITY:
        for i in range(V):
            x = 1.0 * logits[i] - greatest
            y = exp(x if x > _LEAST else _LEAST)
            p[i] = y if x > _LEAST else 0.0  # NaN is not greater
    else:  # inf - inf is NaN
        for i in range(V):
            p[i] = 1.0 if logits[i] == greatest else 0.0
    share_out(f, p, best)


def share_out(f: Any, p: Any, best: int) -> None:
    """f = p as integers, (V,), each at least 1, of the sum 2^26, whose rounding error `best` takes."""
    V = len(f)
    whole = total(p)
    scale = (TOTAL - V) / whole if whole > 0.0 else 0.0  # 0: all are NaN
    left = TOTAL
    for i in range(V):
        f[i] = 1 + int(p[i] * scale)
        left -= f[i]
    f[best] += left


def find(f: Any, slot: int) -> int:
    """The symbol whose interval in 0 .. 2^26 - 1 contains `slot`; intervals lie in the order of symbols."""
    i = 0
    while slot >= f[i]:
        slot -= f[i]
        i += 1
    return i


def start_of(f: Any, symbol: int) -> int:
    """The start of the symbol's interval."""
    start = 0
    for i in range(symbol):
        start += f[i]
    return start


def push(x: int, start: int, f: int, words: Any, count: int) -> Any:
    """The state with a symbol of frequency f on top, and the number of words."""
    if x >> (2 * WORD - 1 - SCALE) >= f:
        words[count] = x & MASK
        count += 1
        x >>= WORD
    return ((x // f) << SCALE) + x % f + start, count


def pull(x: int, f: Any, words: Any, place: int, end: int) -> Any:
    """The top symbol, the state without it, and the place of the next word; words are read up to `end`.

    A state below LOWEST: there are too few words.
    """
    symbol = find(f, x & (TOTAL - 1))
    x = pop(x, start_of(f, symbol), f[symbol])
    if x < LOWEST and place < end:
        x = (x << WORD) | words[place]
        place += 1
    return symbol, x, place


def pop(x: int, start: int, f: int) -> int:
    """The state without its top symbol; below LOWEST the caller must shift in a word."""
    return f * (x >> SCALE) + (x & (TOTAL - 1)) - start
