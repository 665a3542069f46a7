"""The register tile: the innermost loop of every matrix product, written as LLVM vector code.

LLVM does not find this shape from loops over arrays: as IR, the accumulators stay in vector registers and
a product of 25 rows reaches 85-100 % of the float32 peak, where `np.dot` reaches 40-60 %.
"""

from __future__ import annotations

import threading
from typing import Any

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils, config
from numba.extending import intrinsic

from charrnn.kernels.jit import JIT_DISABLED, Task, cfunc, recorded


def _vector_bits() -> int:
    """Width of the vectors that the tile uses: what Numba will compile for, not only what is there."""
    features = config.CPU_FEATURES
    if features is None and config.CPU_NAME in (None, "host"):
        try:
            host = llvm.get_host_cpu_features()
        except RuntimeError:
            return 256
        return 512 if host.get("avx512f") else 256
    return 512 if features and "+avx512f" in features.split(",") else 256


# 32 registers of 16 floats hold 13 x 2 accumulators, two columns and a broadcast; 16 registers of 8
# (AVX2) hold 6 x 2. NEON's 32 registers of 4 hold the same 6 x 16.
WIDE = _vector_bits() == 512
VECTOR_BYTES = 64 if WIDE else 32
TILE_ROWS = 13 if WIDE else 6


def _emit_tile(
    builder: Any, item: Any, lanes: int, rows: int, init: Any, init_row: Any, a: Any, a_row: Any,
    a_k: Any, b: Any, b_k: Any, c: Any, c_row: Any, depth: Any,
) -> None:  # fmt: skip
    """C[rows, 2 vectors] = init + A[rows, depth] B[depth, 2 vectors], all strides in elements."""
    word = depth.type
    vector = ir.VectorType(item, lanes)
    align = 4 if item == ir.FloatType() else 8
    name = f"llvm.fma.v{lanes}{'f32' if item == ir.FloatType() else 'f64'}"
    fma = builder.module.globals.get(name) or ir.Function(
        builder.module, ir.FunctionType(vector, [vector] * 3), name
    )

    def at(base: Any, *offsets: Any) -> Any:
        for offset in offsets:
            base = builder.gep(base, [offset], source_etype=item)
        return base

    def load_vector(pointer: Any) -> Any:
        return builder.load(builder.bitcast(pointer, vector.as_pointer()), align=align, typ=vector)

    def times(k: int, stride: Any) -> Any:
        return builder.mul(stride, ir.Constant(word, k))

    second = ir.Constant(word, lanes)
    start = []
    for r in range(rows):
        row = at(init, times(r, init_row))
        start += [load_vector(row), load_vector(at(row, second))]

    before = builder.block
    loop = builder.append_basic_block(f"tile{rows}.k")
    after = builder.append_basic_block(f"tile{rows}.end")
    builder.cbranch(builder.icmp_signed(">", depth, ir.Constant(word, 0)), loop, after)

    builder.position_at_end(loop)
    k = builder.phi(word)
    k.add_incoming(ir.Constant(word, 0), before)
    total = []
    for value in start:
        phi = builder.phi(vector)
        phi.add_incoming(value, before)
        total.append(phi)
    b_at = at(b, builder.mul(k, b_k))
    left, right = load_vector(b_at), load_vector(at(b_at, second))
    a_at = at(a, builder.mul(k, a_k))
    zero_mask = ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes)
    undefined = ir.Constant(vector, ir.Undefined)
    done = []
    for r in range(rows):
        scalar = builder.load(at(a_at, times(r, a_row)), align=align, typ=item)
        one = builder.insert_element(undefined, scalar, ir.Constant(ir.IntType(32), 0))
        spread = builder.shuffle_vector(one, undefined, zero_mask)
        done.append(builder.call(fma, [spread, left, total[2 * r]]))
        done.append(builder.call(fma, [spread, right, total[2 * r + 1]]))
    following = builder.add(k, ir.Constant(word, 1))
    k.add_incoming(following, builder.block)
    for phi, value in zip(total, done, strict=True):
        phi.add_incoming(value, builder.block)
    builder.cbranch(builder.icmp_signed("<", following, depth), loop, after)
    end_of_loop = builder.block

    builder.position_at_end(after)
    result = []
    for value, summed in zip(start, done, strict=True):
        phi = builder.phi(vector)
        phi.add_incoming(value, before)
        phi.add_incoming(summed, end_of_loop)
        result.append(phi)
    for r in range(rows):
        row = at(c, times(r, c_row))
        for pointer, value in ((row, result[2 * r]), (at(row, second), result[2 * r + 1])):
            builder.store(value, builder.bitcast(pointer, vector.as_pointer()), align=align)


