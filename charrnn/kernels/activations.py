"""tanh, the logistic sigmoid, exp and similar functions of one number, in a form that LLVM vectorises.

`row_sums` alone is for equations of whole rows.

float32 uses short rational and polynomial approximations (`math.tanh` takes 30 times as long per element);
float64, for the gradient checks, uses the C library.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import types
from numba.extending import overload, register_jitable

from charrnn.kernels.coefficients import EXP_LEAST, EXP_SERIES, LN2, LOG2_SERIES, LOG2E, TANH_P, TANH_Q
from charrnn.kernels.machine.emitted import FLOAT, WORD, emitted
from charrnn.kernels.machine.jit import njit

_P, _Q = (tuple(map(np.float32, row)) for row in (TANH_P, TANH_Q))
_ZERO, _HALF, _ONE, _NINE = map(np.float32, (0.0, 0.5, 1.0, 9.0))


number = np.float32  # a constant of equations: compiled code makes float64 of what meets Python's own


@register_jitable
def row_sums(x: Any) -> Any:
    """The sum of each row of (n, m), from the first term to the last: (n,)."""
    sums = x[:, 0].copy()
    for a in range(x.shape[0]):
        for b in range(1, x.shape[1]):
            sums[a] += x[a, b]
    return sums


@register_jitable
def _within(x: Any, limit: Any) -> Any:
    # Written like the maximum and minimum instructions: a NaN passes both comparisons.
    x = -limit if -limit > x else x
    return limit if limit < x else x


@register_jitable
def _odd(x: Any, p: Any, q: Any) -> Any:
    """x P(x^2) / Q(x^2), both of degree 4, from the coefficients."""
    u = x * x
    numerator = x * ((((p[4] * u + p[3]) * u + p[2]) * u + p[1]) * u + p[0])
    denominator = (((q[4] * u + q[3]) * u + q[2]) * u + q[1]) * u + q[0]
    return numerator / denominator


@register_jitable
def _tanh_float32(x: Any) -> Any:
    return _within(_odd(_within(x, _NINE), _P, _Q), _ONE)


# 0.5 + 0.5 tanh(0.5 x) with the factors folded into the coefficients: powers of two round nothing.
_HALF_P = tuple(np.float32(p / 4 ** (n + 1)) for n, p in enumerate(_P))
_HALF_Q = tuple(np.float32(q / 4**n) for n, q in enumerate(_Q))
_EIGHTEEN = np.float32(18.0)


@register_jitable
def _sigmoid_float32(x: Any) -> Any:
    return _HALF + _within(_odd(_within(x, _EIGHTEEN), _HALF_P, _HALF_Q), _HALF)


def tanh(x: Any) -> Any:
    """Hyperbolic tangent; NaN stays NaN."""
    return _tanh_float32(x) if isinstance(x, np.float32) else math.tanh(x)


@overload(tanh)
def _tanh(x):  # type: ignore[no-untyped-def]  # Numba compares the signatures
    if x == types.float32:
        return lambda x: _tanh_float32(x)
    return lambda x: math.tanh(x)


def sigmoid(x: Any) -> Any:
    """1 / (1 + exp(-x)), computed with tanh, which cannot overflow."""
    return type(x)(0.5) + type(x)(0.5) * tanh(type(x)(0.5) * x)


@overload(sigmoid)
def _sigmoid(x):  # type: ignore[no-untyped-def]
    if x == types.float32:
        return lambda x: _sigmoid_float32(x)
    return lambda x: 0.5 + 0.5 * math.tanh(0.5 * x)


# The constants are float32, so that float32 stays float32.
@register_jitable
def relu(x: Any) -> Any:
    """max(0, x); NaN stays NaN."""
    return _ZERO if x < _ZERO else x


@register_jitable
def blend(a: Any, b: Any, z: Any) -> Any:
    """(1 - z) a + z b."""
    return a + z * (b - a)


@register_jitable
def complement(z: Any) -> Any:
    """1 - z."""
    return _ONE - z


@register_jitable
def through_sigmoid(d: Any, y: Any) -> Any:
    """The gradient of x, from the gradient d of y = sigmoid(x)."""
    return d * y * complement(y)


@register_jitable
def through_tanh(d: Any, y: Any) -> Any:
    """The same for y = tanh(x)."""
    return d * complement(y * y)


@register_jitable
def through_relu(d: Any, y: Any) -> Any:
    """The same for y = relu(x)."""
    return d if y > _ZERO else _ZERO


@emitted(types.float32(types.int32))
def _float32_from_bits(builder: Any, bits: Any) -> Any:
    return builder.bitcast(bits, FLOAT)


@emitted(types.int32(types.float32))
def _bits(builder: Any, number: Any) -> Any:
    return builder.bitcast(number, WORD)


_LEAST, _LOG2E, _LN2_HIGH, _LN2_LOW = map(np.float32, (EXP_LEAST, LOG2E, *LN2))
_E6, _E5, _E4, _E3, _E2, *_ = map(np.float32, EXP_SERIES)


@register_jitable
def _exp_float32(x: Any) -> Any:
    x = _LEAST if x < _LEAST else x
    n = np.floor(x * _LOG2E + _HALF)
    r = (x - n * _LN2_HIGH) - n * _LN2_LOW
    y = (((((_E6 * r + _E5) * r + _E4) * r + _E3) * r + _E2) * r + _ONE) * r + _ONE
    return y * _float32_from_bits(np.int32((np.int32(n) + np.int32(127)) << np.int32(23)))


def exp(x: Any) -> Any:
    """exp(x) for x <= 0, as softmax needs it; exp(-87) below -87."""
    return np.float32(math.exp(max(float(x), -87.0))) if isinstance(x, np.float32) else math.exp(x)


@overload(exp)
def _exp(x):  # type: ignore[no-untyped-def]
    if x == types.float32:
        return lambda x: _exp_float32(x)
    return lambda x: math.exp(x)


_LOG2_SERIES, _LOG_2 = tuple(map(np.float32, LOG2_SERIES)), np.float32(1 / LOG2E)


@njit()
def _log2(x: Any) -> Any:
    """log2(x) of a positive float32, to 2e-6: its exponent, and a polynomial of the rest."""
    bits = _bits(x)
    exponent = np.int32(bits >> np.int32(23)) - np.int32(127)
    t = _float32_from_bits(np.int32((bits & np.int32(0x7FFFFF)) | np.int32(0x3F800000))) - _ONE
    a, b, c, d, e, f = _LOG2_SERIES
    return np.float32(exponent) + t * (a + t * (b + t * (c + t * (d + t * (e + t * f)))))


def log(x: Any) -> Any:
    """log(x) of positive numbers; of float32, to 2e-6."""
    return np.float32(math.log(x)) if isinstance(x, np.float32) else math.log(x)


@overload(log)
def _log(x):  # type: ignore[no-untyped-def]
    if x == types.float32:
        return lambda x: _log2(x) * _LOG_2
    return lambda x: math.log(x)
