"""Labelled texts -> the weights of their grams, see charrnn.counts.class_grams.

Which grams are kept depends on how often they occur, in the mean over classes; texts are read twice, since
all grams' counts of all classes would take too much memory. Weights begin as the logarithms of ratios (Wang
and Manning 2012), of how often texts of a class have a gram, to how often they would if all classes had it as
often; logistic regression on the same texts goes on from half of them.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from charrnn.counts.class_grams import NEVER, Array, ClassGrams, Floats, rows_of
from charrnn.kernels.coefficients import CLASS_GRAM, CLASS_GRAM_BITS, CLASS_GRAM_STEP, CLASS_GRAM_ZERO
from charrnn.kernels.loops.beside import class_grams as kernels
from charrnn.labels import parts
from charrnn.vocabulary import id_dtype

# A class is taken to have had a gram SEEN times more often, and as often as that of others. Of surnames,
# 0.1 gave the least loss beside a network: 0.505, 0.02 0.505, 0.5 0.506; of languages, 0.05 to 1 told 99.2 %.
SEEN = 0.1
TOGETHER = 2**18  # characters that are counted at a time
# A regression begins with START of the logarithms. It takes PASSES over the texts, or over so many of them
# that they have MOST_REGRESSED characters, at rates that fall linearly from RATE; SQUARES is what the sum of
# a gradient's squares begins with. Of surnames 0.15 points more are right so, beside a network.
START, PASSES, RATE, SQUARES, MOST_REGRESSED = 0.5, 4, 0.05, 0.1, 2**20


class Counted(NamedTuple):
    """Grams, and how often they were counted."""

    grams: ClassGrams
    counts: npt.NDArray[np.float32]  # (K, N), of each gram in the texts of each class
    totals: npt.NDArray[np.float32]  # (N,), of all grams in these
    shares: npt.NDArray[np.float32]  # (N,), see _shares

    def tell_others(self, texts: kernels.Texts, own: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """What grams would tell of R texts that they have counted, had they not: (R, N).

        own (R, N) is how often each text has each class.
        """
        told = np.empty(own.shape, np.float32)
        classes = kernels.Classes(
            np.cumsum((0, *self.grams.sizes)), self.totals, self.shares, np.float32(SEEN)
        )
        kernels.tell_others(told, texts, self.grams.rows, self.counts, own, classes)
        return told


def learned(
    texts: kernels.Texts, counts: npt.NDArray[np.float32], sizes: tuple[int, ...], most_bytes: int
) -> Generator[int, None, Counted]:
    """The grams of R texts, given how often each has each class (R, N), that take so many bytes at most.

    Nothing is known yet of how they stand beside a network. Yields the numbers of characters read, by the
    regression none.
    """
    lengths = texts.ends - texts.begins
    # Of all grams in the texts of a class.
    totals = np.einsum("r,rn->n", grams_of(lengths), counts, dtype=np.float64)
    rates = np.zeros(2**CLASS_GRAM_BITS)
    shares = np.einsum("rn,n->r", counts, 1 / np.maximum(totals, 1), dtype=np.float64)
    for some in _parts(lengths):
        kernels.spread(rates, _some(texts, some), shares[some])
        yield int(lengths[some].sum())
    numbers = _most_frequent(rates, most_bytes // (4 + counts.shape[1]))
    found, rows = np.zeros((len(numbers), counts.shape[1]), np.float32), rows_of(numbers)
    for some in _parts(lengths):
        kernels.count(found, _some(texts, some), counts[some], rows)
        yield int(lengths[some].sum())
    columns, N = len(sizes), counts.shape[1]
    in_mean = _shares(totals, sizes)
    weights = np.float32(START) * ratios(found, totals, in_mean, sizes)
    for _ in _regress(weights, texts, rows, counts, sizes):
        yield 0
    grams = ClassGrams(
        numbers.astype(np.uint32), coded(weights), np.zeros(columns, np.float32),
        np.ones(columns, np.float32), np.zeros(N, np.float32), np.full(1, NEVER, np.float32),
        sizes=sizes, vocab_size=texts.vocab_size,
    )  # fmt: skip
    return Counted(grams, found, totals.astype(np.float32), in_mean.astype(np.float32))


def grams_of(lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """How many grams texts of these lengths have."""
    each = [np.maximum(lengths + 2 - n, 0) for n in range(CLASS_GRAM)]
    found: npt.NDArray[np.int64] = np.sum(each, axis=0)
    return found


def ratios(counts: Array, totals: Floats, shares: Floats, sizes: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """The logarithms of ratios (K, N), of grams that texts of each class have so often (K, N).

    totals (N,) are those of all grams in the texts of a class; for shares (N,) see _shares.
    """
    found = np.empty(counts.shape, np.float32)
    for some in parts(sizes):
        own = counts[:, some].astype(np.float64)
        even = (own * shares[some]).sum(axis=1, keepdims=True)
        found[:, some] = np.log((own + SEEN) / (totals[some] * even + SEEN))
    return found


def _regress(
    weights: npt.NDArray[np.float32],
    texts: kernels.Texts,
    rows: npt.NDArray[np.int32],
    counts: npt.NDArray[np.float32],
    sizes: tuple[int, ...],
) -> Iterator[None]:
    """Improve the weights (K, N), in place, some texts at a time."""
    R, random, lengths = len(texts.begins), np.random.default_rng(0), texts.ends - texts.begins
    used = min(R, max(1, R * MOST_REGRESSED // max(int(lengths.sum()), 1)))
    squares, bounds = np.full_like(weights, SQUARES), np.cumsum((0, *sizes))
    for n in range(PASSES):
        order = random.permutation(R)[:used]
        for some in _parts(lengths[order]):
            own = _some(texts, order[some])
            kernels.regress(weights, squares, own, rows, counts[order[some]], bounds, RATE * (1 - n / PASSES))
            yield


def coded(weights: Array) -> npt.NDArray[np.uint8]:
    """The codes of weights."""
    codes: npt.NDArray[np.uint8] = np.clip(
        np.round(weights / CLASS_GRAM_STEP) + CLASS_GRAM_ZERO, 0, 255
    ).astype(np.uint8)
    return codes


def _shares(totals: Floats, sizes: tuple[int, ...]) -> Floats:
    """What a class's count of a gram is multiplied by, (N,), for the mean over classes of how often it comes.

    totals (N,) are those of all grams in the texts of a class; classes without any are not in the mean.
    """
    used = [max(int(np.count_nonzero(totals[some])), 1) for some in parts(sizes)]
    shares: Floats = 1 / (np.maximum(totals, 1) * np.repeat(used, sizes))
    return shares


def try_out(outputs: int) -> None:
    """A call of each kernel, so that it is compiled, for so many characters; see charrnn.counts.trial."""
    none, one = np.zeros(0, np.int64), np.zeros((1, 1))
    texts = kernels.Texts(np.zeros(0, id_dtype(outputs)), none, none, 1)
    rows, counts = np.zeros(2**CLASS_GRAM_BITS, np.int32), np.zeros((1, 1), np.float32)
    kernels.spread(one[0], texts, one[0])
    kernels.count(counts, texts, counts, rows)
    kernels.tell(one, texts, rows, np.zeros((1, 1), np.uint8))
    kernels.alone(one, one[0], one, counts[0], counts[0], np.zeros(2, np.int64))
    classes = kernels.Classes(np.zeros(2, np.int64), counts[0], counts[0], np.float32(SEEN))
    kernels.tell_others(counts, texts, rows, counts, counts, classes)
    kernels.regress(counts, counts, texts, rows, counts, classes.bounds, 0.0)


def _most_frequent(rates: Floats, most: int) -> npt.NDArray[np.int64]:
    """The numbers of the grams with the highest rates, at most so many, ascending."""
    order = np.argsort(-rates, kind="stable")[: max(most, 1)]
    found: npt.NDArray[np.int64] = np.sort(order[rates[order] > 0])
    return found


def _parts(lengths: npt.NDArray[np.int64]) -> list[slice]:
    """Consecutive texts of about TOGETHER characters."""
    cuts = np.flatnonzero(np.diff(np.cumsum(lengths) // TOGETHER)) + 1
    bounds = [0, *cuts.tolist(), len(lengths)]
    return [slice(low, high) for low, high in pairwise(bounds)]


def _some(texts: kernels.Texts, some: slice | npt.NDArray[np.int64]) -> kernels.Texts:
    return texts._replace(begins=texts.begins[some], ends=texts.ends[some])
