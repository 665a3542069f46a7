"""Grams of whole texts, and what they tell of the texts' classes; see charrnn.counts.class_grams.

A gram is up to ORDER characters in a row, among them START, V, and END, V + 1, which stand around a text. Its
number is BITS bits of a hash.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from charrnn.kernels.activations import log
from charrnn.kernels.coefficients import CLASS_GRAM as ORDER
from charrnn.kernels.coefficients import CLASS_GRAM_BITS as BITS
from charrnn.kernels.coefficients import CLASS_GRAM_STEP as STEP
from charrnn.kernels.coefficients import CLASS_GRAM_ZERO as ZERO
from charrnn.kernels.loss import _exponentials, _scale
from charrnn.kernels.machine.jit import njit
from charrnn.kernels.reductions import largest, total, total_of_products
from charrnn.kernels.rows import _add

FACTOR = 0x9E3779B97F4A7C15


class Texts(NamedTuple):
    """R texts: text r is values[begins[r] : ends[r]]."""

    values: Any  # (N,) ids, any integers
    begins: Any  # (R,)
    ends: Any  # (R,)
    vocab_size: int  # V


class Classes(NamedTuple):
    """What the weights of grams depend on besides their counts, all float32 but the bounds."""

    bounds: Any  # (columns + 1,), of the classes of each column
    totals: Any  # (N,), how many grams the texts of a class have
    shares: Any  # (N,): the sum of counts by these is how often classes have a gram, in their mean
    seen: Any  # how much more often each class is taken to have had a gram


@njit()
def _longer(state: Any, symbol: Any) -> Any:
    """The state of a gram's hash after one more symbol; it begins with 0."""
    h = (state + np.uint64(symbol) + np.uint64(1)) * np.uint64(FACTOR)
    return h ^ (h >> np.uint64(29))


@njit()
def _symbol(texts: Any, r: int, place: int) -> Any:
    """What stands at a place of text r, whose START is at 0."""
    if place == 0:
        return np.int64(texts.vocab_size)
    at = texts.begins[r] + place - 1
    return np.int64(texts.vocab_size + 1 if at == texts.ends[r] else texts.values[at])


@njit()
def spread(rates: Any, texts: Any, shares: Any) -> None:
    """Adds a text's share (R,) to the rate (2 ** BITS,) of each of its grams."""
    for r in range(len(texts.begins)):
        places = texts.ends[r] - texts.begins[r] + 2
        for first in range(places):
            h = np.uint64(0)
            for place in range(first, min(first + ORDER, places)):
                h = _longer(h, _symbol(texts, r, place))
                rates[h >> np.uint64(64 - BITS)] += shares[r]


@njit()
def _rows_of(texts: Any, r: int, rows: Any) -> Any:
    """The rows of a text's grams, and the number of these, those without a row among them."""
    places = texts.ends[r] - texts.begins[r] + 2
    found, number, known = np.empty(ORDER * places, np.int32), 0, 0
    for first in range(places):
        h = np.uint64(0)
        for place in range(first, min(first + ORDER, places)):
            h = _longer(h, _symbol(texts, r, place))
            number += 1
            row = rows[h >> np.uint64(64 - BITS)]
            if row >= 0:
                found[known] = row
                known += 1
    return found[:known], number


@njit()
def _add_to_rows(counts: Any, rows: Any, own: Any, times: Any) -> None:
    """Adds own (N,), most of which is 0, to these rows of counts (K, N), so many times."""
    for n in range(len(own)):
        if own[n] > 0:
            for row in rows:
                counts[row, n] += times * own[n]


@njit()
def count(counts: Any, texts: Any, told: Any, rows: Any) -> None:
    """Adds how often each text has each class, told (R, N), to the counts (K, N) of its grams.

    rows (2 ** BITS,) are those of grams; -1: not counted.
    """
    for r in range(len(texts.begins)):
        found, _ = _rows_of(texts, r, rows)
        _add_to_rows(counts, found, told[r], np.float32(1))


