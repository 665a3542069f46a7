"""Logits -> filtered probabilities -> one character, given a uniform number.

Plain loops over one row: the same source runs as Python on lists, which Python indexes faster than arrays,
and under Numba on arrays (inference.writing_loop). Both add in the same order and share one exp, so that
both choose the same character.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from charrnn.inference import filters
from charrnn.inference.filters import argmax, greatest, total

# Below this exponent, exp is taken as 0; above, its result is a normal number.
LEAST_EXPONENT = -708.0
_LOG2_E = 1 / math.log(2)
_LN_2 = math.log(2)
# 1.5 * 2^52 has no bits for fractions: adding it rounds to the nearest integer, which is then in the lowest
# bits. 1023 is the exponent bias of a float64.
_ROUND = 1.5 * 2.0**52 + 1023.0


def power_of_two(rounded: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """2^n from n + _ROUND, n from -1022 to 1023: n + 1023 is shifted into the exponent of a float64."""
    return (rounded.view(np.int64) << 52).view(np.float64)


def exp(x: Any) -> Any:
    """e^x for LEAST_EXPONENT <= x <= 709, of an array, or under Numba of a number; relative error 2e-13.

    The exp of C libraries differs between them and takes one number at a time. This one consists of
    additions, multiplications and a division, which give one result on every CPU, also as vectors.

    e^x = 2^n e^r with |r| <= ln(2)/2, and e^r by its Pade approximant [5/5], which is exact to 1e-15: its
    numerator is even + odd, its denominator even - odd.
    """
    exponent = x * _LOG2_E
    rounded = exponent + _ROUND
    r = (exponent - (rounded - _ROUND)) * _LN_2
    square = r * r
    even = (square * 30.0 + 3360.0) * square + 30240.0
    odd = ((square + 420.0) * square + 15120.0) * r
    return (even + odd) / (even - odd) * power_of_two(rounded)


def exponentials(p: Any) -> None:
    """p = exp(p), (V,), in place; p <= 0."""
    # For arrays, charrnn.inference.writing_loop has the same as a loop.
    x = np.array(p, np.float64)
    p[:] = np.where(x < LEAST_EXPONENT, 0.0, exp(np.maximum(x, LEAST_EXPONENT))).tolist()


def probabilities(p: Any, logits: Any, temperature: float) -> None:
    """p = softmax(logits / temperature), both (V,), temperature > 0.

    The greatest logit is subtracted before the division, so that nothing overflows at any temperature.
    Infinite logits are the limit of large ones: several of +inf have equal probabilities, and all others 0.
    NaN has probability 0. If no logit is greater than -inf, all characters are equally probable.
    """
    most = greatest(logits)
    for i in range(len(p)):
        logit = float(logits[i])  # float64, even if the logits are float32
        if logit == most:
            p[i] = 0.0  # also where both are infinite, whose difference is NaN
        elif logit < most:
            p[i] = (logit - most) / temperature
        else:
            p[i] = -math.inf  # NaN
    exponentials(p)
    whole = total(p)
    for i in range(len(p)):
        p[i] = p[i] / whole if whole > 0.0 else 1.0 / len(p)  # 0: all are NaN


def choose(p: Any, u: float) -> int:
    """The id at which the running sum of p exceeds u times the whole sum, u in [0, 1). p need not sum to 1.

    For p = [0.2, 0, 0.2] this is 0 if u < 0.5, else 2: an id of probability 0 is never chosen.
    """
    wanted = u * total(p)
    running = 0.0
    last = 0
    for i in range(len(p)):
        if p[i] > 0.0:
            running += p[i]
            last = i
            if wanted < running:
                break
    return last  # rounding may make `wanted` the whole sum: then the last possible id is chosen


class Chain(NamedTuple):
    """The active filters, in order; in the compiled loop, functions are addresses of machine code."""

    temperature: float
    early: int  # the number of filters that change logits; the others change p
    apply: Any  # (F,)
    follow: Any  # (F,) None or 0: the filter has no memory
    settings: Any  # (F, S) that the machine code of each reads


class Space(NamedTuple):
    """Scratch space for one character."""

    p: Any  # (V,) floats; afterwards the unfiltered probability of each character that was kept, else 0
    heap: Any  # (V,) ids
    keys: Any  # (V,) floats


class Past(NamedTuple):
    """The part of a text that filters read; see inference.filters."""

    recent: Any  # (W,)
    breakers: Any  # (V,)
    memory: Any  # (F,)


NOTHING = Past([], [], [])


def chain(config: filters.Filters) -> Chain:
    """The filters as plain functions."""
    on = filters.active(config)
    return Chain(
        temperature=float(config.temperature),
        early=sum(line.is_early for line in on),
        apply=[_bound(line.apply, config) for line in on if line.apply],
        follow=[line.follow and _bound(line.follow, config) for line in on],
        settings=None,
    )


def first_memory(config: filters.Filters) -> list[float]:
    """The memory of each active filter at a text's start."""
    return [_bound(line.begin, config)() if line.begin else 0.0 for line in filters.active(config)]


