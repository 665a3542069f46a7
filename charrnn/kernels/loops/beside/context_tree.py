"""Look-up in the tree of charrnn.counts.counts: what follows a text's last characters.

charrnn.counts.lookup does the same in NumPy, bit for bit.

Axes: B texts, V vocabulary, n - 1 characters of the longest context.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types

from charrnn.kernels.activations import _bits, _float32_from_bits, _log2
from charrnn.kernels.coefficients import LABEL_SHARE, LOG2E, WHOLE_ROWS
from charrnn.kernels.machine.emitted import NUMBER, emitted, load, prefetch, spread
from charrnn.kernels.machine.jit import njit

LANES = 16  # numbers that are compared at a time
TOGETHER = 16  # texts that are looked up side by side
_ONE, _LN2 = np.float32(1), np.float32(1 / LOG2E)
_UNIT, _FINE = np.float32(1 / 4096), np.float32(2**26)
PARENT, SYMBOL, BEGIN, END = range(4)
SCALE, SHARE = 2, 3


class Tree(NamedTuple):
    """The tree, arranged for look-up: nodes are found by a hash of their contexts. `prepare` fills it in."""

    places: Any  # (2^bits,) uint32: nodes, each at its hash or, where that is taken, behind it; 0: none
    # (nodes, 8) uint32, of which four: the parent, the symbol, and where what follows begins and ends.
    links: Any
    # (nodes, 4) float64, in the same memory: after the links 1 / total, and the share of the shorter context.
    rates: Any
    following: Any  # (S + LANES,)
    codes: Any  # (S,) uint16
    own: Any  # (n, codes) float64: by the context's length, the counts less their discounts; 2 n with labels
    rows: Any  # (R, V) float64: the probabilities after the contexts of the first R nodes, see `_continue`
    vocab_size: int
    factor: int  # of the hash, odd and random: no file is slow to look up because someone wanted it so
    order: int  # n


@njit()
def prepare(tree: Any, symbols: Any, child: Any, begin: Any, masses: Any) -> None:
    """Fill in places (of 0), links, rates and rows.

    From symbols (nodes,), child (nodes + 1,), begin (nodes + 1,) and masses (nodes,).
    """
    hashes = np.zeros(len(symbols), np.int64)
    for parent in range(len(symbols)):
        for node in range(child[parent], child[parent + 1]):
            hashes[node] = _hash(tree, hashes[parent], np.int64(symbols[node]))
            place = _place(tree, hashes[node])
            while tree.places[place] != 0:
                place = _behind(tree, place)
            tree.places[place] = node
            tree.links[node, PARENT], tree.links[node, SYMBOL] = parent, symbols[node]
    k, last = 0, 1  # the length of contexts, and the first node of the next one
    behind = 1  # the first node of this length that stands behind a label
    for node in range(len(symbols)):
        if node == last:
            k, last = k + 1, child[node]
            if k > 1:
                behind = child[behind]
            while k == 1 and behind < last and symbols[behind] <= tree.vocab_size:
                behind += 1
        row = tree.order + k - 1 if node > 0 and node >= behind else k
        total = np.int64(masses[node])
        for i in range(begin[node], begin[node + 1]):
            total += np.int64(tree.own[row, tree.codes[i]])
        scale = 1.0 / np.float64(total)
        tree.rates[node, SCALE], tree.rates[node, SHARE] = scale, np.float64(masses[node]) * scale
        tree.links[node, BEGIN], tree.links[node, END] = begin[node], begin[node + 1]
        if node < len(tree.rows):
            for i in range(tree.vocab_size):
                above = tree.links[node, PARENT]
                tree.rows[node, i] = 1.0 / tree.vocab_size if node == 0 else tree.rows[above, i]
            _continue(tree.rows[node], tree, node, k)


@njit()
def _hash(tree: Any, hash_before: int, symbol: int) -> int:
    """The hash of a context with one more symbol, an older one, from that without it."""
    return (hash_before ^ (symbol + 1)) * tree.factor


@njit()
def _place(tree: Any, hashed: int) -> Any:
    """Where a node is looked for: the first bits of its hash."""
    return np.int64((np.uint64(hashed) >> np.uint64(32)) & np.uint64(len(tree.places) - 1))


@njit()
def _behind(tree: Any, place: int) -> int:
    return (place + 1) & (len(tree.places) - 1)


@emitted(lambda address, value: types.int64(types.intp, value))
def _matches(builder: Any, address: Any, value: Any) -> Any:
    """A bit for each of the LANES numbers at an address, from the lowest on: whether it is `value`."""
    numbers = load(builder, address, ir.VectorType(value.type, LANES), align=1)
    same = builder.icmp_unsigned("==", numbers, spread(builder, value, LANES))
    return builder.zext(builder.bitcast(same, ir.IntType(LANES)), NUMBER)


@emitted(types.int64(types.int64))
def _lowest_bit(builder: Any, number: Any) -> Any:
    return builder.cttz(number, ir.IntType(1)(0))


@emitted(types.void(types.intp))
def _fetch(builder: Any, address: Any) -> None:
    prefetch(builder, 1, address)


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
def _descend(tree: Any, contexts: Any, paths: Any, depths: Any) -> None:
    """The nodes paths (B, n) of the last 0, 1, .. characters of contexts (B, n - 1); depths (B,): how many.

    All places are known before the first node is: so the processor waits once for all that it reads, and not
    for each node in turn. What `_spread` will read is fetched, too.
    """
    n = paths.shape[1]
    for b in range(len(depths)):
        hashed = np.int64(0)
        for k in range(1, n):
            hashed = _hash(tree, hashed, np.int64(contexts[b, n - 1 - k]))
            paths[b, k] = _place(tree, hashed)
            _fetch(tree.places.ctypes.data + paths[b, k] * tree.places.itemsize)
    for b in range(len(depths)):
        for k in range(1, n):
            _fetch(tree.links.ctypes.data + np.int64(tree.places[paths[b, k]]) * tree.links.strides[0])
    for b in range(len(depths)):
        node, depth, paths[b, 0] = np.int64(0), 1, 0
        while depth < n and contexts[b, n - 1 - depth] >= 0:
            node = _child(tree, node, np.int64(contexts[b, n - 1 - depth]), paths[b, depth])
            if node == 0:
                break
            begin = np.int64(tree.links[node, BEGIN])
            _fetch(tree.following.ctypes.data + begin * tree.following.itemsize)
            _fetch(tree.codes.ctypes.data + begin * tree.codes.itemsize)
            paths[b, depth] = node
            depth += 1
        depths[b] = depth


@njit()
def _descend_behind(tree: Any, label: int, context: Any, path: Any) -> int:
    """The nodes path (n,) of a label and the last 0, 1, .. characters of a context (n - 1,); how many."""
    hashed, depth = _hash(tree, np.int64(0), np.int64(label)), 0
    node = _child(tree, np.int64(0), np.int64(label), _place(tree, hashed))
    while node != 0:
        path[depth] = node
        depth += 1
        if depth == tree.order or context[tree.order - 1 - depth] < 0:
            break
        symbol = np.int64(context[tree.order - 1 - depth])
        hashed = _hash(tree, hashed, symbol)
        node = _child(tree, node, symbol, _place(tree, hashed))
    return depth


@njit()
def _child(tree: Any, node: int, symbol: int, place: int) -> Any:
    """The child of a node, looked for from a place on; 0: there is none."""
    while True:
        child = np.int64(tree.places[place])
        if child == 0 or (tree.links[child, PARENT] == node and tree.links[child, SYMBOL] == symbol):
            return child
        place = _behind(tree, place)


@njit()
def _continue(p: Any, tree: Any, node: int, k: int) -> None:
    """p (V,), the probabilities after a context, become those after the node's, of k characters."""
    scale, share = tree.rates[node, SCALE], tree.rates[node, SHARE]
    for i in range(len(p)):
        p[i] *= share
    for i in range(np.int64(tree.links[node, BEGIN]), np.int64(tree.links[node, END])):
        p[tree.following[i]] += tree.own[k, tree.codes[i]] * scale


