"""Rolling hashes of runs of characters, and their Bloom filter; the code runs in Python and compiled."""

from __future__ import annotations

from typing import Any

# The hashes are polynomials modulo a prime below 2^31, so that no product overflows int64.
PRIME = 2**31 - 1
BASES = (1_103_515_245, 69_069_071)


def contains(bits: Any, probes: int, first: int, second: int) -> bool:
    """Whether a Bloom filter contains a run, given its two hashes; with a few false positives.

    It probes the bits first, first + second, first + 2 second, .. modulo their number (Kirsch and
    Mitzenmacher 2006); bit n is bit n % 8 of byte n // 8.
    """
    size = 8 * len(bits)
    for probe in range(probes):
        at = (first + probe * second) % size
        if not (bits[at >> 3] >> (at & 7)) & 1:
            return False
    return True
