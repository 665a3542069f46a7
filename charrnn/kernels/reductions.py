"""Reductions of a row: sums, in the same order on every CPU, and the maximum.

A sum consists of 32 partial sums, one per lane, which are then added by halves.

If LLVM vectorised the loop, the number of partial sums, and so the last bit of a loss and of a trained model,
would depend on the CPU; explicit vector code fixes the order. No multiply-add is fused, since not every CPU
has the instruction. The maximum does not depend on the order, but LLVM does not vectorise it because of NaN.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from charrnn.kernels.machine.emitted import WORD, emitted, load, order, spread
from charrnn.kernels.machine.jit import njit

LANES = 32


def _emit_reduction(
    builder: Any, n: Any, term: Callable[[Any, Any], Any], combine: Callable[[Any, Any], Any], nothing: Any
) -> Any:
    """The reduction of term(k, type) over k < n by `combine`, whose neutral element is `nothing`.

    For a vector type, term(k, type) is the vector of the terms k .. k + LANES - 1.
    """
    single = nothing.type
    vector = ir.VectorType(single, LANES)
    whole = builder.and_(n, n.type(-LANES))
    lanes = cgutils.alloca_once_value(builder, ir.Constant(vector, [nothing.constant] * LANES))
    rest = cgutils.alloca_once_value(builder, nothing)
    steps = ((lanes, vector, n.type(0), whole, LANES), (rest, single, whole, n, 1))
    for into, kind, start, stop, step in steps:
        with cgutils.for_range_slice(builder, start, stop, n.type(step), n.type) as (k, _):
            builder.store(combine(builder.load(into), term(k, kind)), into)
    found, width = builder.load(lanes), LANES
    while width > 1:
        width //= 2
        low, high = (
            builder.shuffle_vector(found, found, order(list(range(first, first + width))))
            for first in (0, width)
        )
        found = combine(low, high)
    return combine(builder.extract_element(found, WORD(0)), builder.load(rest))


def _reader(builder: Any, address: Any, single: Any) -> Callable[[Any, Any], Any]:
    """A function that loads element k of an array, or LANES elements from k on."""
    start = builder.inttoptr(address, single.as_pointer())
    return lambda k, kind: load(builder, builder.gep(start, [k], source_etype=single), kind)


@emitted(lambda zero, a, n: zero(zero, types.intp, types.intp))
def _sum(builder: Any, zero: Any, a: Any, n: Any) -> Any:
    """a[0] + .. + a[n - 1], from the address of a; `zero` is a number of its type."""
    return _emit_reduction(builder, n, _reader(builder, a, zero.type), builder.fadd, zero.type(0.0))


@emitted(lambda centre, a, b, n: centre(centre, types.intp, types.intp, types.intp))
def _sum_of_products(builder: Any, centre: Any, a: Any, b: Any, n: Any) -> Any:
    """The sum of a[k] (b[k] - centre) for k < n, from the addresses of a and b."""
    from_a, from_b = (_reader(builder, address, centre.type) for address in (a, b))
    centres = spread(builder, centre, LANES)

    def term(k: Any, kind: Any) -> Any:
        apart = builder.fsub(from_b(k, kind), centre if kind == centre.type else centres)
        return builder.fmul(from_a(k, kind), apart)

    return _emit_reduction(builder, n, term, builder.fadd, centre.type(0.0))


@emitted(lambda zero, a, n: zero(zero, types.intp, types.intp))
def _largest(builder: Any, zero: Any, a: Any, n: Any) -> Any:
    """The largest of a[0] .. a[n - 1], from the address of a; `zero` is a number of its type."""

    def larger(x: Any, y: Any) -> Any:  # x if y is NaN
        return builder.select(builder.fcmp_ordered(">", y, x), y, x)

    return _emit_reduction(builder, n, _reader(builder, a, zero.type), larger, zero.type(-math.inf))


@njit()
def largest(row: Any, n: int) -> Any:
    """The largest number in row[:n], ignoring NaN; minus infinity if there is none."""
    return _largest(row.dtype.type(0), np.intp(row.ctypes.data), np.intp(n))


@njit()
def total(row: Any, n: int) -> Any:
    """The sum of row[:n]."""
    return _sum(row.dtype.type(0), np.intp(row.ctypes.data), np.intp(n))


@njit()
def total_of_products(a: Any, b: Any, centre: Any, n: int) -> Any:
    """The sum of a[k] (b[k] - centre) over k < n."""
    return _sum_of_products(centre, np.intp(a.ctypes.data), np.intp(b.ctypes.data), np.intp(n))
