"""Functions for kernels that are written as LLVM IR, and parts that such code shares."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

from llvmlite import ir
from numba.core.typing.templates import Signature
from numba.extending import intrinsic

FLOAT, DOUBLE, BYTE, HALF, WORD, NUMBER = (
    ir.FloatType(), ir.DoubleType(), ir.IntType(8), ir.IntType(16), ir.IntType(32), ir.IntType(64),
)  # fmt: skip


def emitted(signature: Any) -> Callable[[Any], Any]:
    """Turns emit(builder, *values), which emits LLVM IR, into a function that kernels can call.

    `signature` is Numba's, or a function that returns it for the types of the arguments.
    """

    def decorate(emit: Any) -> Any:
        @functools.wraps(emit)  # Numba takes the names of the parameters from it
        def typed(typingctx: Any, *arguments: Any) -> Any:
            def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
                result = emit(builder, *args)
                return context.get_dummy_value() if result is None else result

            is_fixed = isinstance(signature, Signature)
            return signature if is_fixed else signature(*arguments), codegen

        return intrinsic(typed)

    return decorate


def load(builder: Any, address: Any, kind: Any, align: int = 4) -> Any:
    """The value at an address or a pointer."""
    return builder.load(_pointer(builder, address, kind), align=align, typ=kind)


def store(builder: Any, value: Any, address: Any, align: int = 4) -> None:
    builder.store(value, _pointer(builder, address, value.type), align=align)


def _pointer(builder: Any, address: Any, kind: Any) -> Any:
    cast = builder.bitcast if isinstance(address.type, ir.PointerType) else builder.inttoptr
    return cast(address, kind.as_pointer())


def prefetch(builder: Any, level: int, address: Any) -> None:
    """Prefetch the cache line at an address into the cache of this level."""
    pointer = BYTE.as_pointer()
    function = declared(builder, "llvm.prefetch.p0i8", ir.VoidType(), [pointer, *[WORD] * 3])
    read, locality, data = WORD(0), WORD(4 - level), WORD(1)
    builder.call(function, [builder.inttoptr(address, pointer), read, locality, data])


def declared(builder: Any, name: str, result: Any, arguments: list[Any]) -> Any:
    """The external function of this name, declared once in a module."""
    known = builder.module.globals.get(name)
    return known or ir.Function(builder.module, ir.FunctionType(result, arguments), name)


def order(places: list[int]) -> Any:
    """The mask of a `shuffle_vector`: indices into two concatenated vectors."""
    return ir.Constant(ir.VectorType(WORD, len(places)), places)


def spread(builder: Any, number: Any, lanes: int) -> Any:
    """A vector with this number in all lanes."""
    undefined = ir.Constant(ir.VectorType(number.type, lanes), ir.Undefined)
    first = builder.insert_element(undefined, number, WORD(0))
    return builder.shuffle_vector(first, undefined, order([0] * lanes))


def switch(builder: Any, number: Any, cases: Mapping[int, Callable[[], None]]) -> None:
    """A switch over a number; without a case for it, nothing is done."""
    finish = builder.append_basic_block("finish")
    choose = builder.switch(number, finish)
    for value, emit in cases.items():
        block = builder.append_basic_block(f"case{value}")
        choose.add_case(number.type(value), block)
        builder.position_at_end(block)
        emit()
        builder.branch(finish)
    builder.position_at_end(finish)


def accumulated(
    builder: Any, start: list[Any], depth: Any, step: Callable[[Any, list[Any]], list[Any]]
) -> list[Any]:
    """A loop over k < depth with its sums in registers: from `start`, by sums = step(k, sums)."""
    before = builder.block
    loop, after = (builder.append_basic_block(name) for name in ("k", "end"))
    builder.cbranch(builder.icmp_signed(">", depth, depth.type(0)), loop, after)

    builder.position_at_end(loop)
    k, *sums = (builder.phi(value.type) for value in (depth, *start))
    done = step(k, sums)
    following = builder.add(k, k.type(1))
    end = builder.block
    builder.cbranch(builder.icmp_signed("<", following, depth), loop, after)

    builder.position_at_end(after)
    results = [builder.phi(value.type) for value in start]
    for phi, first, last in zip([k, *sums], [k.type(0), *start], [following, *done], strict=True):
        phi.add_incoming(first, before)
        phi.add_incoming(last, end)
    for phi, first, last in zip(results, start, done, strict=True):
        phi.add_incoming(first, before)
        phi.add_incoming(last, end)
    return results
