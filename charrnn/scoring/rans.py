"""Logits -> whole frequencies -> a number that holds the text: entropy coding, and back.

The coder is rANS, the range variant of asymmetric numeral systems (Duda 2009, 2013), with a state of 63 bits
that gives out 32 at a time. It is a stack: what is pushed last is popped first, so the encoder goes through
the text backwards. With frequencies f of a total 2^26 a symbol costs log2(2^26 / f) bits, and on average less
than a thousandth more: the rounding of x // f, which is at least 32, is all that is lost.

Plain loops over one row: the same source runs as Python and under Numba (charrnn.scoring.rans_loop). Decoding
needs the very frequencies of encoding, on another machine as well. So nothing here calls the C library's exp,
whose last bit differs between machines; sums, products and quotients of float64, each rounded, do not.
"""

from __future__ import annotations

import math
from typing import Any

SCALE = 26  # log2 of the sum of frequencies; every symbol has at least 1 of it
TOTAL = 1 << SCALE
LOWEST = 1 << 31  # the state lies in 2^31 .. 2^63 - 1
WORD = 32  # bits that the state gives out, or takes in, at a time
MASK = (1 << WORD) - 1

_INFINITY = math.inf
_LEAST = -24.0  # e^-24 * 2^26 is 0.003: no frequency but the 1 that all have
_E2, _E3, _E4, _E5, _E6, _E7, _E8, _E9, _E10 = (1 / math.factorial(n) for n in range(2, 11))


def exp(x: float) -> float:
    """exp(x) for -24 <= x <= 0, to 1e-10: exp(x / 64)^64, by its series. Products and sums, for vectors."""
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
    """f = softmax(logits) in whole numbers, (V,), each at least 1, of the sum 2^26; V is far below that.

    What rounding leaves goes to the most probable. Infinite logits are the limit of large ones; NaN gets 1.
    p (V,) of float64 is scratch space.
    """
    V = len(f)
    best = 0
    for i in range(1, V):
        if logits[i] > logits[best] or (logits[best] != logits[best] and logits[i] == logits[i]):
            best = i
    greatest = 1.0 * logits[best]  # float64, whatever `logits` are; Numba's float() of a float32 is a float32
    if -_INFINITY < greatest < _INFINITY:
        for i in range(V):
            x = 1.0 * logits[i] - greatest
            y = exp(x if x > _LEAST else _LEAST)
            p[i] = y if x > _LEAST else 0.0  # NaN is not greater
    else:  # several that are infinite have no difference
        for i in range(V):
            p[i] = 1.0 if logits[i] == greatest else 0.0
    total = 0.0
    for i in range(V):
        total += p[i]
    scale = (TOTAL - V) / total if total > 0.0 else 0.0  # 0: all are NaN
    left = TOTAL
    for i in range(V):
        f[i] = 1 + int(p[i] * scale)
        left -= f[i]
    f[best] += left


def find(f: Any, slot: int) -> int:
    """The symbol whose share of 0 .. 2^26 - 1, in their order, holds `slot`."""
    i = 0
    while slot >= f[i]:
        slot -= f[i]
        i += 1
    return i


def start_of(f: Any, symbol: int) -> int:
    """Where the symbol's share begins."""
    start = 0
    for i in range(symbol):
        start += f[i]
    return start


def push(x: int, start: int, f: int, words: Any, count: int) -> Any:
    """The state with a symbol of frequency f on top, and how many words there are now."""
    if x >> (2 * WORD - 1 - SCALE) >= f:
        words[count] = x & MASK
        count += 1
        x >>= WORD
    return ((x // f) << SCALE) + x % f + start, count


def pop(x: int, start: int, f: int) -> int:
    """The state without its top symbol; below LOWEST it must take in a word."""
    return f * (x >> SCALE) + (x & (TOTAL - 1)) - start
