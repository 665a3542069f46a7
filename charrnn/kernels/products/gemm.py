"""Matrix products C = init + A B over the panels of B.

B is read in *panels* of 32 columns, row by row, so that the inner loop reads memory sequentially. Weights are
always stored in panels; activations are stored in padded rows, of which 32 columns are a panel with a longer
stride. Nothing is packed.

Each element of C is one chain of fused multiply-adds over k = 0, 1, .. K-1 in every tile: a result depends
neither on the division of rows among threads nor on the CPU's tile.

Operands are float32 (float64 for the gradient checks) or pairs of bfloat16 (see kernels.products.bfloat16);
results are float32 or float64.

Rows are padded (`padded`) so that whole panels can be stored; the padding of rows that are read as a panel of
B is zero.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import types

from charrnn.kernels.machine.aligned import LINE
from charrnn.kernels.machine.emitted import FLOAT, emitted, load, store
from charrnn.kernels.machine.jit import njit
from charrnn.kernels.machine.native_calls import _address, address_of, call
from charrnn.kernels.machine.prefetch import ahead
from charrnn.kernels.products import amx
from charrnn.kernels.products.bfloat16 import LANES, Rounding, pairs, round_rows, transpose_block
from charrnn.kernels.products.tile import TILE_ROWS, VECTOR_BYTES, Tile, tile_address

PANEL = 32  # columns; part of the memory layout, so the same on every CPU
# Strides as typed numbers: Numba compiles a function anew for each literal that it is called with.
_SAME, _NEXT, _ROW = np.array((0, 1, PANEL), np.intp)
DEPTH = 512  # k block of a weight's gradient: a block of A fits in the L2 cache
MOST_ROWS = 512  # of a block of C in which products of parts are summed up: 64 KB


def panels(columns: int) -> int:
    """The number of panels that hold so many columns."""
    return -(-columns // PANEL)


def padded(columns: int) -> int:
    """The leading dimension of rows of activations.

    Whole panels and a half: never a power of two, with which all rows would map to the same cache sets.
    """
    return panels(columns) * PANEL + PANEL // 2


# What multiplies: addresses and sizes, in an array that is an argument of kernels, so that these are compiled
# once for all precisions.
Unit = np.ndarray[Any, np.dtype[np.intp]]
_TILE, _HEIGHT, _LOOPS, _TRANSPOSED, _ROUND, _WORDS, _WORDS_ROW = range(7)


def unit(precision: str, words: npt.NDArray[Any] | None = None) -> Unit:
    """The unit for float32, float64 or bfloat16; the last rounds A into `words` (T, B, whole_pairs(K)).

    For bfloat16, T, B and K are at least those of any A. The caller keeps `words` alive.
    """
    loops = address_of(multiply)
    if words is None:
        return np.array([tile_address(precision), TILE_ROWS, loops, False, 0, 0, 0], np.intp)
    rounding = address_of(round_rows), words.ctypes.data, words.shape[2]
    if (tile := amx.tile_address()) != 0:
        return np.array([tile, amx.ROWS, loops, True, *rounding], np.intp)
    return np.array([tile_address(precision), TILE_ROWS, loops, False, *rounding], np.intp)


def wants_transposed(unit: Unit) -> bool:
    """Whether `outer_product` takes A^T."""
    return bool(unit[_TRANSPOSED])


class Blocks(NamedTuple):
    """C = init + A B for `times` blocks of `rows` rows, each `width` rows after the last one.

    Addresses, and strides in elements of `size` bytes.
    """

    tile: int
    height: int  # most rows of a tile
    size: int
    init: int  # (times * width, panels, 32)
    init_row: int
    a: int  # (times * width, depth)
    a_row: int
    a_k: int
    b: int  # (panels, depth, 32)
    b_panel: int
    b_k: int
    c: int  # (times * width, panels, 32)
    c_row: int
    panels: int
    times: int
    width: int
    rows: int
    depth: int
    plan: int  # (parts, 3), see machine.prefetch
    parts: int


def multiply(x: Blocks) -> None:
    """The loops around the tile; a single copy compiles far faster than one for each kernel."""
    panel, columns = PANEL * x.size, 2 * VECTOR_BYTES  # widths of a panel and of a tile, in bytes
    tiles = -(-x.rows // x.height)
    left = x.panels * x.times * tiles * (panel // columns)
    for p in range(x.panels):  # outermost, so that the panel stays in the cache for all blocks
        for t in range(x.times):
            for column in range(0, panel, columns):
                low = 0
                for n in range(1, tiles + 1):
                    left -= 1
                    line, step = ahead(x.plan, x.parts, left, x.depth, x.a)
                    high = x.rows * n // tiles  # heights differ by at most one
                    first, across = (t * x.width + low) * x.size, p * panel + column
                    tile = Tile(
                        high - low, x.init + first * x.init_row + across, x.init_row,
                        x.a + first * x.a_row, x.a_row, x.a_k, x.b + p * x.b_panel * x.size + column, x.b_k,
                        x.c + first * x.c_row + across, x.c_row, x.depth, line, step,
                    )  # fmt: skip
                    call(x.tile, (tile,))
                    low = high


@njit()
def _terms(unit: Any, K: int) -> int:
    """The depth of a tile: its iterations over K."""
    return K if unit[_ROUND] == 0 else pairs(K)


@njit()
def _operand(unit: Any, A: Any, K: int, columns: Any) -> Any:
    """A, rounded if the unit is bfloat16: its address, its row stride in elements, and the depth."""
    if unit[_ROUND] == 0:
        return _address(A, 0), np.intp(A.shape[2]), _terms(unit, K)
    (T, B, row), (b0, b1) = A.shape, columns
    rounding = Rounding(unit[_WORDS], unit[_WORDS_ROW], _address(A, 0), T, B, row, K, b0, b1)
    call(unit[_ROUND], (rounding,))
    return unit[_WORDS], unit[_WORDS_ROW], _terms(unit, K)


@njit()
def product(unit: Any, C: Any, init: Any, A: Any, B: Any, K: int, columns: Any, plan: Any) -> None:
    """C[t, b] = init + A[t, b, :K] B for every t and the columns b0 <= b < b1 of a batch.

    Shapes: C (T, B, padded N), A (T, B, padded K), B (panels, K, 32). `init` is a bias, (padded N,), or
    init[t, b] in an array like C, which may be C. For a unit of bfloat16, B is in pairs. For `plan`,
    see charrnn.kernels.machine.prefetch.
    """
    (b0, b1), c_row, size = columns, C.shape[2], C.itemsize
    start, init_row = _address(init, 0), _SAME if init.ndim == 1 else c_row
    a, a_row, depth = _operand(unit, A, K, columns)
    times, width, rows = C.shape[0], C.shape[1], b1 - b0
    if rows == width:  # all steps are one block, with full tiles even for a batch of one
        times, rows = 1, times * rows
    blocks = Blocks(
        unit[_TILE], unit[_HEIGHT], size, start + b0 * init_row * size, init_row, a + b0 * a_row * size,
        a_row, _NEXT, _address(B, 0), B.shape[1] * B.shape[2], _ROW, _address(C, b0 * c_row), c_row,
        B.shape[0], times, width, rows, depth, _address(plan, 0), len(plan),
    )  # fmt: skip
    call(unit[_LOOPS], (blocks,))


class Strided(NamedTuple):
    """A matrix anywhere: its address and, in elements, its strides.

    The second is that of columns or, of what is read as panels, from panel to panel of 32 columns.
    """

    address: Any
    row: Any
    step: Any


@njit()
def strided_product(unit: Any, size: Any, C: Any, init: Any, A: Any, B: Any, sizes: Any) -> None:
    """C = init + A B, of elements of so many bytes; sizes are the rows of A, those of B, and B's panels.

    The unit is not one of bfloat16. C's rows and those of init are consecutive.
    """
    plan, (rows, depth, count) = np.empty((0, 3), np.intp), sizes
    blocks = Blocks(
        unit[_TILE], unit[_HEIGHT], size, init.address, init.row, A.address, A.row, A.step, B.address, B.step,
        B.row, C.address, C.row, count, 1, 0, rows, depth, _address(plan, 0), len(plan),
    )  # fmt: skip
    call(unit[_LOOPS], (blocks,))


@njit()
def outer_product(unit: Any, C: Any, zero: Any, A: Any, G: Any, rows: int, part: Any) -> None:
    """A weight's gradient: C[p, k] = sum over rows r of A[r, k] G[r, 32 p : 32 p + 32].

    Shapes: C (panels, K, 32), zero (32,), A (R, padded K), G (R, padded N); for a unit of bfloat16, pairs
    of rows. If it `wants_transposed`, A is (K, R or more), and R a multiple of 16. The part (p0, p1, k0, k1)
    is panels p0 to p1 and rows k0 to k1 of C: threads divide C, and each sums over all r in order, so that
    no reduction is needed.
    """
    p0, p1, k0, k1 = part
    g_row, K = G.shape[1], C.shape[1]
    a_row, a_k = (A.shape[1], _NEXT) if unit[_TRANSPOSED] else (_NEXT, A.shape[1])
    blocks = max(1, -(-rows // DEPTH))
    plan = np.empty((3, 3), np.intp)
    low = 0
    for n in range(1, blocks + 1):  # outermost, so that a block of A stays in the cache for all panels
        high = rows * n // blocks
        if unit[_TRANSPOSED]:
            high -= high % 16
        for p in range(p0, p1):
            following, row = (p + 1, low) if p + 1 < p1 else (p0, high)
            for side in range(2):  # a row of a panel is two cache lines
                plan[side, 0] = _address(G, row * g_row + following * PANEL) + side * LINE
                plan[side, 1], plan[side, 2] = 1, g_row * G.itemsize
            block = (high - low) * a_k * A.itemsize if following == p0 else 0
            plan[2, 0] = _address(A, row * a_k)
            plan[2, 1], plan[2, 2] = -(-block // (LINE * (high - low))), LINE
            c = _address(C, (p * K + k0) * PANEL)
            init, init_row = (_address(zero, 0), _SAME) if n == 1 else (c, _ROW)
            one_block = Blocks(
                unit[_TILE], unit[_HEIGHT], C.itemsize, init, init_row, _address(A, low * a_k + k0 * a_row),
                a_row, a_k, _address(G, low * g_row + p * PANEL), _SAME, g_row, c, _ROW, 1, 1, 0, k1 - k0,
                high - low, _address(plan, 0), len(plan),
            )  # fmt: skip
            call(unit[_LOOPS], (one_block,))
        low = high


@njit()
def _add(y: Any, x: Any, n: int) -> None:
    for j in range(n):
        y[j] += x[j]


@emitted(types.void(types.intp, types.intp))
def _copy_line(builder: Any, target: Any, source: Any) -> None:
    """Copy 64 bytes from one address to another: a loop over 32 numbers takes twice as long."""
    store(builder, load(builder, source, ir.VectorType(FLOAT, LINE // 4)), target)


@njit()
def _pack_panel(target: int, G: Any, p: int, b0: int, b1: int) -> None:
    """Copy panel p of the rows G[t, b], b0 <= b < b1, to an address, one after another."""
    size = PANEL * G.itemsize
    for t in range(G.shape[0]):
        for b in range(b0, b1):
            source = _address(G, (t * G.shape[1] + b) * G.shape[2] + p * PANEL)
            for line in range(0, size, LINE):
                _copy_line(target + line, source + line)
            target += size


@njit()
def sum_of_outer_products(
    unit: Any, C: Any, zero: Any, A: Any, G: Any, columns: Any, tree: Any, part: Any
) -> None:
    """The same of parts, some columns of G (T, B, padded N) each, added up in the order of a tree.

    `columns` (parts, 2) are the first and that after the last of each. `tree`: ends, of which the rows of A
    that belong to part n are those from ends[n] to before ends[n + 1], perhaps with zeros at the end, and
    after each part how often the last two sums become one. All parts of a block of C are summed up while it
    is in the cache: that costs little more than one product over all rows.
    """
    (p0, p1, k0, k1), (ends, additions) = part, tree
    K, height, rows, size = C.shape[1], unit[_HEIGHT], k1 - k0, C.itemsize
    a_row, a_k = (A.shape[1], _NEXT) if unit[_TRANSPOSED] else (_NEXT, A.shape[1])
    plan, flat = np.empty((0, 3), np.intp), C.reshape(-1)
    tiles = -(-rows // height)
    blocks = max(1, -(-rows // MOST_ROWS))
    sums = np.empty((len(additions), (rows // blocks + height + 2) * PANEL), C.dtype)  # the first is C itself
    packed = np.zeros(np.max(ends[1:] - ends[:-1]) * PANEL + LINE, C.dtype)
    aligned = -(-_address(packed, 0) // LINE) * LINE
    for p in range(p0, p1):
        for n in range(blocks):  # of whole tiles
            low = k0 + rows * (tiles * n // blocks) // tiles
            high = k0 + rows * (tiles * (n + 1) // blocks) // tiles
            first, level = (p * K + low) * PANEL, 0
            for i in range(len(additions)):
                c = _address(C, first) if level == 0 else _address(sums, level * sums.shape[1])
                count, filled = ends[i + 1] - ends[i], G.shape[0] * (columns[i, 1] - columns[i, 0])
                _pack_panel(aligned, G, p, columns[i, 0], columns[i, 1])
                begin = (aligned - _address(packed, 0)) // size
                packed[begin + filled * PANEL : begin + count * PANEL] = 0
                depths = max(1, -(-count // DEPTH))
                start = 0
                for m in range(1, depths + 1):
                    stop = count * m // depths
                    if unit[_TRANSPOSED]:
                        stop -= stop % 16
                    init, init_row = (_address(zero, 0), _SAME) if m == 1 else (c, _ROW)
                    a = _address(A, (ends[i] + start) * a_k + low * a_row)
                    one_block = Blocks(
                        unit[_TILE], height, size, init, init_row, a, a_row, a_k,
                        aligned + start * PANEL * size, _SAME, _ROW, c, _ROW, 1, 1, 0, high - low,
                        stop - start, _address(plan, 0), len(plan),
                    )  # fmt: skip
                    call(unit[_LOOPS], (one_block,))
                    start = stop
                level += 1
                for _ in range(additions[i]):
                    level -= 1
                    if level == 1:
                        _add(flat[first:], sums[1], (high - low) * PANEL)
                    else:
                        _add(sums[level - 1], sums[level], (high - low) * PANEL)


@njit()
def transpose_panels(target: Any, source: Any, rows: int, p0: int, p1: int) -> None:
    """The panels of W from the panels of its transpose: target[j, n] = source[n, j].

    Shapes: source (panels of N, K, 32) holds (K, N); target (panels of K, N, 32) holds (N, K), and
    `rows` is N without padding. Panels p0 to p1 of the target.
    """
    K, N = source.shape[1], target.shape[1]
    for p in range(p0, p1):
        width = min(PANEL, K - p * PANEL)
        for q in range(source.shape[0]):
            height = min(PANEL, rows - q * PANEL)
            if source.itemsize == 4 and width == PANEL and height == PANEL:
                for n in range(0, PANEL, LANES):
                    for k in range(0, PANEL, LANES):
                        transpose_block(
                            _address(target, (p * N + q * PANEL + n) * PANEL + k), PANEL * 4,
                            _address(source, (q * K + p * PANEL + k) * PANEL + n), PANEL * 4,
                        )  # fmt: skip
                continue
            for n in range(height):
                for k in range(width):
                    target[p, q * PANEL + n, k] = source[q, p * PANEL + k, n]
