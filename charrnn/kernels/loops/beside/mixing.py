"""The mixture of counts and a network, as charrnn.counts.gate has it: when it writes, reads, and is fitted.

`mixing` does what charrnn.inference.gated does in NumPy, bit for bit. All logarithms and exponentials are
sums and products, so that they are the same on every machine.

Axes: B texts, M characters, V vocabulary, n - 1 characters of the longest context, F inputs and U units of
the gate.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import carray, types

from charrnn.kernels.activations import _log2, exp
from charrnn.kernels.coefficients import (
    EXP_LEAST,
    GATE_CONTEXTS,
    GATE_INPUTS,
    GATE_LONG,
    GATE_RANGE,
    GATE_UNITS,
    LOG2E,
    LOG_LEAST,
    LOG_SERIES,
    NORM_LANES,
)
from charrnn.kernels.exact_layers import _lane_sum, _row, sigmoid, tanh
from charrnn.kernels.loops.beside.context_tree import (
    TOGETHER,
    Tree,
    _descend,
    _descend_behind,
    _look_behind,
    _sharpness,
    _spread,
    _weights,
)
from charrnn.kernels.machine.emitted import (
    BYTE,
    DOUBLE,
    FLOAT,
    HALF,
    NUMBER,
    WORD,
    emitted,
    load,
    spread,
    store,
)
from charrnn.kernels.machine.jit import njit
from charrnn.kernels.machine.native_calls import WORD as STEP
from charrnn.kernels.machine.native_calls import _doubles_at, _floats_at, word_at

F, U = GATE_INPUTS, GATE_UNITS
_BIAS, _OUTPUT, _SHIFT = F * U, F * U + U, F * U + 2 * U  # where these lie in the gate's weights
_LEAST, _LN2 = np.float32(EXP_LEAST), np.float32(1 / LOG2E)
_LOWEST, _SPAN = np.float32(GATE_RANGE[0]), np.float32(GATE_RANGE[1] - GATE_RANGE[0])
_WIDE_LN2, _SQRT_HALF = 1 / LOG2E, np.int64(LOG_LEAST)
SIZE, _INFINITE = 4, np.float32(1e4)  # the bytes of a float32


@emitted(types.int64(types.float64))
def _wide_bits(builder: Any, number: Any) -> Any:
    return builder.bitcast(number, NUMBER)


@emitted(types.float64(types.int64))
def _from_wide_bits(builder: Any, bits: Any) -> Any:
    return builder.bitcast(bits, DOUBLE)


@emitted(types.CPointer(types.uint8)(types.intp))
def _uint8(builder: Any, address: Any) -> Any:
    return builder.inttoptr(address, BYTE.as_pointer())


@emitted(types.CPointer(types.uint16)(types.intp))
def _uint16(builder: Any, address: Any) -> Any:
    return builder.inttoptr(address, HALF.as_pointer())


@emitted(types.CPointer(types.uint32)(types.intp))
def _uint32(builder: Any, address: Any) -> Any:
    return builder.inttoptr(address, WORD.as_pointer())


@njit()
def _log(x: Any) -> Any:
    """log(x) of a normal positive float64, to 5e-13."""
    bits = _wide_bits(x)
    exponent = (bits - _SQRT_HALF) >> np.int64(52)
    m = _from_wide_bits(bits - (exponent << np.int64(52)))
    f = (m - 1.0) / (m + 1.0)
    square = f * f
    a, b, c, d, e, g, h = LOG_SERIES
    series = (((((a * square + b) * square + c) * square + d) * square + e) * square + g) * square + h
    return np.float64(exponent) * _WIDE_LN2 + (f + f) * series


@njit()
def _take_in(features: Any, told: Any, top: Any, entropy: Any) -> None:
    """The gate's inputs (F,), from what the counts tell (n + 1,), and the network's -log p and entropy.

    Those of logits that are infinite count as 0.
    """
    top = top if abs(top) < _INFINITE else np.float32(0)
    entropy = entropy if abs(entropy) < _INFINITE else np.float32(0)
    contexts = len(told) - 2
    for k in range(GATE_CONTEXTS):
        features[k] = told[k] if k < contexts else np.float32(0)
    features[GATE_CONTEXTS] = told[contexts]
    features[GATE_CONTEXTS + 1] = told[contexts + 1]
    features[GATE_CONTEXTS + 2], features[GATE_CONTEXTS + 3] = top, entropy


@emitted(types.void(*[types.intp] * 3))
def _weigh(builder: Any, hidden: Any, gate: Any, features: Any) -> None:
    """hidden (U,) = features (F,) @ gate (F, U), at addresses: the sums stay in registers, in their order."""
    kind = ir.VectorType(FLOAT, U)
    sums = ir.Constant(kind, [-0.0] * U)
    for k in range(F):
        x = load(builder, builder.add(features, NUMBER(k * SIZE)), FLOAT)
        weights = load(builder, builder.add(gate, NUMBER(k * U * SIZE)), kind)
        sums = builder.fadd(sums, builder.fmul(weights, spread(builder, x, U)))
    store(builder, sums, hidden)


@njit()
def _opened(gate: Any, features: Any, hidden: Any) -> Any:
    """The weight of the counts, from the inputs (F,) and the gate's numbers; hidden (U,) is scratch space."""
    _weigh(hidden.ctypes.data, gate.ctypes.data, features.ctypes.data)
    for j in range(U):
        hidden[j] = tanh(hidden[j] + gate[_BIAS + j]) * gate[_OUTPUT + j]
    total = hidden[0]
    for j in range(1, U):
        total += hidden[j]
    span = gate[_SHIFT + 1] if features[GATE_LONG - 1] > 0 else _SPAN
    return sigmoid(total + gate[_SHIFT]) * span + _LOWEST