@njit()
def _spread(p: Any, tree: Any, path: Any, depth: int) -> None:
    """p (V,): the probability of each character after a context, given its nodes.

    Up to WHOLE_ROWS characters these are whole rows, each from the one before; then what longer contexts add.
    """
    whole = min(depth - 1, WHOLE_ROWS)
    left = _left(tree, path, depth)
    known = whole
    while path[known] >= len(tree.rows):
        known -= 1
    row = path[known]
    if known == whole:
        for i in range(len(p)):
            p[i] = tree.rows[row, i] * left
    else:
        for i in range(len(p)):
            p[i] = tree.rows[row, i]
        for k in range(known + 1, whole + 1):
            _continue(p, tree, path[k], k)
        for i in range(len(p)):
            p[i] *= left
    left = 1.0
    for k in range(depth - 1, whole, -1):
        scale = left * tree.rates[path[k], SCALE]
        for i in range(np.int64(tree.links[path[k], BEGIN]), np.int64(tree.links[path[k], END])):
            p[tree.following[i]] += tree.own[k, tree.codes[i]] * scale
        left *= tree.rates[path[k], SHARE]


@njit()
def _look_behind(p: Any, tree: Any, path: Any, depth: int) -> None:
    """p (V,) becomes what follows in texts with a label, given its nodes; see charrnn.counts.counts."""
    if depth == 0:
        return
    left = _left_behind(tree, path, depth)
    for i in range(len(p)):
        p[i] *= left
    left = LABEL_SHARE
    for k in range(depth - 1, -1, -1):
        scale = left * tree.rates[path[k], SCALE]
        for i in range(np.int64(tree.links[path[k], BEGIN]), np.int64(tree.links[path[k], END])):
            p[tree.following[i]] += tree.own[tree.order + k, tree.codes[i]] * scale
        left *= tree.rates[path[k], SHARE]


