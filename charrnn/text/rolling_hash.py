"""Hashes of runs of characters, and the Bloom filter that holds them: the same in Python and compiled."""

from __future__ import annotations

from typing import Any

# Hashes of runs of characters: polynomials modulo a prime below 2^31, so that no product leaves int64.
PRIME = 2**31 - 1
BASES = (1_103_515_245, 69_069_071)


def contains(bits: Any, probes: int, first: int, second: int) -> bool:
    """Whether a Bloom filter holds a run by its two hashes; also for a few runs that it does not hold.

    The bits are first, first + second, first + 2 second, .. modulo their number (Kirsch and Mitzenmacher
    2006); bit n is bit n % 8 of byte n // 8.
    """
    size = 8 * len(bits)
    for probe in range(probes):
        at = (first + probe * second) % size
        if not (bits[at >> 3] >> (at & 7)) & 1:
            return False
    return True
