"""A step of a memory when a network writes, in NumPy; kernels.loops.memory has the equations.

That does the same, also in the compiled loop, bit for bit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from charrnn.kernels.coefficients import (
    BEGUN,
    EXP_LEAST,
    FOCUS_LEAST,
    HEADS,
    LENGTH_EPSILON,
    LOG2_SERIES,
    LOG2E,
    SHIFTS,
)
from charrnn.recall.recalling import dots

Floats = npt.NDArray[np.float32]

_ZERO, _HALF, _ONE, _LEAST = map(np.float32, (0, 0.5, 1, EXP_LEAST))
_BEGUN, _FLOOR, _EPSILON, _LOG_2 = map(np.float32, (BEGUN, FOCUS_LEAST, LENGTH_EPSILON, 1 / LOG2E))
_SERIES = tuple(map(np.float32, LOG2_SERIES))


class Remembering:
    """An operation of a network that has a memory of N rows of M numbers, stored by columns.

    `of` has the functions exp and tanh, as a network has them when it writes.
    """

    def __init__(self, M: int, N: int, of: Any) -> None:
        self._M, self._N, self._of = M, N, of

    def __call__(self, told: Floats, state: Floats, new: Floats) -> Floats:
        """What is read (M,), after the heads are told; fills in the `new` state."""
        M, N = self._M, self._N
        first = M + HEADS * N
        last = first + M * N
        new[: last + 1] = state[: last + 1]
        if not new[last]:
            new[:last] = _ZERO
            new[[M, M + N]], new[first:last] = _ONE, _BEGUN
        memory, weights = new[first:last].reshape(M, N), new[M:first].reshape(HEADS, N)
        squares = np.add.reduce(memory * memory, axis=0, initial=_EPSILON)
        inverse = _ONE / np.sqrt(squares)
        for head in range(HEADS):
            weights[head] = self._looked(told[head * (M + 6) :][: M + 6], weights[head], memory, inverse)
        read = dots(memory, weights[0])
        erased, added = self._sigmoid(told[-2 * M : -M]), self._tanh(told[-M:])
        memory *= _ONE - weights[1] * erased[:, None]
        memory += weights[1] * added[:, None]
        new[:M], new[last] = read, _ONE
        return read

    def _looked(self, told: Floats, before: Floats, memory: Floats, inverse: Floats) -> Floats:
        """The weights of a head (N,)."""
        M, N = self._M, self._N
        key = told[:M]
        strength, sharpness = self._softplus(told[[M, M + 5]])
        (gate,) = self._sigmoid(told[M + 1 : M + 2])
        left, stay, right = self._softmax(told[M + 2 : M + 2 + SHIFTS])
        similar = np.add.reduce(memory * key[:, None], axis=0, initial=_ZERO)
        (square,) = dots(key[None], key)
        similar *= _ONE / np.sqrt(_EPSILON + square) * inverse
        now = gate * self._softmax(strength * similar) + (_ONE - gate) * before
        around = now[np.arange(-1, N + 1) % N]
        moved = left * around[:N] + stay * around[1 : N + 1] + right * around[2:]
        weights: Floats = self._softmax(
            self._log(np.where(moved > _FLOOR, moved, _FLOOR)) * (_ONE + sharpness)
        )
        return weights

    def _softmax(self, x: Floats) -> Floats:
        e: Floats = self._of.exp(np.maximum(x - np.fmax.reduce(x, initial=np.float32(-np.inf)), _LEAST))
        (total,) = dots(e[None], np.ones_like(e))
        e *= _ONE / total
        return e

    def _tanh(self, x: Floats) -> Floats:
        y: Floats = np.minimum(np.maximum(self._of.tanh(x), -_ONE), _ONE)
        return y

    def _sigmoid(self, x: Floats) -> Floats:
        return _HALF + _HALF * self._tanh(_HALF * x)

    def _softplus(self, x: Floats) -> Floats:
        small = self._of.exp(np.where(x < _ZERO, x, -x))
        return np.where(x > _ZERO, x, _ZERO) + self._log(_ONE + small)

    def _log(self, x: Floats) -> Floats:
        """log(x) of positive numbers, to 2e-6."""
        bits = x.view(np.int32)
        exponent = (bits >> np.int32(23)) - np.int32(127)
        t = ((bits & np.int32(0x7FFFFF)) | np.int32(0x3F800000)).view(np.float32) - _ONE
        series = np.full_like(t, _SERIES[-1])
        for coefficient in _SERIES[-2::-1]:
            series = coefficient + t * series
        return (exponent.astype(np.float32) + t * series) * _LOG_2