def _bound(function: Callable[..., Any], config: filters.Filters) -> Callable[..., Any]:
    """The function with its settings bound; callers pass, by name, everything else that it may read."""
    names = filters.reads(function)
    settings = {line.name: type(line.default)(getattr(config, line.name)) for line in filters.table(config)}

    def call(**given: Any) -> Any:
        given.update(settings)
        return function(*[given[name] for name in names])

    return call


def apply(chain: Chain, first: int, last: int, x: Any, space: Any, past: Past) -> None:
    """Apply the filters `first` .. `last` - 1 to x (V,), logits or p."""
    # charrnn.inference.writing_loop overloads this and `follow` with calls of machine code.
    for k in range(first, last):
        memory = past.memory[k] if len(past.memory) else 0.0
        given = {"recent": past.recent, "breakers": past.breakers, "memory": memory}
        chain.apply[k](logits=x, p=x, heap=space.heap, keys=space.keys, **given)


def follow(chain: Chain, memory: Any, probability: float) -> None:
    """Update the filters' memory with the probability of the character that was chosen."""
    for k, function in enumerate(chain.follow):
        if function:
            memory[k] = function(memory=memory[k], probability=probability)


def sample(logits: Any, chain: Chain, u: float, space: Any, past: Past) -> int:
    """The character chosen by a uniform number u in [0, 1); at temperature 0 the most probable one."""
    if chain.temperature == 0.0:
        return argmax(logits)
    probabilities(space.p, logits, chain.temperature)
    apply(chain, chain.early, len(chain.apply), space.p, space, past)
    return choose(space.p, u)


def log_probabilities(out: Any, logits: Any, p: Any) -> None:
    """out = log softmax(logits), both (V,), none above 0; a text's log-probability is a sum of these.

    Infinite logits and NaN are treated as in `probabilities`; impossible characters get -inf. p (V,) is
    scratch space.
    """
    most = greatest(logits)
    if not -math.inf < most < math.inf:
        probabilities(out, logits, 1.0)
        logarithms(out)
        return
    for i in range(len(out)):
        # Not the logarithm of a probability, which is inexact for small ones and -inf for the smallest.
        out[i] = float(logits[i]) - most if logits[i] <= most else -math.inf
        p[i] = out[i]
    exponentials(p)
    scale = math.log(total(p))
    for i in range(len(out)):
        out[i] -= scale


def add_to_mixture(total: Any, p: Any, ids: Any, weight: float) -> None:
    """total (V,) += weight * p, the probabilities under a network with id ids[i], or -1, for character i."""
    for i in range(len(total)):
        if ids[i] >= 0:
            total[i] += weight * p[ids[i]]


def lead_away(total: Any, other: Any, strength: float) -> None:
    """total = other + strength (total - other), both log p (V,); where either is -inf, total stays."""
    for i in range(len(total)):
        if total[i] > -math.inf and other[i] > -math.inf:
            total[i] = other[i] + strength * (total[i] - other[i])


def logarithms(p: Any) -> None:
    """p (V,) becomes its logarithms, -inf for 0."""
    for i in range(len(p)):
        p[i] = math.log(p[i]) if p[i] > 0.0 else -math.inf
