"""How much of a text repeats another one word for word, in long runs."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from charrnn.text.documents import Documents

CHUNK = 2**20  # characters that are looked at together
_BITS = 20  # of a hash, by which most runs are told apart at once
_BASE = 0x9E3779B97F4A7C15
Hashes = npt.NDArray[np.uint64]


def repeated(part: Documents, whole: Documents, run: int) -> float:
    """The share of the part's characters that stand in runs of so many, or more, which the whole has, too."""
    if len(part) < run:
        return 0.0
    table = np.random.default_rng(0).integers(0, 2**64, whole.vocab_size, np.uint64)
    wanted = _hashes(part, 0, len(part), table, run)
    known, place = np.unique(wanted, return_inverse=True)
    some, found = np.zeros(2**_BITS, np.bool_), np.zeros(len(known), np.bool_)
    some[known >> np.uint64(64 - _BITS)] = True
    for low in range(0, len(whole) - run + 1, CHUNK):
        hashes = _hashes(whole, low, min(low + CHUNK + run - 1, len(whole)), table, run)
        hashes = hashes[some[hashes >> np.uint64(64 - _BITS)]]
        places = np.searchsorted(known, hashes)
        places[places == len(known)] = 0
        found[places[known[places] == hashes]] = True
    begins = np.append(np.flatnonzero(found[place]), len(part))
    inside = np.minimum(np.diff(begins), run)  # what each run has beside those of the next
    return float(inside.sum()) / len(part)


def _hashes(documents: Documents, low: int, high: int, table: Hashes, run: int) -> Hashes:
    """Of each run of characters from low to high, a polynomial of their random numbers, modulo 2^64."""
    count = high - low
    double, width, power = table[documents.at(np.arange(low, high))], 1, _BASE  # hashes of `width` characters
    total, size, factor = np.zeros(count + 1, np.uint64), 0, 1  # of `size`, the last of a run
    while True:
        if run & width:
            left = count - size - width + 1
            total = double[:left] * np.uint64(factor) + total[width : width + left]
            size, factor = size + width, factor * power % 2**64
        if 2 * width > run:
            return total
        left = count - 2 * width + 1
        double = double[:left] * np.uint64(power) + double[width : width + left]
        width, power = 2 * width, power * power % 2**64