_POINTERS = types.void(*[types.intp] * 11)  # the signature of a compiled tile


@intrinsic
def _all_tiles(typingctx: Any, number: Any, arguments: Any) -> Any:
    """A switch over the number of rows, 1 to TILE_ROWS, with a loop for each; `number` is of the dtype."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        item = context.get_value_type(number)
        lanes = VECTOR_BYTES // (number.bitwidth // 8)
        rows, init, init_row, a, a_row, a_k, b, b_k, c, c_row, depth = cgutils.unpack_tuple(
            builder, args[1], len(arguments)
        )
        init, a, b, c = (builder.inttoptr(p, item.as_pointer()) for p in (init, a, b, c))
        finish = builder.append_basic_block("finish")
        choose = builder.switch(rows, finish)
        for height in range(1, TILE_ROWS + 1):
            block = builder.append_basic_block(f"tile{height}")
            choose.add_case(ir.Constant(rows.type, height), block)
            builder.position_at_end(block)
            _emit_tile(builder, item, lanes, height, init, init_row, a, a_row, a_k, b, b_k, c, c_row, depth)
            builder.branch(finish)
        builder.position_at_end(finish)
        return context.get_dummy_value()

    return types.void(number, arguments), codegen


def _tile_float32(
    rows: int, init: int, init_row: int, a: int, a_row: int, a_k: int, b: int, b_k: int, c: int,
    c_row: int, depth: int,
) -> None:  # fmt: skip
    _all_tiles(np.float32(0), (rows, init, init_row, a, a_row, a_k, b, b_k, c, c_row, depth))


def _tile_float64(
    rows: int, init: int, init_row: int, a: int, a_row: int, a_k: int, b: int, b_k: int, c: int,
    c_row: int, depth: int,
) -> None:  # fmt: skip
    _all_tiles(np.float64(0), (rows, init, init_row, a, a_row, a_k, b, b_k, c, c_row, depth))


_compiled: dict[str, Any] = {}  # kept, since their machine code would go with them
_compiling = threading.Lock()


def require_tile(dtype: Any) -> None:
    """Compile the tile for float32 or float64, before any kernel that uses it.

    There is one copy of its machine code, which kernels call by name: linked into each of them, as Numba
    would do, it took a third of the time that compiling them takes.
    """
    name = np.dtype(dtype).name
    if recorded(Task(f"tile.{name}", lambda: require_tile(dtype), needed=True)):
        return
    with _compiling:
        if name not in _compiled and not JIT_DISABLED:
            function = {"float32": _tile_float32, "float64": _tile_float64}[name]
            _compiled[name] = cfunc(_POINTERS)(function)
            llvm.add_symbol(f"charrnn_tile_{name}", _compiled[name].address)


@intrinsic
def tile(
    typingctx: Any, like: Any, rows: Any, init: Any, init_row: Any, a: Any, a_row: Any,
    a_k: Any, b: Any, b_k: Any, c: Any, c_row: Any, depth: Any,
) -> Any:  # fmt: skip
    """C = init + A B for 1 to TILE_ROWS rows and two vectors of columns.

    Pointers are addresses, strides count elements, `like` is any array of the dtype. A is read at
    a + row * a_row + k * a_k, B at b + k * b_k, and k runs from 0 to depth - 1 in order.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        name = f"charrnn_tile_{like.dtype}"
        kind = ir.FunctionType(ir.VoidType(), [value.type for value in args[1:]])
        function = builder.module.globals.get(name) or ir.Function(builder.module, kind, name)
        builder.call(function, args[1:])
        return context.get_dummy_value()

    return types.void(like, *_POINTERS.args), codegen
