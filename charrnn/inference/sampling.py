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

# Below, exp is 0: above, it is a normal number.
LEAST_EXPONENT = -708.0
_LOG2_E = 1 / math.log(2)
_LN_2 = math.log(2)
# 1.5 * 2^52 has no bits for fractions: to add it rounds to the nearest whole number, which then stands in
# the lowest bits. The 1023 more is what the exponent of a float64 is offset by.
_ROUND = 1.5 * 2.0**52 + 1023.0


def power_of_two(rounded: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """2^n from n + _ROUND, n from -1022 to 1023: n + 1023 moves to where a float64 has its exponent."""
    return (rounded.view(np.int64) << 52).view(np.float64)


def exp(x: Any) -> Any:
    """e^x for LEAST_EXPONENT <= x <= 709, of an array, or under Numba of a number; relative error 2e-13.

    The C library's exp differs from one to the next and takes one number at a time. This is made of
    additions, multiplications and a division, which have one result on every CPU, also as vectors.

    e^x = 2^n e^r with |r| <= ln(2)/2, and e^r by its Pade approximant [5/5], which is exact to 1e-15: the
    numerator is even + odd, and with -r, even - odd, the denominator.
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
    # charrnn.inference.writing_loop has the same for an array: a loop.
    x = np.array(p, np.float64)
    p[:] = np.where(x < LEAST_EXPONENT, 0.0, exp(np.maximum(x, LEAST_EXPONENT))).tolist()


def probabilities(p: Any, logits: Any, temperature: float) -> None:
    """p = softmax(logits / temperature), both (V,), temperature > 0.

    The greatest logit is subtracted before the division: nothing overflows at any temperature. Infinite
    logits are the limit of large ones: several +inf share everything evenly. NaN gets nothing. Where no
    logit is greater than -inf, all characters are equally probable.
    """
    most = greatest(logits)
    for i in range(len(p)):
        logit = float(logits[i])  # float64, whatever `logits` are
        if logit == most:
            p[i] = 0.0  # also where both are infinite and have no difference
        elif logit < most:
            p[i] = (logit - most) / temperature
        else:
            p[i] = -math.inf  # NaN
    exponentials(p)
    whole = total(p)
    for i in range(len(p)):
        p[i] = p[i] / whole if whole > 0.0 else 1.0 / len(p)  # 0: all are NaN


def choose(p: Any, u: float) -> int:
    """The id at which the running sum of p passes u, in [0, 1), times its sum. p need not sum to 1.

    Of p = [0.2, 0, 0.2] it is 0 for u < 0.5, else 2: an id of no probability is never chosen.
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
    return last  # by rounding, `wanted` may be the whole sum: then the last that is possible


class Chain(NamedTuple):
    """The filters that are on, in their order; compiled, functions are addresses of machine code."""

    temperature: float
    early: int  # the first so many change logits, the others p
    apply: Any  # (F,)
    follow: Any  # (F,) None or 0: the filter keeps nothing
    settings: Any  # (F, S) what the machine code of each reads


class Space(NamedTuple):
    """Scratch space for one character."""

    p: Any  # (V,) floats; afterwards, what was kept has its probability before the filters
    heap: Any  # (V,) ids
    keys: Any  # (V,) floats


class Past(NamedTuple):
    """What filters know of a text; see inference.filters."""

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
    """Of each filter that is on, what it keeps of a text at first."""
    return [_bound(line.begin, config)() if line.begin else 0.0 for line in filters.active(config)]


def _bound(function: Callable[..., Any], config: filters.Filters) -> Callable[..., Any]:
    """The function with its settings; it is given, by name, all that it may read besides."""
    names = filters.reads(function)
    settings = {line.name: type(line.default)(getattr(config, line.name)) for line in filters.table(config)}

    def call(**given: Any) -> Any:
        given.update(settings)
        return function(*[given[name] for name in names])

    return call


def apply(chain: Chain, first: int, last: int, x: Any, space: Any, past: Past) -> None:
    """The filters `first` to `last` change x (V,), logits or p."""
    # charrnn.inference.writing_loop has this and `follow` for machine code.
    for k in range(first, last):
        memory = past.memory[k] if len(past.memory) else 0.0
        given = {"recent": past.recent, "breakers": past.breakers, "memory": memory}
        chain.apply[k](logits=x, p=x, heap=space.heap, keys=space.keys, **given)


def follow(chain: Chain, memory: Any, probability: float) -> None:
    """Filters keep what they want to know of the character that was chosen."""
    for k, function in enumerate(chain.follow):
        if function:
            memory[k] = function(memory=memory[k], probability=probability)


def sample(logits: Any, chain: Chain, u: float, space: Any, past: Past) -> int:
    """The character that a uniform number u in [0, 1) chooses; temperature 0: the most probable."""
    if chain.temperature == 0.0:
        return argmax(logits)
    probabilities(space.p, logits, chain.temperature)
    apply(chain, chain.early, len(chain.apply), space.p, space, past)
    return choose(space.p, u)


def log_probabilities(out: Any, logits: Any, p: Any) -> None:
    """out = log softmax(logits), both (V,): what a text's log-probability is the sum of. None is above 0.

    Infinite and absent logits are taken as by `probabilities`; what is impossible gets -inf. p (V,) is
    scratch space.
    """
    most = greatest(logits)
    if not -math.inf < most < math.inf:
        probabilities(out, logits, 1.0)
        logarithms(out)
        return
    for i in range(len(out)):
        # Not the logarithm of a probability, which is inexact for a small one, and -inf for the smallest.
        out[i] = float(logits[i]) - most if logits[i] <= most else -math.inf
        p[i] = out[i]
    exponentials(p)
    scale = math.log(total(p))
    for i in range(len(out)):
        out[i] -= scale


def add_to_mixture(total: Any, p: Any, ids: Any, weight: float) -> None:
    """total (V,) += weight * p, the probabilities of a network to which character i is ids[i], or -1."""
    for i in range(len(total)):
        if ids[i] >= 0:
            total[i] += weight * p[ids[i]]


def logarithms(p: Any) -> None:
    """p (V,) becomes its logarithms, -inf for 0."""
    for i in range(len(p)):
        p[i] = math.log(p[i]) if p[i] > 0.0 else -math.inf
