"""The microkernel for bfloat16 on CPUs with AMX, whose instructions multiply 16 x 32 by 32 x 16 numbers.

Intel's Architecture Instruction Set Extensions Programming Reference, chapter 3: eight registers of 16 rows
of 64 bytes each, whose sizes `ldtilecfg` sets; `tdpbf16ps` adds to C (16 x 16 float32) the product of A (16
rows of 16 pairs) and B (16 rows of 16 pairs, row k of which holds the pairs of k for 16 columns).

Linux grants the registers to a process that requests them. Since some hypervisors advertise AMX without
supporting it, the tile is used only after it has computed a few products correctly.
"""

from __future__ import annotations

import ctypes
import functools
import platform
import sys
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from charrnn.kernels.machine.emitted import BYTE, HALF, NUMBER, declared, emitted, store
from charrnn.kernels.machine.jit import JIT_DISABLED
from charrnn.kernels.machine.native_calls import compiled
from charrnn.kernels.products.tile import FEATURES, HAS_BFLOAT16, Tile

ROWS = 32  # rows of C per call: two registers high
_SIDE = 16  # rows of a register, and words per row
_COLUMNS = 2 * _SIDE  # of a panel
_C, _A, _B = ((0, 1), (2, 3)), (4, 5), (6, 7)  # registers: C by half of the rows and of the columns
_ARCH_PRCTL, _ARCH_REQ_XCOMP_PERM, _XFEATURE_XTILEDATA = 158, 0x1023, 18


def emit_tile(builder: Any, tile: Any, prefix: str = "llvm.x86.") -> None:
    """Emit the code of a `Tile` of 1 to ROWS rows and 32 columns.

    a_k must be 1. The depth is rounded up to a multiple of 16 words: up to there A must be readable, and B
    zero. Nothing is prefetched: the loop has too few iterations.
    The names of instructions begin with `prefix`, so that a test can substitute an emulator.
    """
    rows, init, init_row, a, a_row, _, b, b_k, c, c_row, depth, _, _ = tile
    number = rows.type

    def bytes_of(words: Any) -> Any:
        return builder.shl(words, number(2))

    def beyond(address: Any, rows: Any, stride: Any, column: int = 0) -> Any:
        """The address of a word, given its row and column from another address."""
        offset = bytes_of(builder.add(builder.mul(rows, stride), number(column)))
        return builder.add(address, offset)

    def instruction(name: str, *values: Any) -> None:
        kinds = [value.type for value in values]
        builder.call(declared(builder, prefix + name, ir.VoidType(), kinds), values)

    def move(name: str, register: int, address: Any, stride: Any) -> None:
        pointer = builder.inttoptr(address, BYTE.as_pointer())
        instruction(name, BYTE(register), pointer, bytes_of(stride))

    def emit_halves(halves: int) -> None:
        """For up to 16 rows (one half), or for more (two)."""
        low = number(_SIDE) if halves == 2 else rows
        _emit_configuration(builder, instruction, [low, builder.sub(rows, low)][:halves])
        starts = [number(0), low][:halves]
        blocks = [(half, side) for half in range(halves) for side in range(2)]
        for half, side in blocks:
            at = beyond(init, starts[half], init_row, side * _SIDE)
            move("tileloadd64", _C[half][side], at, init_row)
        with cgutils.for_range_slice(builder, number(0), depth, number(_SIDE)) as (k, _count):
            for side in range(2):
                move("tileloadd64", _B[side], beyond(b, k, b_k, side * _SIDE), b_k)
            for half, side in blocks:
                if not side:
                    move(
                        "tileloadd64",
                        _A[half],
                        builder.add(beyond(a, starts[half], a_row), bytes_of(k)),
                        a_row,
                    )
                instruction("tdpbf16ps", BYTE(_C[half][side]), BYTE(_A[half]), BYTE(_B[side]))
        for half, side in blocks:
            move("tilestored64", _C[half][side], beyond(c, starts[half], c_row, side * _SIDE), c_row)

    with builder.if_else(builder.icmp_signed(">", rows, number(_SIDE))) as (more, few):
        with more:
            emit_halves(2)
        with few:
            emit_halves(1)
    instruction("tilerelease")  # the system then has nothing to save when it switches threads


