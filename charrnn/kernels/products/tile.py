"""The register-tiled microkernel, the inner loop of every matrix product, written as LLVM vector code.

There is a tile for float32, one for float64 (the gradient checks) and, on CPUs with AVX512_BF16, one for
bfloat16 with float32 sums. The last equals the first with words in place of numbers: each word of A and B is
a pair of bfloat16 with successive k, and an instruction adds both products to the sum.

LLVM does not generate this code from loops over arrays: in this IR, the accumulators stay in registers, and
a product of 25 rows reaches 85-100 % of the float32 peak, where `np.dot` reaches 40-60 %.

Since it needs little memory bandwidth, a tile also prefetches the data that is used next.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils, config

from charrnn.kernels.machine.emitted import (
    DOUBLE,
    FLOAT,
    WORD,
    accumulated,
    declared,
    emitted,
    load,
    prefetch,
    spread,
    store,
    switch,
)
from charrnn.kernels.machine.native_calls import address_of


def _cpu_features() -> frozenset[str]:
    """The x86 features that Numba compiles for, which may be fewer than the CPU has; empty if unknown."""
    if config.CPU_FEATURES is not None:
        return frozenset(name[1:] for name in config.CPU_FEATURES.split(",") if name.startswith("+"))
    if config.CPU_NAME not in (None, "host"):
        return frozenset()
    try:
        return frozenset(name for name, there in llvm.get_host_cpu_features().items() if there)
    except RuntimeError:
        return frozenset()


FEATURES = _cpu_features()
# 32 registers of 16 floats hold 13 x 2 accumulators, two vectors of B and a broadcast; 16 registers of 8
# (AVX2) hold 6 x 2 accumulators. NEON's 32 registers of 4 hold the same tile, 6 x 16.
WIDE = "avx512f" in FEATURES
VECTOR_BYTES = 64 if WIDE else 32
TILE_ROWS = 13 if WIDE else 6
HAS_BFLOAT16 = WIDE and "avx512bf16" in FEATURES  # whether there is a tile for pairs of bfloat16
# Zen 4 and Zen 5 issue these instructions at the rate of float32 ones, which do half the work; Intel's cores
# issue them at half the rate, so that only AMX is faster than float32.
HAS_FAST_BFLOAT16 = HAS_BFLOAT16 and llvm.get_host_cpu_name().startswith("znver")


def _fused(builder: Any, a: Any, b: Any, total: Any) -> Any:
    """total + a b, rounded once."""
    vector = total.type
    kind = "f32" if vector.element == FLOAT else "f64"
    function = declared(builder, f"llvm.fma.v{vector.count}{kind}", vector, [vector] * 3)
    return builder.call(function, [a, b, total])


def _fused_pairs(builder: Any, a: Any, b: Any, total: Any) -> Any:
    """total + a b for vectors of pairs of bfloat16."""
    pairs = ir.VectorType(WORD, 16)
    function = declared(builder, "llvm.x86.avx512bf16.dpbf16ps.512", total.type, [total.type, pairs, pairs])
    return builder.call(function, [total, builder.bitcast(a, pairs), builder.bitcast(b, pairs)])


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
    """Emit the code for so many rows; `init`, `a`, `b` and `c` are pointers."""
    _, init, init_row, a, a_row, a_k, b, b_k, c, c_row, depth, ahead, ahead_k = tile
    item = vector.element
    align = 4 if item == FLOAT else 8
    numbers = [depth.type(r) for r in range(rows)]

    def at(base: Any, number: Any, stride: Any) -> Any:
        return builder.gep(base, [builder.mul(stride, number)], source_etype=item)

    def two_vectors(row: Any) -> list[Any]:
        return [row, builder.gep(row, [depth.type(vector.count)], source_etype=item)]

    def load_two(row: Any) -> list[Any]:
        return [load(builder, pointer, vector, align) for pointer in two_vectors(row)]

    def step(k: Any, sums: list[Any]) -> list[Any]:
        columns = load_two(at(b, k, b_k))
        a_k_th = at(a, k, a_k)
        prefetch(builder, 2, builder.add(ahead, builder.mul(k, ahead_k)))
        done = []
        for r in range(rows):
            x = spread(builder, load(builder, at(a_k_th, numbers[r], a_row), item, align), vector.count)
            done += [multiply_add(builder, x, y, sums[2 * r + side]) for side, y in enumerate(columns)]
        return done

    start = [value for r in numbers for value in load_two(at(init, r, init_row))]
    results = accumulated(builder, start, depth, step)
    pointers = [pointer for r in numbers for pointer in two_vectors(at(c, r, c_row))]
    for value, pointer in zip(results, pointers, strict=True):
        store(builder, value, pointer, align)


@emitted(lambda number, tile: types.void(number, tile))
def _all_tiles(builder: Any, number: Any, tile: Any) -> None:
    """A switch over the number of rows, 1 to TILE_ROWS, with a loop for each; `number` is of A's type."""
    pairs = number.type == WORD
    item = FLOAT if pairs else number.type
    vector = ir.VectorType(item, VECTOR_BYTES // (8 if item == DOUBLE else 4))
    words = Tile(*cgutils.unpack_tuple(builder, tile))
    arrays = {name: getattr(words, name) for name in ("init", "a", "b", "c")}
    pointers = {name: builder.inttoptr(at, item.as_pointer()) for name, at in arrays.items()}
    emit = functools.partial(_emit_tile, builder, _fused_pairs if pairs else _fused, vector)
    tiles = {
        rows: functools.partial(emit, rows, words._replace(**pointers)) for rows in range(1, TILE_ROWS + 1)
    }
    switch(builder, words.rows, tiles)


def _tile_float32(tile: Tile) -> None:
    _all_tiles(np.float32(0), tile)


def _tile_float64(tile: Tile) -> None:
    _all_tiles(np.float64(0), tile)


def _tile_pairs(tile: Tile) -> None:
    _all_tiles(np.uint32(0), tile)


_TILES = {"float32": _tile_float32, "float64": _tile_float64, "bfloat16": _tile_pairs}


def tile_address(precision: str) -> int:
    """The address of the tile for float32, float64 or bfloat16, compiled on first use.

    Kernels share one copy of its machine code: linked into each of them, as Numba would do, it took a third
    of their compilation time.
    """
    return address_of(_TILES[precision], f"tile.{precision}")
