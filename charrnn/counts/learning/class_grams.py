"""Labelled texts -> the weights of their grams, see charrnn.counts.class_grams.

Which grams are kept depends on how often they occur, in the mean over classes; texts are read twice, since
all grams' counts of all classes would take too much memory.
"""

from __future__ import annotations

from collections.abc import Generator
from itertools import pairwise

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


def learned(
    texts: kernels.Texts, counts: npt.NDArray[np.float32], sizes: tuple[int, ...], most_bytes: int
) -> Generator[int, None, ClassGrams]:
    """The grams of R texts, given how often each has each class (R, N), that take so many bytes at most.

    Nothing is known yet of how they stand beside a network. Yields the numbers of characters read.
    """
    lengths = texts.ends - texts.begins
    grams = grams_of(lengths)
    totals = np.einsum("r,rn->n", grams, counts, dtype=np.float64)  # of all grams in the texts of a class
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
    return ClassGrams(
        numbers.astype(np.uint32), coded(found, totals, sizes), np.zeros(columns, np.float32),
        np.ones(columns, np.float32), np.zeros(N, np.float32), np.full(1, NEVER, np.float32),
        sizes=sizes, vocab_size=texts.vocab_size,
    )  # fmt: skip


def grams_of(lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """How many grams texts of these lengths have."""
    each = [np.maximum(lengths + 2 - n, 0) for n in range(CLASS_GRAM)]
    found: npt.NDArray[np.int64] = np.sum(each, axis=0)
    return found


def coded(counts: Array, totals: Floats, sizes: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    """The codes of weights: of grams that texts of each class have so often (K, N), of so many grams (N,)."""
    codes = np.empty(counts.shape, np.uint8)
    for some in parts(sizes):
        total = totals[some]
        rates = counts[:, some] / np.maximum(total, 1)
        even = rates.sum(axis=1, keepdims=True) / max(int(np.count_nonzero(total)), 1)
        weights = np.log((counts[:, some] + SEEN) / (total * even + SEEN))
        codes[:, some] = np.clip(np.round(weights / CLASS_GRAM_STEP) + CLASS_GRAM_ZERO, 0, 255)
    return codes


def try_out(outputs: int) -> None:
    """A call of each kernel, so that it is compiled, for so many characters; see charrnn.counts.trial."""
    none, one = np.zeros(0, np.int64), np.zeros((1, 1))
    texts = kernels.Texts(np.zeros(0, id_dtype(outputs)), none, none, 1)
    rows, counts = np.zeros(2**CLASS_GRAM_BITS, np.int32), np.zeros((1, 1), np.float32)
    kernels.spread(one[0], texts, one[0])
    kernels.count(counts, texts, counts, rows)
    kernels.tell(one, texts, rows, np.zeros((1, 1), np.uint8))
    kernels.alone(one, one[0], one, counts[0], counts[0], np.zeros(2, np.int64))


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


def _some(texts: kernels.Texts, some: slice) -> kernels.Texts:
    return texts._replace(begins=texts.begins[some], ends=texts.ends[some])
