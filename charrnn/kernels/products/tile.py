"""The register tile: the innermost loop of every matrix product, written as LLVM vector code.

There is one for float32, one for float64 (the gradient checks) and, where the CPU has AVX512_BF16, one for
operands in bfloat16 with sums in float32. The last is the first with words in place of numbers: each word of
A and B is a pair of bfloat16, neighbours in k, and an instruction adds the products of both to the sum.

LLVM does not find this shape from loops over arrays: as IR, the accumulators stay in vector registers and
a product of 25 rows reaches 85-100 % of the float32 peak, where `np.dot` reaches 40-60 %.

While it multiplies, which needs little of the memory, a tile can also prefetch what is worked on next.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils, config
from numba.extending import intrinsic

from charrnn.kernels.machine.native_calls import address_of


def _cpu_features() -> frozenset[str]:
    """What Numba will compile for on x86, not only what is there; empty where nothing is known."""
    if config.CPU_FEATURES is not None:
        return frozenset(name[1:] for name in config.CPU_FEATURES.split(",") if name.startswith("+"))
    if config.CPU_NAME not in (None, "host"):
        return frozenset()
    try:
        return frozenset(name for name, there in llvm.get_host_cpu_features().items() if there)
    except RuntimeError:
        return frozenset()


FEATURES = _cpu_features()
# 32 registers of 16 floats hold 13 x 2 accumulators, two columns and a broadcast; 16 registers of 8
# (AVX2) hold 6 x 2. NEON's 32 registers of 4 hold the same 6 x 16.
WIDE = "avx512f" in FEATURES
VECTOR_BYTES = 64 if WIDE else 32
TILE_ROWS = 13 if WIDE else 6
HAS_BFLOAT16 = WIDE and "avx512bf16" in FEATURES  # whether there is a tile for pairs of bfloat16
# Zen 4 and Zen 5 start such an instruction as often as a float32 one, which does half the work; Intel's
# cores half as often, and gain nothing but by AMX.
HAS_FAST_BFLOAT16 = HAS_BFLOAT16 and llvm.get_host_cpu_name().startswith("znver")


def declared(builder: Any, name: str, result: Any, arguments: list[Any]) -> Any:
    """The function of LLVM's or of another module that a module calls by this name."""
    known = builder.module.globals.get(name)
    return known or ir.Function(builder.module, ir.FunctionType(result, arguments), name)


def _fused(builder: Any, a: Any, b: Any, total: Any) -> Any:
    """total + a b, rounded once."""
    vector = total.type
    kind = "f32" if vector.element == ir.FloatType() else "f64"
    function = declared(builder, f"llvm.fma.v{vector.count}{kind}", vector, [vector] * 3)
    return builder.call(function, [a, b, total])


def _fused_pairs(builder: Any, a: Any, b: Any, total: Any) -> Any:
    """total + a b for vectors whose every word is a pair of bfloat16."""
    pairs = ir.VectorType(ir.IntType(32), 16)
    function = declared(builder, "llvm.x86.avx512bf16.dpbf16ps.512", total.type, [total.type, pairs, pairs])
    return builder.call(function, [total, builder.bitcast(a, pairs), builder.bitcast(b, pairs)])


def _prefetch(builder: Any, address: Any) -> None:
    """Bring the cache line at an address near, but not into the first level, which a tile fills with B."""
    number, pointer = ir.IntType(32), ir.IntType(8).as_pointer()
    function = declared(builder, "llvm.prefetch.p0i8", ir.VoidType(), [pointer, *[number] * 3])
    read, second_level, data = number(0), number(2), number(1)
    builder.call(function, [builder.inttoptr(address, pointer), read, second_level, data])


def order(places: list[int]) -> Any:
    """Which elements of two vectors, one behind the other, `shuffle_vector` takes."""
    return ir.Constant(ir.VectorType(ir.IntType(32), len(places)), places)


