"""Look-up in the tree of charrnn.counts.counts: what follows a text's last characters.

charrnn.counts.lookup does the same in NumPy, bit for bit.

Axes: B texts, V vocabulary, n - 1 characters of the longest context.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types

from charrnn.kernels.activations import _float32_from_bits
from charrnn.kernels.coefficients import LOG2_SERIES, LOG2E
from charrnn.kernels.machine.emitted import NUMBER, WORD, emitted, load, spread
from charrnn.kernels.machine.jit import njit

LANES = 16  # numbers that are compared at a time
_SERIES = tuple(map(np.float32, LOG2_SERIES))
_ONE, _LN2 = np.float32(1), np.float32(1 / LOG2E)
_UNIT, _FINE = np.float32(1 / 4096), np.float32(2**26)


class Tree(NamedTuple):
    """The tree, arranged for look-up; `prepare` fills in links and rates."""

    symbols: Any  # (nodes + LANES,)
    links: Any  # (nodes + 1, 2) uint32: each node's first child, and where what follows it begins
    rates: Any  # (nodes, 2) float64: 1 / total, and the share that is left to the shorter context
    following: Any  # (S + LANES,), of the type of symbols
    codes: Any  # (S,) uint16
    own: Any  # (n, codes) float64: by the context's length, the counts less their discounts
    vocab_size: int


@njit()
def prepare(tree: Any, child: Any, begin: Any, masses: Any) -> None:
    """Fill in links and rates, from child (nodes + 1,), begin (nodes + 1,) and masses (nodes,)."""
    k, last = 0, 1  # the length of contexts, and the first node of the next one
    for node in range(len(masses)):
        if node == last:
            k, last = k + 1, child[node]
        total = np.int64(masses[node])
        for i in range(begin[node], begin[node + 1]):
            total += np.int64(tree.own[k, tree.codes[i]])
        scale = 1.0 / np.float64(total)
        tree.rates[node, 0], tree.rates[node, 1] = scale, np.float64(masses[node]) * scale
    for node in range(len(masses) + 1):
        tree.links[node, 0], tree.links[node, 1] = child[node], begin[node]


@emitted(types.int32(types.float32))
def _bits(builder: Any, number: Any) -> Any:
    return builder.bitcast(number, WORD)


@emitted(lambda address, value: types.int64(types.intp, value))
def _matches(builder: Any, address: Any, value: Any) -> Any:
    """A bit for each of the LANES numbers at an address, from the lowest on: whether it is `value`."""
    numbers = load(builder, address, ir.VectorType(value.type, LANES), align=1)
    same = builder.icmp_unsigned("==", numbers, spread(builder, value, LANES))
    return builder.zext(builder.bitcast(same, ir.IntType(LANES)), NUMBER)


@emitted(types.int64(types.int64))
def _lowest_bit(builder: Any, number: Any) -> Any:
    return builder.cttz(number, ir.IntType(1)(0))


@njit()
def _log2(x: Any) -> Any:
    """log2(x) of a positive float32, to 2e-6: its exponent, and a polynomial of the rest."""
    bits = _bits(x)
    exponent = np.int32(bits >> np.int32(23)) - np.int32(127)
    t = _float32_from_bits(np.int32((bits & np.int32(0x7FFFFF)) | np.int32(0x3F800000))) - _ONE
    a, b, c, d, e, f = _SERIES
    return np.float32(exponent) + t * (a + t * (b + t * (c + t * (d + t * (e + t * f)))))


@njit()
def _find(values: Any, low: int, high: int, value: Any) -> int:
    """The place of a value, of their type, among ascending ones from low to high; -1: it isn't there.

    It takes a third of the time of a binary search, of which the processor guesses half the branches wrong.
    """
    left = high - low
    while left > LANES:
        half = left >> 1
        low += half * (values[low + half - 1] < value)
        left -= half
    found = _matches(values.ctypes.data + low * values.itemsize, value) & ((1 << left) - 1)
    return low + _lowest_bit(found) if found else -1


@njit()
def _descend(tree: Any, context: Any, first: int, last: int, path: Any) -> int:
    """The nodes (n,) of the last 0, 1, .. of context[first : last + 1]; returns how many there are."""
    node, depth = 0, 1
    path[0] = 0
    while depth < len(path) and last - depth + 1 >= first:
        symbol = context[last - depth + 1]
        if symbol < 0:
            break
        low, high = np.int64(tree.links[node, 0]), np.int64(tree.links[node + 1, 0])
        node = _find(tree.symbols, low, high, tree.symbols.dtype.type(symbol))
        if node < 0:
            break
        path[depth] = node
        depth += 1
    return depth


@njit()
def _spread(p: Any, tree: Any, path: Any, depth: int) -> None:
    """p (V,): the probability of each character after a context, given its nodes."""
    for i in range(len(p)):
        p[i] = 0.0
    left = 1.0  # the share of this context and of shorter ones
    for k in range(depth - 1, -1, -1):
        scale = left * tree.rates[path[k], 0]
        for i in range(np.int64(tree.links[path[k], 1]), np.int64(tree.links[path[k] + 1, 1])):
            p[tree.following[i]] += tree.own[k, tree.codes[i]] * scale
        left *= tree.rates[path[k], 1]
    left /= tree.vocab_size
    for i in range(len(p)):
        p[i] += left


@njit()
def _chance(tree: Any, path: Any, depth: int, character: int) -> float:
    """The probability of one character alone, the same as in `_spread`."""
    p, left = 0.0, 1.0
    for k in range(depth - 1, -1, -1):
        node = path[k]
        low, high = np.int64(tree.links[node, 1]), np.int64(tree.links[node + 1, 1])
        place = _find(tree.following, low, high, tree.following.dtype.type(character))
        if place >= 0:
            p += tree.own[k, tree.codes[place]] * (left * tree.rates[node, 0])
        left *= tree.rates[node, 1]
    return p + left / tree.vocab_size


@njit()
def _sharpness(p: Any) -> Any:
    """The largest of the probabilities p (V,), and their entropy in nats."""
    most, total = np.int32(0), np.int64(0)
    for i in range(len(p)):
        x = np.float32(p[i])
        most = max(most, _bits(x))  # positive numbers are in the order of their bits
        total += np.int32(x * _log2(x) * _FINE)
    return _float32_from_bits(most), np.float32(-total) / _FINE * _LN2


@njit()
def _weights(tree: Any, path: Any, depth: int, out: Any) -> None:
    """out (n - 1, ..): for contexts of 1, 2, .. characters log(1 + total); 0 where there is none."""
    for k in range(1, len(path)):
        out[k - 1] = np.float32(0)
        if k < depth:
            out[k - 1] = _log2(_ONE + _UNIT / np.float32(tree.rates[path[k], 0])) * _LN2


@njit()
def predict(p: Any, features: Any, contexts: Any, tree: Any) -> None:
    """The probabilities p (B, V) of what follows contexts (B, n - 1), the last character last.

    features (B, n + 1): log counts of the contexts of 1 .. n - 1 characters, the largest probability, and
    the entropy; (B, 0): none.
    """
    path = np.empty(len(tree.own), np.int64)
    for b in range(len(p)):
        depth = _descend(tree, contexts[b], 0, contexts.shape[1] - 1, path)
        _spread(p[b], tree, path, depth)
        if features.shape[1] > 0:
            _weights(tree, path, depth, features[b])
            features[b, -2], features[b, -1] = _sharpness(p[b])


@njit()
def follow(contexts: Any, x: Any, restart_rows: Any, restarts: Any, context: Any) -> None:
    """contexts (T, B, n - 1): those after each character of x (T, B), from `context` (B, n - 1) on.

    Where restart_rows (T, B) is not -1, the context before is that row of `restarts`.
    """
    for t in range(len(x)):
        for b in range(x.shape[1]):
            before = context[b] if t == 0 else contexts[t - 1, b]
            if restart_rows[t, b] >= 0:
                before = restarts[restart_rows[t, b]]
            for i in range(len(before) - 1):
                contexts[t, b, i] = before[i + 1]
            contexts[t, b, len(before) - 1] = x[t, b]


@njit()
def score(chances: Any, features: Any, contexts: Any, asked: Any, tree: Any, known: Any) -> None:
    """The probabilities chances (M,) of characters after contexts (.., n - 1), and the features (M, ..).

    asked is (places, ids), (M,) each. The features are those of `predict`. known (nodes, 2) holds what is
    known of each node's largest probability and entropy, elsewhere NaN; threads may share it.
    """
    places, ids = asked
    path, p = np.empty(len(tree.own), np.int64), np.empty(tree.vocab_size, np.float64)
    for i in range(len(chances)):
        context = contexts[places[i]]
        depth = _descend(tree, context, 0, len(context) - 1, path)
        chances[i] = _chance(tree, path, depth, ids[i])
        if features.shape[1] > 0:
            node = path[depth - 1]
            if not (known[node, 0] >= 0 and known[node, 1] >= 0):
                _spread(p, tree, path, depth)
                known[node, 0], known[node, 1] = _sharpness(p)
            _weights(tree, path, depth, features[i])
            features[i, -2], features[i, -1] = known[node, 0], known[node, 1]