@njit()
def _left_behind(tree: Any, path: Any, depth: int) -> float:
    """The share that is left to what follows in all texts."""
    left = LABEL_SHARE
    for k in range(depth - 1, -1, -1):
        left *= tree.rates[path[k], SHARE]
    return (1.0 - LABEL_SHARE) + left


@njit()
def _chance_behind(p: float, tree: Any, path: Any, depth: int, character: int) -> float:
    """The probability of one character alone, the same as in `_look_behind`."""
    if depth == 0:
        return p
    p *= _left_behind(tree, path, depth)
    left = LABEL_SHARE
    for k in range(depth - 1, -1, -1):
        own = _own(tree, path[k], tree.order + k, character)
        p += own * (left * tree.rates[path[k], SCALE])
        left *= tree.rates[path[k], SHARE]
    return p


@njit()
def _left(tree: Any, path: Any, depth: int) -> float:
    """The share that is left to the whole row."""
    left = 1.0
    for k in range(depth - 1, WHOLE_ROWS, -1):
        left *= tree.rates[path[k], SHARE]
    return left


@njit()
def _chance(tree: Any, path: Any, depth: int, character: int) -> float:
    """The probability of one character alone, the same as in `_spread`."""
    known = min(depth - 1, WHOLE_ROWS)
    while path[known] >= len(tree.rows):
        known -= 1
    p = tree.rows[path[known], character]
    for k in range(known + 1, min(depth - 1, WHOLE_ROWS) + 1):
        p = p * tree.rates[path[k], SHARE] + _own(tree, path[k], k, character) * tree.rates[path[k], SCALE]
    p *= _left(tree, path, depth)
    left = 1.0
    for k in range(depth - 1, WHOLE_ROWS, -1):
        p += _own(tree, path[k], k, character) * (left * tree.rates[path[k], SCALE])
        left *= tree.rates[path[k], SHARE]
    return p


