"""The filters for the compiled loop: each is machine code of its own, compiled only if it is active."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import carray, types
from numba.extending import overload, register_jitable

from charrnn.inference import filters, sampling
from charrnn.inference.filters import Setting
from charrnn.kernels.machine.emitted import BYTE, emitted
from charrnn.kernels.machine.generated import generated
from charrnn.kernels.machine.jit import njit
from charrnn.kernels.machine.native_calls import address_of, call


@functools.cache
def register(function: Callable[..., Any]) -> None:
    """Let compiled code call the function, which is then compiled into it, without wrappers for others."""
    register_jitable(no_cpython_wrapper=True, no_cfunc_wrapper=True)(function)


@emitted(types.voidptr(types.intp))
def _pointer(builder: Any, address: Any) -> Any:
    return builder.inttoptr(address, BYTE.as_pointer())


@njit()
def _view(address: int, n: int, dtype: Any) -> Any:
    return carray(_pointer(address), (n,), dtype)


# What a filter reads, in terms of the addresses and sizes that its machine code takes.
_READ = {
    "logits": "view(x, V, float64)",
    "p": "view(x, V, float64)",
    "heap": "view(heap, V, int64)",
    "keys": "view(keys, V, float64)",
    "recent": "view(recent, W, int64)",
    "breakers": "view(breakers, V, bool_)",
    "memory": "view(memory, 1, float64)[0]",
    "probability": "view(probability, 1, float64)[0]",
}
_APPLY = "V, x, heap, keys, W, recent, breakers, memory, settings"
_FOLLOW = "probability, memory, settings"


@functools.cache
def code(line: Setting) -> tuple[int, int]:
    """The addresses of the functions that apply a filter and that follow a text for it, or 0."""
    assert line.apply is not None
    follow = 0
    if line.follow is not None:
        follow = address_of(_of_addresses(line, line.follow, _FOLLOW, "view(memory, 1, float64)[0] = {}"))
    return address_of(_of_addresses(line, line.apply, _APPLY, "{}")), follow


def _of_addresses(line: Setting, function: Callable[..., Any], head: str, body: str) -> Callable[..., None]:
    """A function that takes addresses and calls this one."""
    _make_compilable(function)
    reads = {**_READ}
    for n, name in enumerate(line.settings):
        number = f"view(settings, {len(line.settings)}, float64)[{n}]"
        reads[name] = f"int({number})" if function.__annotations__.get(name) in ("int", int) else number
    arguments = ", ".join(reads[name] for name in filters.reads(function))
    names: dict[str, Any] = {
        "__name__": __name__, "function": function,
        "view": _view, "float64": np.float64, "int64": np.int64, "bool_": np.bool_,
    }  # fmt: skip
    return generated(function.__name__, head, [body.format(f"function({arguments})")], names, function)


@functools.cache
def _make_compilable(function: Callable[..., Any]) -> None:
    """Register the function and those that it calls in its module."""
    for callee in map(function.__globals__.get, function.__code__.co_names):
        if inspect.isfunction(callee):
            _make_compilable(callee)
    register(function)


def chain(config: filters.Filters) -> sampling.Chain:
    """The filters that are on, for the loop."""
    plain, on = sampling.chain(config), filters.active(config)
    codes = np.array([code(line) for line in on], np.int64).reshape(-1, 2)
    settings = np.zeros((len(on), max([len(line.settings) for line in on], default=0)))
    for row, line in zip(settings, on, strict=True):
        row[: len(line.settings)] = [getattr(config, name) for name in line.settings]
    return plain._replace(apply=codes[:, 0].copy(), follow=codes[:, 1].copy(), settings=settings)


@overload(sampling.apply)
def _apply(chain, first, last, x, space, past):  # type: ignore[no-untyped-def]
    def loop(chain, first, last, x, space, past):  # type: ignore[no-untyped-def]
        recent, breakers = past.recent, past.breakers
        for k in range(first, last):
            call(
                chain.apply[k],
                (
                    len(x), x.ctypes.data, space.heap.ctypes.data, space.keys.ctypes.data,
                    len(recent), recent.ctypes.data, breakers.ctypes.data,
                    past.memory[k:].ctypes.data, chain.settings[k].ctypes.data,
                ),
            )  # fmt: skip

    return loop


@overload(sampling.follow)
def _follow(chain, memory, probability):  # type: ignore[no-untyped-def]
    def loop(chain, memory, probability):  # type: ignore[no-untyped-def]
        given = np.full(1, probability)
        for k in range(len(chain.follow)):
            if chain.follow[k] != 0:
                address, settings = memory[k:].ctypes.data, chain.settings[k].ctypes.data
                call(chain.follow[k], (given.ctypes.data, address, settings))

    return loop