def spread(builder: Any, number: Any, lanes: int) -> Any:
    """A vector whose every element is this number."""
    undefined = ir.Constant(ir.VectorType(number.type, lanes), ir.Undefined)
    first = builder.insert_element(undefined, number, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(first, undefined, order([0] * lanes))


class Tile(NamedTuple):
    """C = init + A B: up to TILE_ROWS rows, two vectors of columns, k from 0 to depth - 1 in order.

    Addresses, and strides in elements (of bfloat16: words). While code is emitted, LLVM's values for them.
    """

    rows: int
    init: int  # (rows, 2 vectors)
    init_row: int
    a: int  # (rows, depth), at a + row * a_row + k * a_k
    a_row: int
    a_k: int
    b: int  # (depth, 2 vectors)
    b_k: int
    c: int  # (rows, 2 vectors)
    c_row: int
    depth: int
    ahead: int  # at each k, the cache line at the address ahead + k * ahead_k is prefetched
    ahead_k: int  # in bytes


def _emit_tile(builder: Any, multiply_add: Any, vector: Any, rows: int, tile: Any) -> None:
    """The code for so many rows; `init`, `a`, `b` and `c` are pointers."""
    _, init, init_row, a, a_row, a_k, b, b_k, c, c_row, depth, ahead, ahead_k = tile
    item = vector.element
    word = depth.type
    align = 4 if item == ir.FloatType() else 8

    def at(base: Any, *offsets: Any) -> Any:
        for offset in offsets:
            base = builder.gep(base, [offset], source_etype=item)
        return base

    def load_vector(pointer: Any) -> Any:
        return builder.load(builder.bitcast(pointer, vector.as_pointer()), align=align, typ=vector)

    def times(k: int, stride: Any) -> Any:
        return builder.mul(stride, ir.Constant(word, k))

    second = ir.Constant(word, vector.count)
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
    _prefetch(builder, builder.add(ahead, builder.mul(k, ahead_k)))
    done = []
    for r in range(rows):
        scalar = builder.load(at(a_at, times(r, a_row)), align=align, typ=item)
        broadcast = spread(builder, scalar, vector.count)
        done.append(multiply_add(builder, broadcast, left, total[2 * r]))
        done.append(multiply_add(builder, broadcast, right, total[2 * r + 1]))
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


@intrinsic
def _all_tiles(typingctx: Any, number: Any, tile: Any) -> Any:
    """A switch over the number of rows, 1 to TILE_ROWS, with a loop for each; `number` is of A's type."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pairs = number == types.uint32
        item = context.get_value_type(types.float32 if pairs else number)
        vector = ir.VectorType(item, VECTOR_BYTES // (number.bitwidth // 8))
        words = Tile(*cgutils.unpack_tuple(builder, args[1]))
        rows: Any = words.rows
        arrays = {name: getattr(words, name) for name in ("init", "a", "b", "c")}
        pointers = {name: builder.inttoptr(at, item.as_pointer()) for name, at in arrays.items()}
        finish = builder.append_basic_block("finish")
        choose = builder.switch(rows, finish)
        for height in range(1, TILE_ROWS + 1):
            block = builder.append_basic_block(f"tile{height}")
            choose.add_case(ir.Constant(rows.type, height), block)
            builder.position_at_end(block)
            multiply_add = _fused_pairs if pairs else _fused
            _emit_tile(builder, multiply_add, vector, height, words._replace(**pointers))
            builder.branch(finish)
        builder.position_at_end(finish)
        return context.get_dummy_value()

    return types.void(number, tile), codegen


def _tile_float32(tile: Tile) -> None:
    _all_tiles(np.float32(0), tile)


def _tile_float64(tile: Tile) -> None:
    _all_tiles(np.float64(0), tile)


def _tile_pairs(tile: Tile) -> None:
    _all_tiles(np.uint32(0), tile)


_TILES = {"float32": _tile_float32, "float64": _tile_float64, "bfloat16": _tile_pairs}


def tile_address(precision: str) -> int:
    """Where the tile for float32, float64 or bfloat16 begins, compiled when it is first asked for.

    There is one copy of its machine code, which kernels call: linked into each of them, as Numba would do,
    it took a third of the time that compiling them takes.
    """
    return address_of(_TILES[precision], f"tile.{precision}")