@njit()
def _own(tree: Any, node: int, k: int, character: int) -> float:
    """The count of a character after a node's context, less its discount; 0: it does not follow."""
    low, high = np.int64(tree.links[node, BEGIN]), np.int64(tree.links[node, END])
    place = _find(tree.following, low, high, tree.following.dtype.type(character))
    return tree.own[k, tree.codes[place]] if place >= 0 else 0.0


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
            out[k - 1] = _log2(_ONE + _UNIT / np.float32(tree.rates[path[k], SCALE])) * _LN2


@njit()
def predict(p: Any, features: Any, contexts: Any, labels: Any, tree: Any) -> None:
    """The probabilities p (B, V) of what follows contexts (B, n - 1), the last character last.

    labels (B, columns): symbols, or -1. features (B, n + 1): log counts of the contexts of 1 .. n - 1
    characters, the largest probability, and the entropy; (B, 0): none.
    """
    paths, depths = np.empty((TOGETHER, tree.order), np.int64), np.empty(TOGETHER, np.int64)
    path = np.empty(tree.order, np.int64)
    for first in range(0, len(p), TOGETHER):
        some = min(TOGETHER, len(p) - first)
        _descend(tree, contexts[first : first + some], paths, depths[:some])
        for b in range(some):
            row = first + b
            _spread(p[row], tree, paths[b], depths[b])
            for label in labels[row]:
                _look_behind(p[row], tree, path, _descend_behind(tree, label, contexts[row], path))
            if features.shape[1] > 0:
                _weights(tree, paths[b], depths[b], features[row])
                features[row, -2], features[row, -1] = _sharpness(p[row])


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
def score(chances: Any, features: Any, given: Any, asked: Any, tree: Any, known: Any) -> None:
    """The probabilities chances (M,) of characters, and the features (M, n + 1) of `predict`; (M, 0): none.

    given are contexts (P, n - 1) and labels (P, columns), of which asked, (places, ids) (M,) each, says which
    precede the characters. known (nodes, 2) holds what is known of the largest probability and the entropy
    after each node without labels, elsewhere NaN; threads may share it.
    """
    (contexts, labels), (places, ids) = given, asked
    p, wanted = np.empty(tree.vocab_size, np.float64), np.empty((TOGETHER, contexts.shape[1]), np.int32)
    paths, depths = np.empty((TOGETHER, tree.order), np.int64), np.empty(TOGETHER, np.int64)
    own_path = np.empty(tree.order, np.int64)
    for first in range(0, len(chances), TOGETHER):
        some = min(TOGETHER, len(chances) - first)
        for b in range(some):
            for j in range(contexts.shape[1]):
                wanted[b, j] = contexts[places[first + b], j]
        _descend(tree, wanted, paths, depths[:some])
        for b in range(some):
            i, path, depth = first + b, paths[b], depths[b]
            chances[i] = _chance(tree, path, depth, ids[i])
            behind = 0
            for label in labels[places[i]]:
                nodes = _descend_behind(tree, label, wanted[b], own_path)
                chances[i] = _chance_behind(chances[i], tree, own_path, nodes, ids[i])
                behind += nodes
            if features.shape[1] > 0 and behind > 0:
                _spread(p, tree, path, depth)
                for label in labels[places[i]]:
                    _look_behind(p, tree, own_path, _descend_behind(tree, label, wanted[b], own_path))
                _weights(tree, path, depth, features[i])
                features[i, -2], features[i, -1] = _sharpness(p)
            elif features.shape[1] > 0:
                node = path[depth - 1]
                if not (known[node, 0] >= 0 and known[node, 1] >= 0):
                    _spread(p, tree, path, depth)
                    known[node, 0], known[node, 1] = _sharpness(p)
                _weights(tree, path, depth, features[i])
                features[i, -2], features[i, -1] = known[node, 0], known[node, 1]