def _emit_configuration(builder: Any, instruction: Any, heights: list[Any]) -> None:
    """Palette 1, 64 bytes per row: A and C have the height of their half, B has 16 rows."""
    memory = cgutils.alloca_once(builder, ir.ArrayType(NUMBER, 8))
    start = builder.bitcast(memory, BYTE.as_pointer())

    def put(offset: int, value: Any) -> None:
        store(builder, value, builder.gep(start, [NUMBER(offset)], source_etype=BYTE), 1)

    for offset in range(0, 64, 8):
        put(offset, NUMBER(0))
    put(0, BYTE(1))
    sizes = {register: BYTE(_SIDE) for register in _B}
    for half, height in enumerate(heights):
        for register in (*_C[half], _A[half]):
            sizes[register] = builder.trunc(height, BYTE)
    for register, height in sizes.items():
        put(16 + 2 * register, HALF(4 * _SIDE))
        put(48 + register, height)
    instruction("ldtilecfg", start)


@emitted(lambda tile: types.void(tile))
def _emitted(builder: Any, tile: Any) -> None:
    emit_tile(builder, cgutils.unpack_tuple(builder, tile))


def _tile(tile: Tile) -> None:
    _emitted(tile)


@functools.cache
def tile_address() -> int:
    """The address of the tile; 0 if AMX does not work here."""
    here = sys.platform == "linux" and platform.machine() == "x86_64" and not JIT_DISABLED
    if not (here and HAS_BFLOAT16 and {"amx-tile", "amx-bf16"} <= FEATURES and _granted()):
        return 0
    address = compiled(_tile)
    # On x86-64, the fields of the tuple are passed like separate arguments.
    function = ctypes.CFUNCTYPE(None, *[ctypes.c_ssize_t] * len(Tile._fields))(address)
    return address if multiplies(function) else 0


def _granted() -> bool:
    """Whether the system lets all threads of this process use the registers."""
    try:
        system = ctypes.CDLL(None, use_errno=True).syscall
    except (OSError, AttributeError):
        return False
    return bool(system(_ARCH_PRCTL, _ARCH_REQ_XCOMP_PERM, _XFEATURE_XTILEDATA) == 0)


def multiplies(tile: Any) -> bool:
    """Whether a tile, called as a C function, is exact on small integers, which need no rounding."""
    random = np.random.default_rng(1)
    for rows, depth, spare in ((1, 1, 0), (16, 40, 3), (17, 16, 0), (25, 33, 16), (ROWS, 64, 5)):
        whole = -(-depth // _SIDE) * _SIDE
        a = random.integers(-8, 9, (rows, whole + spare, 2)).astype(np.float32)
        b = random.integers(-8, 9, (whole, _COLUMNS + spare, 2)).astype(np.float32)
        b[depth:] = 0
        init = random.integers(-8, 9, (rows, _COLUMNS + spare)).astype(np.float32)
        c = np.zeros((rows, _COLUMNS + 2 * spare), np.float32)
        left, right = _words(a), _words(b)
        tile(
            rows, init.ctypes.data, init.shape[1], left.ctypes.data, left.shape[1], 1,
            right.ctypes.data, right.shape[1], c.ctypes.data, c.shape[1], depth, 0, 0,
        )  # fmt: skip
        expected = np.zeros_like(c)
        product = np.einsum("rki,kni->rn", a[:, :depth].astype(np.float64), b[:depth, :_COLUMNS])
        expected[:, :_COLUMNS] = init[:, :_COLUMNS] + product
        if not np.array_equal(c, expected):
            return False
    return True


def _words(numbers: Any) -> Any:
    """Pairs of float32 that bfloat16 represents exactly, (.., 2), as words, (..)."""
    halves = numbers.view(np.uint32) >> 16
    return np.ascontiguousarray(halves[..., 0] | halves[..., 1] << 16)
