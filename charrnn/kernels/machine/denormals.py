"""Flushing denormal numbers to zero: on some CPUs they slow a product down 200-fold."""

from __future__ import annotations

import platform
from typing import Any

from llvmlite import ir
from numba import types

from charrnn.kernels.machine.emitted import BYTE, WORD, declared, emitted
from charrnn.kernels.machine.jit import JIT_DISABLED, njit

_FLUSH_TO_ZERO_AND_DENORMALS_ARE_ZERO = 0x8040  # bits 15 and 6 of MXCSR


@emitted(types.void())
def _flush_x86(builder: Any) -> None:
    register = builder.alloca(WORD)
    pointer = builder.bitcast(register, BYTE.as_pointer())
    store, load = (
        declared(builder, f"llvm.x86.sse.{name}", ir.VoidType(), [pointer.type])
        for name in ("stmxcsr", "ldmxcsr")
    )
    builder.call(store, [pointer])
    bits = builder.or_(builder.load(register, typ=WORD), WORD(_FLUSH_TO_ZERO_AND_DENORMALS_ARE_ZERO))
    builder.store(bits, register)
    builder.call(load, [pointer])


if not JIT_DISABLED and platform.machine().lower() in ("x86_64", "amd64"):

    @njit()
    def flush_denormals() -> None:
        """Treat denormal numbers as zero in this thread from now on."""
        _flush_x86()

else:  # ARM computes with denormals at full speed

    def flush_denormals() -> None:
        """Nothing to do on this CPU."""