@njit()
def _exponentials(e: Any, products: Any, logits: Any) -> None:
    """e = exp(x), and e x, from x, the logits less the largest, all (V,).

    Infinite logits and NaN give other numbers, but none that is not finite.
    """
    top = np.float32(-np.inf)
    for i in range(len(logits)):
        top = logits[i] if logits[i] > top else top
    for i in range(len(logits)):
        x = logits[i] - top
        x = x if x > _LEAST else _LEAST  # also in place of NaN
        e[i] = exp(x)
        products[i] = e[i] * x


@njit()
def _total(x: Any, lanes: Any) -> float:
    """The sum of float32 in float64, in the order of numpy_network.lane_sum; lanes are zero."""
    whole = len(x) // NORM_LANES * NORM_LANES
    for j in range(0, whole, NORM_LANES):
        for lane in range(NORM_LANES):
            lanes[lane] += np.float64(x[j + lane])
    for lane in range(len(x) - whole):
        lanes[lane] += np.float64(x[whole + lane])
    return _lane_sum(lanes)


@njit()
def _mix(table: int, characters: int, rows: int, numbers_at: Any) -> None:
    V, n, never = word_at(table), word_at(table + STEP), word_at(table + 2 * STEP)
    places, nodes, codes = word_at(table + 3 * STEP), word_at(table + 4 * STEP), word_at(table + 5 * STEP)
    whole_rows, factor = word_at(table + 6 * STEP), word_at(table + 7 * STEP)
    own_rows, labels = word_at(table + 8 * STEP), word_at(table + 9 * STEP)
    arrays = table + 10 * STEP
    size = np.intp(1)
    tree = Tree(
        carray(_uint32(word_at(arrays)), (places,)),
        carray(_uint32(word_at(arrays + STEP)), (nodes, 8)),
        _doubles_at(word_at(arrays + STEP), 4 * nodes).reshape((nodes, 4)),
        carray(numbers_at(word_at(arrays + 2 * STEP)), (size,)),
        carray(_uint16(word_at(arrays + 3 * STEP)), (size,)),
        _doubles_at(word_at(arrays + 4 * STEP), own_rows * codes).reshape((own_rows, codes)),
        _doubles_at(word_at(arrays + 5 * STEP), whole_rows * V).reshape((whole_rows, V)),
        V,
        factor,
        n,
    )
    gate = _floats_at(word_at(arrays + 6 * STEP), _SHIFT + 2)
    known = carray(_uint32(word_at(arrays + 7 * STEP)), (labels,))
    entries = arrays + 8 * STEP
    # In one piece: to ask for each of them takes as long as what is done with it.
    most = min(rows, TOGETHER)
    space = np.empty(NORM_LANES + V + most * n + most + n + most * n + V + n + F + U)
    lanes, p, rest = space[:NORM_LANES], space[NORM_LANES : NORM_LANES + V], space[NORM_LANES + V :]
    whole_numbers, rest = rest.view(np.int64), rest[most * n + most + n :]
    behind = whole_numbers[most * n + most : most * n + most + n]
    paths, depths = whole_numbers[: most * n].reshape((most, n)), whole_numbers[most * n : most * n + most]
    contexts, rest = (
        rest.view(np.int32)[: most * (n - 1)].reshape((most, n - 1)),
        rest[most * n :].view(np.float32),
    )
    e, products, rest = rest[:V], rest[V : 2 * V], rest[2 * V :]
    told, features, hidden = rest[: n + 1], rest[n + 1 : n + 1 + F], rest[n + 1 + F : n + 1 + F + U]
    lanes[:] = 0.0
    for first in range(0, rows, TOGETHER):
        some = min(TOGETHER, rows - first)
        for b in range(some):
            state = _row(entries + 4 * STEP, first + b, n - 1)
            for i in range(n - 2):
                state[i] = state[i + 1]
            state[n - 2] = np.float32(word_at(characters + (first + b) * STEP) + 1)
            for i in range(n - 1):
                contexts[b, i] = np.int32(state[i]) - np.int32(1)
        _descend(tree, contexts, paths, depths[:some])
        for b in range(some):
            y, logits = _row(entries, first + b, V), _row(entries + 2 * STEP, first + b, V)
            path, depth = paths[b], depths[b]
            _spread(p, tree, path, depth)
            for label in known:
                _look_behind(p, tree, behind, _descend_behind(tree, np.int64(label), contexts[b], behind))
            _weights(tree, path, depth, told)
            told[n - 1], told[n] = _sharpness(p)
            _exponentials(e, products, logits)
            whole = _total(e, lanes)
            top = _log2(np.float32(whole)) * _LN2
            _take_in(features, told, top, top - np.float32(_total(products, lanes) / whole))
            weight = np.float64(_opened(gate, features, hidden))
            left = (1.0 - weight) / whole
            for i in range(V):
                y[i] = np.float32(_log(weight * p[i] + left * np.float64(e[i])))
            if never >= 0:
                y[never] = np.float32(-1e30)


