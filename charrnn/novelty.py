"""What is in a training text, as a small index that a model file carries: its lines and its runs.

Bloom filters (Bloom 1970) of hashes: what is in the text is always found, what is not, rarely, too. So a text
that is held new is new, and a few new ones are taken for old. The text cannot be read from it.

Each filter has at most MOST_BITS, so that the index has at most 3 MiB (4 MiB as base64 in the model file).
Below that, a line takes 16 bits (0.05 % are wrongly found), and a run 8 for each of the two lengths (2 %).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from charrnn.steering import BASES, PRIME, contains
from charrnn.vocabulary import code_points

LINE_BITS, RUN_BITS = 16, 8  # for each line or character, as long as there are no more than MOST_BITS
MOST_BITS = 2**23
MOST_PROBES = 16
GRAMS = (8, 16)  # lengths of the runs that are kept: powers of two

Hashes = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Bloom:
    """A Bloom filter; see steering.contains."""

    bits: bytes
    probes: int

    @classmethod
    def build(cls, each: int, count: int, hashes: Iterable[tuple[Hashes, Hashes]]) -> Bloom:
        """Of `count` hashes, which come as pairs of arrays (n,); `each` bits for one."""
        size = -(-min(max(count * each, 64), MOST_BITS) // 8) * 8
        probes = min(max(round(math.log(2) * size / max(count, 1)), 1), round(math.log(2) * each))
        bits = np.zeros(size, np.bool_)
        for first, second in hashes:
            for probe in range(probes):
                bits[(first + probe * second) % size] = True
            if bits.all():
                break  # nothing more can be added
        return cls(np.packbits(bits, bitorder="little").tobytes(), probes)

    @property
    def false_rate(self) -> float:
        """The share of what is not in it that is found nevertheless."""
        filled = np.unpackbits(np.frombuffer(self.bits, np.uint8)).mean()
        return float(filled) ** self.probes

    def to_dict(self) -> dict[str, Any]:
        return {"bits": base64.b64encode(self.bits).decode(), "probes": self.probes}

    @classmethod
    def from_dict(cls, values: object) -> Bloom:
        """What `to_dict` wrote. ValueError: it is anything else."""
        if not isinstance(values, dict) or values.keys() != {"bits", "probes"}:
            raise ValueError("a part of its index has no bits and probes")
        text, probes = values["bits"], values["probes"]
        if type(probes) is not int or not 1 <= probes <= MOST_PROBES:
            raise ValueError(f"a part of its index does not have 1 to {MOST_PROBES} probes")
        try:
            bits = base64.b64decode(text, validate=True)
        except (TypeError, ValueError, binascii.Error):
            raise ValueError("a part of its index is no base64") from None
        if not 1 <= len(bits) <= MOST_BITS // 8:
            raise ValueError(f"a part of its index does not have 1 to {MOST_BITS // 8} bytes")
        return cls(bits, probes)


@dataclass(frozen=True, slots=True)
class Novelty:
    """The index of one training text."""

    lines: Bloom
    runs: dict[int, Bloom]  # by their length

    @classmethod
    def build(cls, pieces: Callable[[], Iterable[str]], *, by_line: bool) -> Novelty:
        """Of a text that `pieces()` gives, again and again, in pieces of any size.

        With `by_line`, runs do not go on from one line to the next.
        """
        lines, runs = _count(pieces(), by_line=by_line)
        return cls(
            Bloom.build(LINE_BITS, lines, _line_hashes(pieces())),
            {n: Bloom.build(RUN_BITS, runs[n], _run_hashes(pieces(), n, by_line)) for n in GRAMS},
        )

    def has_line(self, line: str) -> bool:
        """Whether a line, without its end, is in the text."""
        return contains(self.lines.bits, self.lines.probes, *_line_hash(line))

    def gram(self, run: int) -> int:
        """The longest of the lengths kept that is at most `run`, which is at least the shortest."""
        return max(n for n in self.runs if n <= run)

    def false_rate(self, run: int) -> float:
        """The share of new runs of this length that are taken for copied ones."""
        gram = self.gram(run)
        return self.runs[gram].false_rate ** (run - gram + 1)

    def to_dict(self) -> dict[str, Any]:
        return {"lines": self.lines.to_dict(), "runs": {str(n): b.to_dict() for n, b in self.runs.items()}}

    @classmethod
    def from_dict(cls, values: object) -> Novelty:
        """What `to_dict` wrote. ValueError: it is anything else."""
        if not isinstance(values, dict) or values.keys() != {"lines", "runs"}:
            raise ValueError("its index has no lines and runs")
        runs = values["runs"]
        if not isinstance(runs, dict) or runs.keys() != {str(n) for n in GRAMS}:
            raise ValueError(
                f"its index does not have the runs of {' and '.join(map(str, GRAMS))} characters"
            )
        return cls(Bloom.from_dict(values["lines"]), {n: Bloom.from_dict(runs[str(n)]) for n in GRAMS})


def _count(pieces: Iterable[str], *, by_line: bool) -> tuple[int, dict[int, int]]:
    """How many lines there are, and how many runs of each length of GRAMS."""
    lines, runs = 0, dict.fromkeys(GRAMS, 0)
    total = begun = 0  # characters, and those of the line that has not ended yet

    def add(lengths: Hashes) -> None:
        for n in GRAMS:
            runs[n] += int(np.maximum(lengths - (n - 1), 0).sum())

    for piece in pieces:
        total += len(piece)
        ends = np.flatnonzero(code_points(piece) == ord("\n")) + 1
        if not len(ends):
            begun += len(piece)
            continue
        lines += len(ends)
        if by_line:
            add(np.diff(ends, prepend=-begun))
        begun = len(piece) - int(ends[-1])
    add(np.array([begun if by_line else total]))
    return lines + (begun > 0), runs


def _line_hash(line: str) -> tuple[int, int]:
    return _halves(hashlib.blake2b(_encoded(line), digest_size=16))


def _halves(line: hashlib.blake2b) -> tuple[int, int]:
    digest = line.digest()
    return int.from_bytes(digest[:8], "little") % PRIME, int.from_bytes(digest[8:], "little") % PRIME


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _line_hashes(pieces: Iterable[str]) -> Iterator[tuple[Hashes, Hashes]]:
    line, begun = hashlib.blake2b(digest_size=16), False  # the one that has not ended yet
    for piece in pieces:
        rest, *others = piece.split("\n")
        line.update(_encoded(rest))
        begun = begun or bool(rest)
        if others:
            ended = [_halves(line), *map(_line_hash, others[:-1])]
            line, begun = hashlib.blake2b(_encoded(others[-1]), digest_size=16), bool(others[-1])
            first, second = np.array(ended, np.int64).T
            yield first, second
    if begun:
        first, second = np.array([_halves(line)], np.int64).T
        yield first, second


def _run_hashes(pieces: Iterable[str], length: int, by_line: bool) -> Iterator[tuple[Hashes, Hashes]]:
    before = np.empty(0, np.int64)
    for piece in pieces:
        points = np.concatenate([before, code_points(piece)])
        before = points[max(len(points) - length + 1, 0) :]
        if len(points) < length:
            continue
        first, second = (_polynomials(points + 1, length, base) for base in BASES)
        if by_line:
            ends = np.concatenate([[0], np.cumsum(points == ord("\n"))])
            inside = ends[length - 1 : -1] == ends[:-length]  # no line ends before the last character
            first, second = first[inside], second[inside]
        yield first, second


def _polynomials(values: Hashes, length: int, base: int) -> Hashes:
    """For each run of `length`, a power of two: the sum of values[i] * base^(length - 1 - i) mod PRIME."""
    done, power = 1, base
    while done < length:
        values = (values[:-done] * power + values[done:]) % PRIME
        done, power = 2 * done, power * power % PRIME
    return values
