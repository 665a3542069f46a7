"""Functions for kernels that are written as LLVM code, and what such code is made of."""

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
    """A function for kernels from one of LLVM's builder and values, which emits its code.

    The signature is Numba's, or a function from the types of the arguments to it.
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
    """What lies at an address, or where a pointer points."""
    return builder.load(_pointer(builder, address, kind), align=align, typ=kind)


def store(builder: Any, value: Any, address: Any, align: int = 4) -> None:
    builder.store(value, _pointer(builder, address, value.type), align=align)


def _pointer(builder: Any, address: Any, kind: Any) -> Any:
    cast = builder.bitcast if isinstance(address.type, ir.PointerType) else builder.inttoptr
    return cast(address, kind.as_pointer())


def declared(builder: Any, name: str, result: Any, arguments: list[Any]) -> Any:
    """The function of LLVM's or of another module that a module calls by this name."""
    known = builder.module.globals.get(name)
    return known or ir.Function(builder.module, ir.FunctionType(result, arguments), name)


def order(places: list[int]) -> Any:
    """Which elements of two vectors, one behind the other, `shuffle_vector` takes."""
    return ir.Constant(ir.VectorType(WORD, len(places)), places)


def spread(builder: Any, number: Any, lanes: int) -> Any:
    """A vector whose every element is this number."""
    undefined = ir.Constant(ir.VectorType(number.type, lanes), ir.Undefined)
    first = builder.insert_element(undefined, number, WORD(0))
    return builder.shuffle_vector(first, undefined, order([0] * lanes))


def switch(builder: Any, number: Any, cases: Mapping[int, Callable[[], None]]) -> None:
    """Run the code that the case of this number emits; none: go on."""
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
    """Sums that stay in registers: `start`, and then for each k < depth what step(k, sums) makes of them."""
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
