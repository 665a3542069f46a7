"""Kernels with a single copy of machine code, which is called at its address.

Numba links the code of a callee into every caller, and LLVM optimises it again each time. A function that is
called at its address is compiled once, and only if its address is asked for.
"""

from __future__ import annotations

import ctypes
import functools
import threading
from collections.abc import Callable
from typing import Any, get_type_hints

import numpy as np
from llvmlite import ir
from numba import carray, types
from numba.core import cgutils
from numba.extending import intrinsic

from charrnn.kernels.machine.emitted import DOUBLE, FLOAT, NUMBER, emitted, load
from charrnn.kernels.machine.jit import (
    JIT_DISABLED,
    Task,
    cfunc,
    hold_while_forking,
    keeper,
    name_of,
    njit,
    quickly,
    recorded,
)

WORD = np.intp(np.dtype(np.intp).itemsize)  # the bytes of an integer in a table that `word_at` reads
_codes: dict[Any, Any] = {}  # keeps the machine code alive
_compiling = threading.RLock()
hold_while_forking(_compiling)
_nothing = ctypes.CFUNCTYPE(None)(lambda: None)  # a stand-in while calls are recorded


def address_of(function: Callable[..., None], name: str = "", *, needed: bool = True) -> int:
    """The address of a function's machine code, compiled if necessary. 0 without the JIT.

    Its parameters are integers or, if annotated so, named tuples of integers.
    `name` is its name in the list of tasks [module.function]; `needed`: other tasks must follow it.
    """

    @functools.cache
    def is_kept() -> Callable[[], bool]:
        code = _code(function)
        return keeper(code._cache, code._sig, code._targetdescr.target_context)

    def done() -> bool:
        return needed or _code(function).address is not None or is_kept()()

    if recorded(Task(name or name_of(function), lambda: address_of(function), needed, done)):
        return ctypes.cast(_nothing, ctypes.c_void_p).value or 0
    return 0 if JIT_DISABLED else compiled(function)


def compiled(function: Callable[..., None]) -> int:
    """The same as `address_of`, even while calls are recorded."""
    with _compiling:
        code = _code(function)
        if code.address is None:
            with quickly():
                code.compile()
        return int(code.address)


def _code(function: Callable[..., None]) -> Any:
    """The function's `cfunc`, which may not be compiled yet."""
    with _compiling:
        if function not in _codes:
            hints = get_type_hints(function)
            names = function.__code__.co_varnames[: function.__code__.co_argcount]
            signature = types.void(*(_type(hints.get(name, int)) for name in names))
            _codes[function] = cfunc(signature, function)
        return _codes[function]


def _type(hint: Any) -> Any:
    return types.intp if hint is int else types.NamedUniTuple(types.intp, len(hint._fields), hint)


@intrinsic
def call(typingctx: Any, address: Any, arguments: Any) -> Any:
    """Call the function at an address with a tuple of arguments: integers and tuples of integers."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        def unpacked(value: Any, kind: Any) -> list[Any]:
            return [passed(*part) for part in zip(cgutils.unpack_tuple(builder, value), kind, strict=True)]

        def passed(value: Any, kind: Any) -> Any:
            if isinstance(kind, types.BaseTuple):
                return cgutils.pack_array(builder, unpacked(value, kind))
            return context.cast(builder, value, kind, types.intp)

        values = unpacked(args[1], arguments)
        kind = ir.FunctionType(ir.VoidType(), [value.type for value in values])
        builder.call(builder.inttoptr(args[0], kind.as_pointer()), values)
        return context.get_dummy_value()

    return types.void(types.intp, arguments), codegen


@njit()
def _address(array: Any, element: int) -> int:
    """The address of an element of a C-contiguous array, by its flat index."""
    return np.intp(array.ctypes.data) + element * array.itemsize


@emitted(types.CPointer(types.float32)(types.intp))
def _floats(builder: Any, address: Any) -> Any:
    return builder.inttoptr(address, FLOAT.as_pointer())


@emitted(types.CPointer(types.float64)(types.intp))
def _doubles(builder: Any, address: Any) -> Any:
    return builder.inttoptr(address, DOUBLE.as_pointer())


@njit()
def _floats_at(address: int, n: int) -> Any:
    """The n numbers at an address, as an array of float32."""
    return carray(_floats(address), (n,))


@njit()
def _doubles_at(address: int, n: int) -> Any:
    """The same of float64."""
    return carray(_doubles(address), (n,))


@emitted(types.intp(types.intp))
def word_at(builder: Any, address: Any) -> Any:
    """The integer at an address."""
    return load(builder, address, NUMBER, 8)
