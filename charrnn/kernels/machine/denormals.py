"""Denormal numbers as zero, for the calling thread: they slow a product down 200-fold on some CPUs."""

from __future__ import annotations

import platform
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from charrnn.kernels.machine.jit import JIT_DISABLED, njit

_FLUSH_TO_ZERO_AND_DENORMALS_ARE_ZERO = 0x8040  # bits 15 and 6 of MXCSR


@intrinsic
def _flush_x86(typingctx: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        word = ir.IntType(32)
        register = builder.alloca(word)
        pointer = builder.bitcast(register, ir.IntType(8).as_pointer())
        kind = ir.FunctionType(ir.VoidType(), [ir.IntType(8).as_pointer()])
        for name, between in (("stmxcsr", True), ("ldmxcsr", False)):
            full = f"llvm.x86.sse.{name}"
            function = builder.module.globals.get(full) or ir.Function(builder.module, kind, full)
            builder.call(function, [pointer])
            if between:
                bits = ir.Constant(word, _FLUSH_TO_ZERO_AND_DENORMALS_ARE_ZERO)
                builder.store(builder.or_(builder.load(register, typ=word), bits), register)
        return context.get_dummy_value()

    return types.void(), codegen


if not JIT_DISABLED and platform.machine().lower() in ("x86_64", "amd64"):

    @njit()
    def flush_denormals() -> None:
        """Treat denormal numbers as zero in this thread from now on."""
        _flush_x86()

else:  # ARM computes with denormals at full speed

    def flush_denormals() -> None:
        """Nothing to do on this CPU."""
