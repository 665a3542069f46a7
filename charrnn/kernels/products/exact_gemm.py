"""Matrix products with a fixed order of additions and without fused multiply-add, for reproducible texts.

Each output is -0 + w[0] x[0] + w[1] x[1] + .. + bias, where each w[k] x[k] is rounded before it is added: the
result of numpy_network with NumPy, for every CPU, vector length and number of texts.

The matrix is stored in *panels* of 32 columns, (panels, K, 32). In bfloat16, the upper half of a float32, two
weights share a word, (panels, K, 16), which halves the memory traffic. As in kernels.products.tile, the inner
loop is written as LLVM vector code, so that sums stay in registers.
"""

from __future__ import annotations

import functools
import itertools
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import types
from numba.core import cgutils

from charrnn.kernels.machine.aligned import aligned
from charrnn.kernels.machine.emitted import FLOAT, WORD, accumulated, emitted, load, spread, store, switch
from charrnn.kernels.products.tile import WIDE

PANEL = 32  # columns
LANES = 16 if WIDE else 8
PARTS = PANEL // (2 * LANES)  # of a panel, each two vectors wide
# Numbers of rows of a tile; few, since each is compiled. 12 rows of two vectors, two weights and two products
# in flight fill the 32 registers of AVX-512.
HEIGHTS = (12, 8, 4, 2, 1) if WIDE else (4, 2, 1)
_UPPER_HALF = np.uint32(0xFFFF0000)
SIDE_BY_SIDE = 4  # panels that are multiplied by a single row at once, to hide the latency of additions