@njit()
def tell(told: Any, texts: Any, rows: Any, codes: Any) -> None:
    """The sum of the weights (N,) of each text's grams by the root of their number, told (R, N).

    codes (K, N) are the weights of grams, by their rows. Sums are of integers, and so the same in any order.
    """
    N = codes.shape[1]
    total = np.empty(N, np.int32)
    for r in range(len(texts.begins)):
        for n in range(N):
            total[n] = 0
        found, number = _rows_of(texts, r, rows)
        for row in found:
            for n in range(N):
                total[n] += np.int32(codes[row, n])
        for n in range(N):
            told[r, n] = (total[n] - ZERO * len(found)) * STEP / math.sqrt(number)


@njit()
def tell_others(told: Any, texts: Any, rows: Any, counts: Any, own: Any, classes: Any) -> None:
    """What `tell` would, had the grams of a text not been counted in it, by weights that are not rounded.

    counts (K, N) are those of grams, of which a text's, own (R, N), are taken away while it is asked for.
    told, counts and own are float32.
    """
    bounds, totals, shares, seen = classes
    for r in range(len(texts.begins)):
        found, number = _rows_of(texts, r, rows)
        y = told[r]
        _add_to_rows(counts, found, own[r], np.float32(-1))
        y[:] = 0
        for row in found:
            for column in range(len(bounds) - 1):
                some = slice(bounds[column], bounds[column + 1])
                _add_weights(y[some], counts[row, some], totals[some], shares[some], seen)
        _add_to_rows(counts, found, own[r], np.float32(1))
        _scale(y, np.float32(1 / math.sqrt(number)), len(y))


@njit()
def regress(weights: Any, squares: Any, texts: Any, rows: Any, own: Any, bounds: Any, rate: float) -> None:
    """Logistic regression from each text once, by steps of Adagrad (Duchi et al. 2011).

    The weights (K, N) of grams, and the sums (K, N) of their gradients' squares, are float32. The classes of
    several columns are between bounds (columns + 1,); own (R, N) is how often each text has each class.
    """
    N, step = weights.shape[1], np.float32(rate)
    p = np.empty(N, np.float32)
    for r in range(len(texts.begins)):
        found, number = _rows_of(texts, r, rows)
        factor = np.float32(1 / math.sqrt(number))
        p[:] = 0
        for row in found:
            _add(p, weights[row], N)
        _scale(p, factor, N)
        for column in range(len(bounds) - 1):
            some = slice(bounds[column], bounds[column + 1])
            _slopes(p[some], own[r, some], factor)
        for row in found:
            _adagrad(weights[row], squares[row], p, step)


@njit()
def _slopes(p: Any, own: Any, factor: Any) -> None:
    """The gradient of a gram's weights, in place of logits (N,), if classes were told so often (N,)."""
    N = len(p)
    _exponentials(p, largest(p, N), N)
    _scale(p, total(own, N) / total(p, N), N)
    for n in range(N):
        p[n] = (p[n] - own[n]) * factor


@njit()
def _adagrad(w: Any, squares: Any, gradient: Any, rate: Any) -> None:
    for n in range(len(gradient)):
        squares[n] += gradient[n] * gradient[n]
        w[n] -= rate * gradient[n] / np.sqrt(squares[n])


@njit()
def _add_weights(y: Any, counts: Any, totals: Any, shares: Any, seen: Any) -> None:
    """Adds the weights (N,) of a gram that texts of each class have so often; see Classes."""
    N, even = len(y), total_of_products(counts, shares, np.float32(0), len(y))
    for n in range(N):
        y[n] += log((counts[n] + seen) / (totals[n] * even + seen))


@njit()
def alone(logits: Any, sure: Any, told: Any, scales: Any, bias: Any, bounds: Any) -> None:
    """The logits (R, N) of grams alone, of the classes of several columns, between bounds (columns + 1,).

    sure (R,) becomes the probability of the likeliest class, of the column where that is the least.
    """
    for r in range(len(told)):
        sure[r] = 1.0
        for column in range(len(scales)):
            low, high = bounds[column], bounds[column + 1]
            largest = -np.inf
            for n in range(low, high):
                logits[r, n] = scales[column] * told[r, n] + bias[n]
                largest = max(largest, logits[r, n])
            total = 0.0
            for n in range(low, high):
                total += math.exp(logits[r, n] - largest)
            sure[r] = min(sure[r], 1.0 / total)