# An instruction of the compiled loop: logits become log-probabilities, mixed with those of counts. The table
# has V, n, the character that is never written or -1, the sizes of arrays of charrnn.counts.compiled, their
# addresses, those of the gate's weights and the labels, and the addresses and widths of the result, the
# logits, and the context: of each text the last n - 1 characters, plus 1; 0 stands where nothing is known.


def mix_uint8(table: int, characters: int, rows: int) -> None:
    """Trees in which the ids that follow have 8 bits."""
    _mix(table, characters, rows, _uint8)


def mix_uint16(table: int, characters: int, rows: int) -> None:
    """The same for 16 bits."""
    _mix(table, characters, rows, _uint16)


def mix_uint32(table: int, characters: int, rows: int) -> None:
    """The same for 32 bits."""
    _mix(table, characters, rows, _uint32)


def mixing(ids: Any) -> Callable[..., None]:
    """The function for ids of this type."""
    return {1: mix_uint8, 2: mix_uint16, 4: mix_uint32}[np.dtype(ids).itemsize]


@njit()
def nats(out: Any, doubts: Any, chances: Any, told: Any, gate: Any) -> None:
    """out (M,): -log p of characters under the network become those under the mixture.

    doubts (M, 2) has the network's -log of the largest probability and its entropy, chances (M,) the
    probabilities of the characters under the counts, and told (M, n + 1) what these tell. NaN stays.
    """
    features, hidden = np.empty(F, np.float32), np.empty(U, np.float32)
    for i in range(len(out)):
        if out[i] == out[i]:
            _take_in(features, told[i], doubts[i, 0], doubts[i, 1])
            weight = np.float64(_opened(gate, features, hidden))
            p = weight * chances[i] + (1.0 - weight) * np.float64(exp(-out[i]))
            out[i] = np.float32(-_log(p))


@njit()
def inputs(features: Any, doubts: Any, told: Any) -> None:
    """The gate's inputs (M, F)."""
    for i in range(len(features)):
        _take_in(features[i], told[i], doubts[i, 0], doubts[i, 1])


@njit()
def gradient(
    d_gate: Any, gate: Any, features: Any, most: Any, chances: Any, network: Any, rows: Any
) -> float:
    """The mean of -log p over some rows, and its gradient d_gate (size,), all in float64.

    features (M, F); most (M,), the most that is left to the counts; chances and network (M,), the
    probabilities of the characters under either.
    """
    hidden, loss = np.empty(U), 0.0
    d_gate[:] = 0.0
    for i in rows:
        x = features[i]
        for j in range(U):
            hidden[j] = gate[_BIAS + j]
        for k in range(F):
            for j in range(U):
                hidden[j] += gate[k * U + j] * x[k]
        total = gate[_SHIFT]
        for j in range(U):
            hidden[j] = tanh(hidden[j])
            total += hidden[j] * gate[_OUTPUT + j]
        share = sigmoid(total)
        span = most[i] - GATE_RANGE[0]
        weight = GATE_RANGE[0] + span * share
        p = weight * chances[i] + (1.0 - weight) * network[i]
        loss -= _log(p)
        slope = span * share * (1.0 - share)
        d_total = -(chances[i] - network[i]) / p * slope / len(rows)
        d_gate[_SHIFT] += d_total
        for j in range(U):
            d_gate[_OUTPUT + j] += d_total * hidden[j]
            hidden[j] = d_total * gate[_OUTPUT + j] * (1.0 - hidden[j] * hidden[j])
            d_gate[_BIAS + j] += hidden[j]
        for k in range(F):
            for j in range(U):
                d_gate[k * U + j] += hidden[j] * x[k]
    return loss / len(rows)


@njit()
def predictions(logits: Any, chances: Any, told: Any, gate: Any) -> None:
    """logits (M, V) of the network become log-probabilities of the mixture: see `mixing`.

    chances (M, V) are those under the counts, and told (M, n + 1) what these tell.
    """
    V = logits.shape[1]
    e, products = np.empty(V, np.float32), np.empty(V, np.float32)
    features, hidden, lanes = np.empty(F, np.float32), np.empty(U, np.float32), np.zeros(NORM_LANES)
    for i in range(len(logits)):
        _exponentials(e, products, logits[i])
        whole = _total(e, lanes)
        top = _log2(np.float32(whole)) * _LN2
        _take_in(features, told[i], top, top - np.float32(_total(products, lanes) / whole))
        weight = np.float64(_opened(gate, features, hidden))
        left = (1.0 - weight) / whole
        for j in range(V):
            logits[i, j] = np.float32(_log(weight * chances[i, j] + left * np.float64(e[j])))
