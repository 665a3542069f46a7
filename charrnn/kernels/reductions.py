"""What a row comes to: sums, in one order whatever the CPU, and the largest number.

A sum is thirty-two sums side by side, then these by halves.

LLVM would take as many sums as the CPU's vectors have room for, and the last bit of a loss, and with it of a
trained model, would differ from one CPU to the next. As vector code of its own, the order is written down.
Nothing is fused, since not every CPU can. The largest number needs no order, but LLVM would look at one after
the other, so as not to miss what is no number.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from charrnn.kernels.machine.jit import njit
from charrnn.kernels.products.tile import order, spread

LANES = 32


def _emit_sum(builder: Any, single: Any, n: Any, term: Callable[[Any, Any], Any]) -> Any:
    """The sum of term(k, type) for k = 0 .. n - 1; of vectors, the terms k .. k + LANES - 1."""
    return _emit_reduction(builder, single, n, term, builder.fadd, 0.0)


def _emit_reduction(
    builder: Any, single: Any, n: Any, term: Callable[[Any, Any], Any], combine: Callable[[Any, Any], Any],
    nothing: float,
) -> Any:  # fmt: skip
    """The same for another operation than a sum; of no terms, it comes to `nothing`."""
    vector = ir.VectorType(single, LANES)
    whole = builder.and_(n, n.type(-LANES))
    lanes = cgutils.alloca_once_value(builder, ir.Constant(vector, [nothing] * LANES))
    rest = cgutils.alloca_once_value(builder, ir.Constant(single, nothing))
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
    return combine(builder.extract_element(found, ir.IntType(32)(0)), builder.load(rest))


def _reader(builder: Any, address: Any, single: Any) -> Callable[[Any, Any], Any]:
    """Loads what lies from the k-th number of an array on, one number or LANES of them."""
    start = builder.inttoptr(address, single.as_pointer())

    def load(k: Any, kind: Any) -> Any:
        place = builder.gep(start, [k], source_etype=single)
        return builder.load(builder.bitcast(place, kind.as_pointer()), align=4, typ=kind)

    return load


@intrinsic
def _sum(typingctx: Any, zero: Any, a: Any, n: Any) -> Any:
    """a[0] + .. + a[n - 1], from the address of a; `zero` is a number of its type."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        zero, a, n = args
        return _emit_sum(builder, zero.type, n, _reader(builder, a, zero.type))

    return zero(zero, types.intp, types.intp), codegen


@intrinsic
def _sum_of_products(typingctx: Any, centre: Any, a: Any, b: Any, n: Any) -> Any:
    """The sum of a[k] (b[k] - centre) for k < n, from the addresses of a and b."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        centre, a, b, n = args
        from_a, from_b = (_reader(builder, address, centre.type) for address in (a, b))
        centres = spread(builder, centre, LANES)

        def term(k: Any, kind: Any) -> Any:
            apart = builder.fsub(from_b(k, kind), centre if kind == centre.type else centres)
            return builder.fmul(from_a(k, kind), apart)

        return _emit_sum(builder, centre.type, n, term)

    return centre(centre, types.intp, types.intp, types.intp), codegen


@intrinsic
def _largest(typingctx: Any, zero: Any, a: Any, n: Any) -> Any:
    """The largest of a[0] .. a[n - 1], from the address of a; `zero` is a number of its type."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        zero, a, n = args

        def larger(x: Any, y: Any) -> Any:  # what is no number is not
            return builder.select(builder.fcmp_ordered(">", y, x), y, x)

        return _emit_reduction(builder, zero.type, n, _reader(builder, a, zero.type), larger, -math.inf)

    return zero(zero, types.intp, types.intp), codegen


@njit()
def largest(row: Any, n: int) -> Any:
    """The largest of row[:n], passing over what is no number; minus infinity if nothing is left."""
    return _largest(row.dtype.type(0), np.intp(row.ctypes.data), np.intp(n))


@njit()
def total(row: Any, n: int) -> Any:
    """The sum of row[:n]."""
    return _sum(row.dtype.type(0), np.intp(row.ctypes.data), np.intp(n))


@njit()
def total_of_products(a: Any, b: Any, centre: Any, n: int) -> Any:
    """The sum of a[k] (b[k] - centre) over k < n."""
    return _sum_of_products(centre, np.intp(a.ctypes.data), np.intp(b.ctypes.data), np.intp(n))
