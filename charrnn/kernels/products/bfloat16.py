"""Operands of matrix products in bfloat16, the upper half of a float32: 8 bits of precision, the same range.

Two numbers with successive k share a word of 32 bits, the first in its low half. An operand of words has the
same layout as one of float32 in kernels.products.gemm, with K/2 in place of K; if K is odd, the high half of
the last word is zero:

    rows of activations         (T, B, padded K)  ->  (T, B, K/2 or more)     `round_rows`
    weights                     (panels, K, 32)   ->  (panels, K/2, 32)       `round_panels`
    transposed weights          (panels, K, 32)   ->  (panels of K, N/2, 32)  `round_transposed`
    rows that are summed up     (T, B, padded N)  ->  (T/2, B, padded N)      `round_steps`

The last are the operands of a weight's gradient; a word holds steps 2t and 2t + 1 of one column of the
batch, so that threads with different columns write no word in common.

Numbers are rounded to the nearest, ties to even; infinities and NaN are kept. Whole vectors are read: the
padding of a row must be zero.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from llvmlite import ir
from numba import types
from numba.extending import register_jitable

from charrnn.kernels.machine.emitted import FLOAT, HALF, WORD, declared, emitted, load, order, store
from charrnn.kernels.machine.jit import njit
from charrnn.kernels.machine.native_calls import _address

LANES = 16  # words that are computed at once, from twice as many numbers


@register_jitable
def pairs(n: int) -> int:
    """The number of words that hold n numbers."""
    return (n + 1) // 2


@register_jitable
def whole_pairs(n: int) -> int:
    """The number of words that are written for n numbers: whole vectors, with zeros at the end."""
    return -(-n // (2 * LANES)) * LANES


_FLOATS = ir.VectorType(FLOAT, LANES)


def _emit_rounded(builder: Any, low: Any, high: Any) -> Any:
    """32 bfloat16 as <32 x i16> from two vectors of 16 floats."""
    name = "llvm.x86.avx512bf16.cvtne2ps2bf16.512"
    return builder.call(declared(builder, name, ir.VectorType(HALF, 2 * LANES), [_FLOATS] * 2), [high, low])


def _emit_neighbours(builder: Any, source: Any) -> Any:
    """32 bfloat16 as <32 x i16> from the 32 floats at an address."""
    second = builder.add(source, source.type(LANES * 4))
    return _emit_rounded(builder, load(builder, source, _FLOATS), load(builder, second, _FLOATS))


@emitted(types.void(types.intp, types.intp))
def _round_neighbours(builder: Any, words: Any, source: Any) -> None:
    """Store 16 words at an address from the 32 floats at another: (0, 1), (2, 3), ..."""
    store(builder, _emit_neighbours(builder, source), words)


@emitted(types.void(types.intp, types.intp, types.intp, types.boolean))
def _round_two(builder: Any, words: Any, first: Any, second: Any, both: Any) -> None:
    """Store 16 words at an address from 16 floats at each of two others: (first[0], second[0]), ...

    Unless `both`, the second is not read and counts as zeros.
    """
    zero = ir.Constant(_FLOATS, [0.0] * LANES)
    high = builder.select(both, load(builder, builder.select(both, second, first), _FLOATS), zero)
    halves = _emit_rounded(builder, load(builder, first, _FLOATS), high)
    side_by_side = order([place + side for place in range(LANES) for side in (0, LANES)])
    store(builder, builder.shuffle_vector(halves, halves, side_by_side), words)


def _emit_transposed(builder: Any, lines: list[Any], words: Any, words_row: Any) -> None:
    """Store a block of 16 vectors of 16 words as its transpose."""
    # Lines that lie 8, 4, 2, 1 apart exchange halves, quarters, ..: four rounds transpose the block.
    for apart in (8, 4, 2, 1):
        low = [p + LANES - apart if p & apart else p for p in range(LANES)]
        high = [p + LANES if p & apart else p + apart for p in range(LANES)]
        for j in (j for j in range(LANES) if not j & apart):
            a, b = lines[j], lines[j + apart]
            lines[j] = builder.shuffle_vector(a, b, order(low))
            lines[j + apart] = builder.shuffle_vector(a, b, order(high))
    for i in range(LANES):
        store(builder, lines[i], builder.add(words, builder.mul(words_row, words_row.type(i))))


@emitted(types.void(*[types.intp] * 4))
def transpose_block(builder: Any, words: Any, words_row: Any, source: Any, source_row: Any) -> None:
    """Transpose 16 rows of 16 words. Addresses, and strides in bytes."""
    offsets = [builder.mul(source_row, source.type(j)) for j in range(LANES)]
    lines = [load(builder, builder.add(source, offset), _FLOATS) for offset in offsets]
    _emit_transposed(builder, lines, words, words_row)


@emitted(types.void(*[types.intp] * 5))
def _round_and_transpose(
    builder: Any, words: Any, words_row: Any, source: Any, source_row: Any, rows: Any
) -> None:
    """Store 16 rows of 16 words: word (i, j) is the pair of floats (2i, 2i + 1) of the source's row j.

    Addresses, and strides in bytes. Only the first `rows` rows of the source are read; others count as zero.
    """
    number, vector = words.type, ir.VectorType(WORD, LANES)
    lines = []
    for j in range(LANES):
        there = builder.icmp_signed(">", rows, number(j))
        offset = builder.mul(source_row, builder.select(there, number(j), number(0)))
        line = builder.bitcast(_emit_neighbours(builder, builder.add(source, offset)), vector)
        lines.append(builder.select(there, line, ir.Constant(vector, [0] * LANES)))
    _emit_transposed(builder, lines, words, words_row)


class Rounding(NamedTuple):
    """words[t, b] = the n numbers of rows[t, b], for every t < T and b0 <= b < b1."""

    words: int  # address of (T or more, B, words_row)
    words_row: int
    rows: int  # address of (T, B, row)
    T: int
    B: int
    row: int
    n: int
    b0: int
    b1: int


def round_rows(r: Rounding) -> None:
    """For charrnn.kernels.machine.native_calls."""
    for t in range(r.T):
        for b in range(r.b0, r.b1):
            target = r.words + (t * r.B + b) * r.words_row * 4
            source = r.rows + (t * r.B + b) * r.row * 4
            for i in range(0, whole_pairs(r.n), LANES):
                _round_neighbours(target + i * 4, source + i * 8)


@njit()
def round_steps(words: Any, rows: Any, n: int, b0: int, b1: int) -> None:
    """words[t, b] = the n numbers of rows[2t, b] and rows[2t + 1, b], for every t and b0 <= b < b1.

    Shapes: words (pairs(T), B, padded n), rows (T, B, padded n).
    """
    steps, width, row = rows.shape
    for t in range(0, steps, 2):
        for b in range(b0, b1):
            target = _address(words, (t // 2 * width + b) * row)
            first = _address(rows, (t * width + b) * row)
            for j in range(0, n, LANES):
                source = first + j * 4
                _round_two(target + j * 4, source, source + width * row * 4, t + 1 < steps)


@njit()
def transpose_words(target: Any, source: Any, k0: int, k1: int) -> None:
    """Rows k0 to k1 of target (K, R or more) = source^T, source (R, K or more); all multiples of 16."""
    for k in range(k0, k1, LANES):
        for r in range(0, source.shape[0], LANES):
            transpose_block(
                _address(target, k * target.shape[1] + r), target.shape[1] * 4,
                _address(source, r * source.shape[1] + k), source.shape[1] * 4,
            )  # fmt: skip


@njit()
def round_panels(words: Any, weight: Any, p0: int, p1: int) -> None:
    """Panels p0 to p1 of a weight: words (panels, whole_pairs(K), 32), weight (panels, K, 32)."""
    K, width = weight.shape[1], weight.shape[2]
    for p in range(p0, p1):
        for k in range(0, K, 2):
            target = _address(words, (p * words.shape[1] + k // 2) * width)
            first = _address(weight, (p * K + k) * width)
            for j in range(0, width, LANES):
                source = first + j * 4
                _round_two(target + j * 4, source, source + width * 4, k + 1 < K)


@njit()
def round_transposed(words: Any, weight: Any, p0: int, p1: int) -> None:
    """Panels p0 to p1 of a weight's transpose.

    Shapes: words (panels of K, whole_pairs(N), 32), weight (panels of N, K, 32).
    """
    K, width = weight.shape[1], weight.shape[2]
    for p in range(p0, p1):
        for q in range(weight.shape[0]):
            for k in range(p * width, min((p + 1) * width, K), LANES):
                _round_and_transpose(
                    _address(words, (p * words.shape[1] + q * LANES) * width + k - p * width), width * 4,
                    _address(weight, (q * K + k) * width), width * 4, K - k,
                )  # fmt: skip
