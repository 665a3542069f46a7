"""With this plugin for pytest, tests of bfloat16 run on any CPU: `pytest -p support.emulated_bfloat16`.

Both of the instructions that kernels use are computed by others.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from charrnn.kernels.machine.emitted import HALF, WORD, order
from charrnn.kernels.products import bfloat16, tile

LANES = bfloat16.LANES


def _each(vector: Any, number: int) -> Any:
    return ir.Constant(vector, [number] * vector.count)


def _rounded(builder: Any, low: Any, high: Any) -> Any:
    """See bfloat16._emit_rounded: the nearest, ties to even; 0 below the smallest normal number."""
    words, halves = ir.VectorType(WORD, LANES), []
    for numbers in (low, high):
        bits = builder.bitcast(numbers, words)
        odd = builder.and_(builder.lshr(bits, _each(words, 16)), _each(words, 1))
        nearest = builder.add(builder.add(bits, _each(words, 0x7FFF)), odd)
        magnitude = builder.and_(bits, _each(words, 0x7FFFFFFF))
        small = builder.icmp_unsigned("<", magnitude, _each(words, 0x00800000))
        special = builder.icmp_unsigned(">", magnitude, _each(words, 0x7F800000))  # NaN
        found = builder.select(small, builder.and_(bits, _each(words, 0x80000000)), nearest)
        found = builder.select(special, builder.or_(bits, _each(words, 0x00400000)), found)
        halves.append(builder.trunc(builder.lshr(found, _each(words, 16)), ir.VectorType(HALF, LANES)))
    return builder.shuffle_vector(*halves, order(list(range(2 * LANES))))


def _fused_pairs(builder: Any, a: Any, b: Any, total: Any) -> Any:
    """See tile._fused_pairs."""
    words = ir.VectorType(WORD, total.type.count)
    for side in (
        lambda pairs: builder.shl(pairs, _each(words, 16)),
        lambda pairs: builder.and_(pairs, _each(words, 0xFFFF0000)),
    ):
        x, y = (builder.bitcast(side(builder.bitcast(v, words)), total.type) for v in (a, b))
        total = tile._fused(builder, x, y, total)
    return total


if not tile.HAS_BFLOAT16:
    bfloat16._emit_rounded, tile._fused_pairs = _rounded, _fused_pairs  # type: ignore[assignment]
    tile.HAS_BFLOAT16 = True
