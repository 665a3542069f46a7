"""Logits -> filtered probabilities -> one character, given a uniform number.

Plain loops over one row: the same source runs as Python on lists, which Python indexes faster than arrays,
and under Numba on arrays (inference.writing_loop). Both add in the same order and share one exp, so that
both choose the same character.

A filter sets what it drops to zero, and does not scale the rest up to a sum of 1; `choose` needs no such sum.
Where probabilities are equal, the lower id counts as the more probable. Each filter keeps at least one.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

# Below, exp is 0: above, it is a normal number.
LEAST_EXPONENT = -708.0
_LOG2_E = 1 / math.log(2)
_LN_2 = math.log(2)
# 1.5 * 2^52 has no bits for fractions: to add it rounds to the nearest whole number, which then stands in
# the lowest bits. The 1023 more is what the exponent of a float64 is offset by.
_ROUND = 1.5 * 2.0**52 + 1023.0


def argmax(logits: Any) -> int:
    """The id of the greatest logit, the lowest of several. NaN is never greatest, unless all are NaN."""
    best = 0
    for i in range(1, len(logits)):
        if logits[i] > logits[best] or (logits[best] != logits[best] and logits[i] == logits[i]):
            best = i
    return best


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
    greatest = -math.inf
    for i in range(len(p)):
        if logits[i] > greatest:
            greatest = float(logits[i])
    for i in range(len(p)):
        logit = float(logits[i])  # float64, whatever `logits` are
        if logit == greatest:
            p[i] = 0.0  # also where both are infinite and have no difference
        elif logit < greatest:
            p[i] = (logit - greatest) / temperature
        else:
            p[i] = -math.inf  # NaN
    exponentials(p)
    total = 0.0
    for i in range(len(p)):
        total += p[i]
    for i in range(len(p)):
        p[i] = p[i] / total if total > 0.0 else 1.0 / len(p)  # 0: all are NaN


def _precedes(p: Any, a: int, b: int) -> bool:
    return p[a] > p[b] or (p[a] == p[b] and a < b)


def _sift_down(heap: Any, p: Any, root: int, size: int) -> None:
    """Restore the heap, the most probable at the top, where only `root` may be out of place."""
    moved = heap[root]
    child = 2 * root + 1
    while child < size:
        if child + 1 < size and _precedes(p, heap[child + 1], heap[child]):
            child += 1
        if not _precedes(p, heap[child], moved):
            break
        heap[root] = heap[child]
        root = child
        child = 2 * root + 1
    heap[root] = moved


def _fill(heap: Any, p: Any) -> None:
    """heap = all ids as a heap: to sort them all would cost more than to take out the few that stay."""
    size = len(p)
    for i in range(size):
        heap[i] = i
    for root in range(size // 2 - 1, -1, -1):
        _sift_down(heap, p, root, size)


def keep_top_k(p: Any, k: int, heap: Any) -> None:
    """Keep the k >= 1 most probable (Fan et al. 2018). heap (V,) is scratch space for ids."""
    _fill(heap, p)
    size = len(p)
    for _ in range(min(k, len(p))):
        size -= 1
        heap[0] = heap[size]
        _sift_down(heap, p, 0, size)
    for i in range(size):
        p[heap[i]] = 0.0


def _keep_share(p: Any, keys: Any, wanted: float, heap: Any) -> None:
    """Keep the fewest of those with the greatest keys (V,) that together have `wanted` of p; at least one."""
    _fill(heap, keys)
    size = len(p)
    kept = 0.0
    while size > 0 and (kept < wanted or size == len(p)):
        kept += p[heap[0]]
        size -= 1
        heap[0] = heap[size]
        _sift_down(heap, keys, 0, size)
    for i in range(size):
        p[heap[i]] = 0.0


def keep_top_p(p: Any, share: float, heap: Any) -> None:
    """Keep the fewest of the most probable that together have at least `share`, above 0, of the sum of p.

    The nucleus of Holtzman et al. 2020. Of p = [0.1, 0.5, 0.0, 0.3] the sum is 0.9: at share 0.5, 0.45 is
    wanted and [0, 0.5, 0, 0] is kept; at 0.8, 0.72 is wanted, 0.5 is too little, and [0, 0.5, 0, 0.3] is
    kept. heap (V,) is scratch space for ids.
    """
    wanted = 0.0
    for i in range(len(p)):
        wanted += p[i]
    _keep_share(p, p, wanted * share, heap)


def keep_min_p(p: Any, ratio: float) -> None:
    """Keep what has at least `ratio`, from 0 to 1, of the greatest probability (Nguyen et al. 2024).

    Of [0.5, 0.3, 0.1] at ratio 0.4, what is below 0.4 * 0.5 = 0.2 goes: [0.5, 0.3, 0]. Of [0.9, 0.06, 0.04],
    where the network is sure, only 0.9 is kept.
    """
    greatest = 0.0
    for i in range(len(p)):
        if p[i] > greatest:
            greatest = p[i]
    for i in range(len(p)):
        if p[i] < ratio * greatest:
            p[i] = 0.0


def keep_typical(p: Any, share: float, heap: Any, keys: Any) -> None:
    """Keep the fewest of the most typical that together have at least `share`, above 0, of the sum of p.

    Typical is what surprises about as much as the next character does on average: the order is by
    |-log p - H|, H the entropy (locally typical sampling, Meister et al. 2023). Of [0.5, 0.3, 0.2], H is
    1.03 nats and the distances are 0.34, 0.17 and 0.58: at share 0.3 it is 0.3 alone that is kept, and the
    most probable goes. heap and keys (V,), ids and floats, are scratch space.
    """
    total = 0.0
    for i in range(len(p)):
        total += p[i]
    entropy = 0.0
    for i in range(len(p)):
        if p[i] > 0.0:
            keys[i] = math.log(p[i] / total)
            entropy -= p[i] / total * keys[i]
    for i in range(len(p)):
        keys[i] = -abs(-keys[i] - entropy) if p[i] > 0.0 else -math.inf
    _keep_share(p, keys, share * total, heap)


def keep_surprise(p: Any, bits: float) -> None:
    """Keep what surprises by at most so many bits, -log2 p, or else the most probable alone.

    How mirostat cuts off (version 2, Basu et al. 2021).
    """
    best = 0
    for i in range(len(p)):
        if p[i] > p[best]:
            best = i
    for i in range(len(p)):
        if i != best and p[i] > 0.0 and -math.log2(p[i]) > bits:
            p[i] = 0.0


def choose(p: Any, u: float) -> int:
    """The id at which the running sum of p passes u, in [0, 1), times its sum. p need not sum to 1.

    Of p = [0.2, 0, 0.2] it is 0 for u < 0.5, else 2: an id of no probability is never chosen.
    """
    total = 0.0
    for i in range(len(p)):
        total += p[i]
    wanted = u * total
    running = 0.0
    last = 0
    for i in range(len(p)):
        if p[i] > 0.0:
            running += p[i]
            last = i
            if wanted < running:
                break
    return last  # by rounding, `wanted` may be the whole sum: then the last that is possible


def sample(
    logits: Any, temperature: float, top_k: int, typical: float | None, top_p: float, min_p: float,
    most_bits: float | None, u: float, p: Any, heap: Any, keys: Any,
) -> int:  # fmt: skip
    """The character that a uniform number u in [0, 1) chooses; temperature 0: the most probable.

    The filters apply in the order temperature, top-k, typical, top-p, min-p, mirostat, whose limit is
    `most_bits`; top_k 0, typical 1, top_p 1, min_p 0 and most_bits inf are off. Where typical or most_bits
    are None, Numba does not even compile them. p, heap and keys, (V,) floats, ids and floats (for typical
    alone), are scratch space; in p, what was kept has its probability before the filters.
    """
    if temperature == 0.0:
        return argmax(logits)
    probabilities(p, logits, temperature)
    if 0 < top_k < len(p):
        keep_top_k(p, top_k, heap)
    if typical is not None and typical < 1.0:
        keep_typical(p, typical, heap, keys)
    if top_p < 1.0:
        keep_top_p(p, top_p, heap)
    if min_p > 0.0:
        keep_min_p(p, min_p)
    if most_bits is not None and most_bits < math.inf:
        keep_surprise(p, most_bits)
    return choose(p, u)


def log_probabilities(out: Any, logits: Any, p: Any) -> None:
    """out = log softmax(logits), both (V,): what a text's log-probability is the sum of. None is above 0.

    Infinite and absent logits are taken as by `probabilities`; what is impossible gets -inf. p (V,) is
    scratch space.
    """
    greatest = -math.inf
    for i in range(len(out)):
        if logits[i] > greatest:
            greatest = float(logits[i])
    if not -math.inf < greatest < math.inf:
        probabilities(out, logits, 1.0)
        logarithms(out)
        return
    for i in range(len(out)):
        # Not the logarithm of a probability, which is inexact for a small one, and -inf for the smallest.
        out[i] = float(logits[i]) - greatest if logits[i] <= greatest else -math.inf
        p[i] = out[i]
    exponentials(p)
    total = 0.0
    for i in range(len(p)):
        total += p[i]
    scale = math.log(total)
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