def padded(bias: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """(.., N) -> (.., panels * 32), zeros at the end."""
    *outer, N = bias.shape
    wide = np.zeros((*outer, -(-N // PANEL) * PANEL), np.float32)
    wide[..., :N] = bias
    return wide


def in_panels(matrix: npt.NDArray[np.float32], bfloat16: bool = False) -> npt.NDArray[Any]:
    """(.., K, N) -> (.., panels, K, 32), zeros after the last column; bfloat16: (.., panels, K, 16).

    A word of bfloat16 holds the weights of two columns that lie LANES apart, the first in the lower half:
    one operation on a vector of words extracts the first columns, and another the second ones.
    """
    wide = padded(matrix)
    panels = np.moveaxis(wide.reshape(*wide.shape[:-1], wide.shape[-1] // PANEL, PANEL), -2, -3)
    if bfloat16:
        pairs = panels.view(np.uint32).reshape(*panels.shape[:-1], PARTS, 2, LANES)
        words = pairs[..., 0, :] >> 16 | pairs[..., 1, :] & _UPPER_HALF
        panels = words.view(np.float32).reshape(*panels.shape[:-1], PANEL // 2)
    result = aligned(panels.shape, np.float32)
    result[:] = panels
    return result


def _unknown(builder: Any, pointer: Any) -> Any:
    """The same pointer, without LLVM's knowing that it is the same."""
    kind = ir.FunctionType(pointer.type, [pointer.type])
    return builder.call(ir.InlineAsm(kind, "", "=r,0", side_effect=False), [pointer])


class Operands(NamedTuple):
    """C = A B + bias, sums over k < depth. Addresses, and strides in elements."""

    c: int  # (rows, panels * 32)
    c_row: int
    bias: int  # (panels * 32,)
    a: int  # (rows, depth)
    a_row: int
    b: int  # (panels, depth, 32), in bfloat16 (panels, depth, 16)
    b_panel: int
    depth: int
    half: int  # 1 for bfloat16


def _emit_tile(builder: Any, half: bool, rows: int, panels: int, operands: Any) -> None:
    """Emit the code for these rows and two vectors of each of these panels; addresses are pointers."""
    c, c_row, bias, a, a_row, b, b_panel, depth, _ = operands
    vector, number = ir.VectorType(FLOAT, LANES), depth.type
    columns = [(p, v) for p in range(panels) for v in range(2)]

    def at(base: Any, offset: Any) -> Any:
        return builder.gep(base, [offset], source_etype=FLOAT)

    def weights(row: Any) -> list[Any]:
        """The two vectors of weights that begin at this row of a panel."""
        if not half:
            return [load(builder, row, vector), load(builder, at(row, number(LANES)), vector)]
        words = ir.VectorType(WORD, LANES)
        both = load(builder, row, words)
        first = builder.shl(both, ir.Constant(words, [16] * LANES))
        second = builder.and_(both, ir.Constant(words, [int(_UPPER_HALF)] * LANES))
        return [builder.bitcast(numbers, vector) for numbers in (first, second)]

    starts = [at(b, builder.mul(b_panel, number(p))) for p in range(panels)]
    # x is loaded once for each of the two vectors, from a pointer of its own, so that the load becomes an
    # operand of the multiplication: on Zen 4, multiplying and adding registers takes 1.4 times as long.
    sources = [a] + [_unknown(builder, a)] * (WIDE and rows > 1)
    rows_of_a = [[at(a, builder.mul(a_row, number(r))) for r in range(rows)] for a in sources]

    def step(k: Any, sums: list[Any]) -> list[Any]:
        place = builder.mul(k, number(PANEL // 2 if half else PANEL))
        w = [numbers for start in starts for numbers in weights(at(start, place))]
        done: list[Any] = []
        for r in range(rows):
            x = [spread(builder, load(builder, at(source[r], k), FLOAT), LANES) for source in rows_of_a]
            for n in range(len(columns)):
                done.append(builder.fadd(sums[len(done)], builder.fmul(w[n], x[n % len(x)])))
        return done

    builder.assume(builder.icmp_signed(">", depth, number(0)))
    zero = ir.Constant(vector, [-0.0] * LANES)  # -0 + x is x, also where x is -0
    done = iter(accumulated(builder, [zero] * (rows * len(columns)), depth, step))
    for r in range(rows):
        row = at(c, builder.mul(c_row, number(r)))
        for p, v in columns:
            column = number(p * PANEL + v * LANES)
            store(builder, builder.fadd(next(done), load(builder, at(bias, column), vector)), at(row, column))


@emitted(lambda rows, panels, operands: types.void(types.intp, types.intp, operands))
def _all_tiles(builder: Any, rows: Any, panels: Any, operands: Any) -> None:
    """The product for one of HEIGHTS rows and one panel (the half of one in AVX2), or one row and
    SIDE_BY_SIDE panels: a switch over these shapes, with a loop for each. depth > 0.
    """
    words = Operands(*cgutils.unpack_tuple(builder, operands))
    arrays = {name: getattr(words, name) for name in ("c", "bias", "a", "b")}
    pointers = {name: builder.inttoptr(address, FLOAT.as_pointer()) for name, address in arrays.items()}
    half: Any = words.half
    # One number for all three: rows + 16 panels + 256 half.
    which = builder.add(rows, builder.mul(panels, rows.type(16)))
    which = builder.add(which, builder.mul(half, rows.type(256)))
    shapes = [(1, SIDE_BY_SIDE), *((height, 1) for height in HEIGHTS)]
    tiles = {
        height + 16 * width + 256 * bfloat16: functools.partial(
            _emit_tile, builder, bfloat16, height, width, words._replace(**pointers)
        )
        for bfloat16, (height, width) in itertools.product((False, True), shapes)
    }
    switch(builder, which, tiles)


def panel_product(x: Operands, rows: int, first: int, last: int) -> None:
    """Rows 0 to `rows` of C, panels `first` to `last`, for charrnn.kernels.machine.native_calls."""
    row_bytes = PANEL * 2 if x.half else PANEL * 4  # of a panel
    side_by_side = SIDE_BY_SIDE if rows == 1 else 1
    p = first
    while p < last:
        width = side_by_side if p + side_by_side <= last else 1
        for part in range(PARTS):
            column = (p * PANEL + part * 2 * LANES) * 4
            b = x.b + p * x.b_panel * 4 + part * row_bytes // PARTS
            row = 0
            for height in HEIGHTS:
                while row + height <= rows:
                    c, a = x.c + row * x.c_row * 4 + column, x.a + row * x.a_row * 4
                    tile = Operands(
                        c, x.c_row, x.bias + column, a, x.a_row, b, x.b_panel, x.depth, x.half
                    )  # fmt: skip
                    _all_tiles(height, width, tile)
                    row += height
        p += width
