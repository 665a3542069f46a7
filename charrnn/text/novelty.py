"""The novelty index of a training text, small enough for the model file: its lines and runs of characters.

It consists of Bloom filters (Bloom 1970), which have false positives but no false negatives: a text reported
as new is new, and a few new ones are taken for copies. The text cannot be recovered from it.

Each filter has at most MOST_BITS, so the index has at most 3 MiB (4 MiB as base64 in the model file).
Below that, a line takes 16 bits (0.05 % false positives), and a run 8 for each of the two lengths (2 %).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import math
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from charrnn.text.rolling_hash import BASES, PRIME, contains
from charrnn.vocabulary import code_points

LINE_BITS, RUN_BITS = 16, 8  # bits for each line or run, up to MOST_BITS in all
MOST_BITS = 2**23
MOST_PROBES = 16
GRAMS = (8, 16)  # lengths of the runs in the index: powers of two

Hashes = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Bloom:
    """A Bloom filter; see rolling_hash.contains."""

    bits: bytes
    probes: int

    @property
    def false_rate(self) -> float:
        """The rate of false positives."""
        filled = np.unpackbits(np.frombuffer(self.bits, np.uint8)).mean()
        return float(filled) ** self.probes

    def to_dict(self) -> dict[str, Any]:
        return {"bits": base64.b64encode(self.bits).decode(), "probes": self.probes}

    @classmethod
    def from_dict(cls, values: object) -> Bloom:
        """The filter that `to_dict` wrote. ValueError: `values` are anything else."""
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
    """The index of one training text; its lines are records, if the text holds these."""

    lines: Bloom
    runs: dict[int, Bloom]  # length of the runs -> filter

    @classmethod
    def build(cls, pieces: Callable[[], Iterable[str]], *, end: str) -> Generator[int, None, Novelty]:
        """Builds the index of a text from `pieces()`, which is called twice and yields pieces of any size.

        If records end with the character `end`, they are indexed in place of lines, and no run crosses an
        end; it is empty for prose. Yields the number of characters indexed after each piece,
        where the caller may stop.
        """
        counts = _Counts(end)
        for piece in pieces():
            counts.add(piece)
            yield 0
        kept = _Lines(counts.lines, end), _Runs(counts.runs(), end)
        done = 0
        for piece in pieces():
            for part in kept:
                part.add(piece)
            done += len(piece)
            yield done
        lines, runs = kept
        return cls(lines.bloom(), runs.blooms())

    def has_line(self, line: str) -> bool:
        """Whether a line, given without its end, is in the text."""
        return contains(self.lines.bits, self.lines.probes, *_line_hash(line))

    def gram(self, run: int) -> int:
        """The longest indexed length that is at most `run`, which must reach the shortest."""
        return max(n for n in self.runs if n <= run)

    def false_rate(self, run: int) -> float:
        """The share of new runs of this length that are taken for copies."""
        gram = self.gram(run)
        return self.runs[gram].false_rate ** (run - gram + 1)

    def to_dict(self) -> dict[str, Any]:
        return {"lines": self.lines.to_dict(), "runs": {str(n): b.to_dict() for n, b in self.runs.items()}}

    @classmethod
    def from_dict(cls, values: object) -> Novelty:
        """The index that `to_dict` wrote. ValueError: `values` are anything else."""
        if not isinstance(values, dict) or values.keys() != {"lines", "runs"}:
            raise ValueError("its index has no lines and runs")
        runs = values["runs"]
        if not isinstance(runs, dict) or runs.keys() != {str(n) for n in GRAMS}:
            raise ValueError(
                f"its index does not have the runs of {' and '.join(map(str, GRAMS))} characters"
            )
        return cls(Bloom.from_dict(values["lines"]), {n: Bloom.from_dict(runs[str(n)]) for n in GRAMS})


class BloomBuilder:
    """Fills a Bloom filter."""

    def __init__(self, bits_each: int, count: int) -> None:
        """For `count` hashes of `bits_each` bits."""
        size = -(-min(max(count * bits_each, 64), MOST_BITS) // 8) * 8
        self.probes = min(max(round(math.log(2) * size / max(count, 1)), 1), round(math.log(2) * bits_each))
        self._bits = np.zeros(size, np.bool_)
        self._full = False

    def add(self, first: Hashes, second: Hashes | None = None) -> None:
        """Adds hashes, (n,) each; `second` is needed only for more than one probe."""
        if self._full:
            return
        self._set(first)
        for probe in range(1, self.probes):
            assert second is not None
            self._set(first + probe * second)
        self._full = bool(self._bits.all())

    def _set(self, hashes: Hashes) -> None:
        size = len(self._bits)
        # A long text's filter has MOST_BITS, a power of two, for which a mask replaces the division.
        self._bits[hashes % size if size & (size - 1) else hashes & (size - 1)] = True

    def bloom(self) -> Bloom:
        return Bloom(np.packbits(self._bits, bitorder="little").tobytes(), self.probes)


class _Counts:
    """Counts the lines of a text, and its runs of each length in GRAMS."""

    def __init__(self, end: str) -> None:
        self._end, self._by_line = end or "\n", bool(end)
        self._ended = self._total = 0  # complete lines; characters
        self._begun = 0  # characters of the incomplete last line
        self._inside = dict.fromkeys(GRAMS, 0)  # with `by_line`: runs in the complete lines

    def add(self, piece: str) -> None:
        self._total += len(piece)
        if not (ended := piece.count(self._end)):
            self._begun += len(piece)
            return
        self._ended += ended
        if self._by_line:
            ends = np.flatnonzero(code_points(piece) == ord(self._end)) + 1
            lengths = np.diff(ends, prepend=-self._begun)
            for n in GRAMS:
                self._inside[n] += int(np.maximum(lengths - (n - 1), 0).sum())
        self._begun = len(piece) - piece.rindex(self._end) - 1

    @property
    def lines(self) -> int:
        return self._ended + (self._begun > 0)

    def runs(self) -> dict[int, int]:
        rest = self._begun if self._by_line else self._total
        return {n: inside + max(rest - (n - 1), 0) for n, inside in self._inside.items()}


class _Lines:
    """Builds the filter of all lines from pieces of the text."""

    def __init__(self, count: int, end: str) -> None:
        self._builder = BloomBuilder(LINE_BITS, count)
        self._end = _encoded(end or "\n")
        self._line, self._begun = _hash(), False  # the incomplete last line

    def add(self, piece: str) -> None:
        rest, *others = _encoded(piece).split(self._end)
        self._line.update(rest)
        self._begun = self._begun or bool(rest)
        if others:
            *whole, begun = others
            digests = [self._line.digest(), *[_hash(line).digest() for line in whole]]
            self._builder.add(*_halves(b"".join(digests)))
            self._line, self._begun = _hash(begun), bool(begun)

    def bloom(self) -> Bloom:
        if self._begun:
            self._builder.add(*_halves(self._line.digest()))
        return self._builder.bloom()


def _line_hash(line: str) -> tuple[int, int]:
    (first,), (second,) = _halves(_hash(_encoded(line)).digest())
    return int(first), int(second)


def _hash(data: bytes = b"") -> hashlib.blake2b:
    return hashlib.blake2b(data, digest_size=16)


def _halves(digests: bytes) -> tuple[Hashes, Hashes]:
    """The two hashes of each line, (n,), from n digests of 16 bytes."""
    first, second = np.frombuffer(digests, "<u8").astype(np.uint64, copy=False).reshape(-1, 2).T % PRIME
    return first, second


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


class _Runs:
    """Builds the filters of all runs, by length, from pieces of the text."""

    def __init__(self, counts: dict[int, int], end: str) -> None:
        self._builders = {n: BloomBuilder(RUN_BITS, count) for n, count in counts.items()}
        self._end = end
        # A single probe, as for a long text, needs no second hash.
        several = any(builder.probes > 1 for builder in self._builders.values())
        self._bases = BASES if several else BASES[:1]
        self._before = np.empty(0, np.uint64)  # the previous piece's last characters, where runs may begin

    def add(self, piece: str) -> None:
        before = len(self._before)
        points = np.concatenate([self._before, code_points(piece)])
        self._before = points[max(len(points) - GRAMS[-1] + 1, 0) :]
        ends = np.concatenate([[0], np.cumsum(points == ord(self._end))]) if self._end else None
        both = [_polynomials(points + 1, base) for base in self._bases]
        for n, builder in self._builders.items():
            at = max(before - n + 1, 0)  # earlier runs ended in the previous piece
            found = [hashes[n][at:] for hashes in both]
            if ends is not None:
                inside = ends[n - 1 : -1] == ends[:-n]  # no end before the run's last character
                found = [hashes[inside[at:]] for hashes in found]
            builder.add(*found)

    def blooms(self) -> dict[int, Bloom]:
        return {n: builder.bloom() for n, builder in self._builders.items()}


def _polynomials(values: Hashes, base: int) -> dict[int, Hashes]:
    """For each n in GRAMS, the hashes of all runs: the sum of values[i] * base^(n - 1 - i) mod PRIME."""
    found, length, power = {}, 1, base
    while length < GRAMS[-1]:
        values = values[:-length] * power + values[length:]
        # A reduction without division: 2^31 = 1 modulo PRIME. In the four rounds to 16 characters, which are
        # below 2^21, no sum exceeds 1.5 * 2^63.
        values = (values & PRIME) + (values >> 31)
        length, power = 2 * length, power * power % PRIME
        if length in GRAMS:
            found[length] = values % PRIME
    return found
