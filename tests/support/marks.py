"""Which tests start a process or need kernels: seen from the names that a test and its fixtures use."""

from __future__ import annotations

import functools
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from types import CodeType, FunctionType, ModuleType
from typing import Any, NoReturn

import pytest

# Modules of which the functions start a process: expressions are read by one.
PROCESSES = (
    "charrnn.constraints", "measure", "multiprocessing", "pty", "subprocess", "support.mpirun",
    "support.processes",
)  # fmt: skip
# And those of which the functions may compile, or load what is compiled.
KERNELS = (
    "charrnn.api", "charrnn.counts.learning", "charrnn.counts.compiled", "charrnn.counts.growing",
    "charrnn.generation", "charrnn.inference", "charrnn.kernels", "charrnn.neurons", "charrnn.nn",
    "charrnn.scoring", "charrnn.search", "charrnn.serving", "charrnn.tasks", "charrnn.training.run", "numba",
    "support.calls", "support.clients", "support.compiled_loop", "support.warming",
)  # fmt: skip
PLAIN = {"charrnn.tasks.fields", "charrnn.tasks.shares"}  # modules that call none


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


@functools.cache
def _found(function: FunctionType) -> tuple[frozenset[str], frozenset[FunctionType]]:
    """The modules of all that a function uses by name, and the functions of the tests among it."""
    modules: set[str] = set()
    functions: set[FunctionType] = set()
    names = {*_names(function.__code__)}
    values = [function.__globals__[name] for name in names & function.__globals__.keys()]
    for found in values:
        if isinstance(found, ModuleType):
            modules.add(found.__name__)
            if found.__name__.startswith("support."):  # its functions are attributes, which are names, too
                values += [vars(found)[name] for name in names & vars(found).keys()]
            continue
        module = getattr(found, "__module__", None) or ""
        modules.add(module)
        if module.startswith(("test_", "support.")):
            functions |= {one for one in (found, *vars(found).values()) if isinstance(one, FunctionType)}
    return frozenset(modules), frozenset(functions)


@functools.cache
def _used(those: tuple[FunctionType, ...]) -> set[str]:
    """The modules of all that those functions use, directly or by way of functions of the tests."""
    modules: set[str] = set()
    seen: set[FunctionType] = set()
    functions = set(those)
    while functions:
        function = functions.pop()
        seen.add(function)
        its_modules, its_functions = _found(function)
        modules |= its_modules
        functions |= its_functions - seen
    return modules


@functools.cache
def _is_in(module: str, rooms: tuple[str, ...]) -> bool:
    return f"{module}.".startswith(tuple(f"{room}." for room in rooms))


@functools.cache
def _markers(those: tuple[FunctionType, ...]) -> list[str]:
    used = _used(those) - PLAIN
    rooms = {"process": PROCESSES, "compiled": KERNELS}
    return [marker for marker in rooms if any(_is_in(module, rooms[marker]) for module in used)]


def mark(item: pytest.Function) -> None:
    """Add the markers `process` and `compiled` where the test uses what may start one, or call kernels."""
    fixtures = [
        one.func for name in item.fixturenames for one in item._fixtureinfo.name2fixturedefs.get(name, ())
    ]
    test = getattr(item.obj, "hypothesis", None)
    functions = [item.function, *fixtures, *([test.inner_test] if test else [])]
    for marker in _markers(tuple(one for one in functions if isinstance(one, FunctionType))):
        item.add_marker(marker)


def hold_to_marks(item: pytest.Item, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a test without a marker, which `make quick` runs, fail if it starts a process or calls a kernel."""
    from numba.core.dispatcher import Dispatcher

    if not {"process", "compiled"} & {*item.keywords}:
        monkeypatch.setattr(subprocess.Popen, "__init__", _refusal("process"))
        monkeypatch.setattr(os, "fork", _refusal("process"), raising=False)
        earlier = {*threading.enumerate()} - {threading.current_thread()}
        compile_it, refuse = Dispatcher.compile, _refusal("compiled")

        def compile_for_others(self: Any, *types: Any) -> Any:
            # A test before this one may have left a thread that still loads kernels.
            return compile_it(self, *types) if threading.current_thread() in earlier else refuse()

        monkeypatch.setattr(Dispatcher, "compile", compile_for_others)


def _refusal(marker: str) -> Callable[..., NoReturn]:
    def refuse(*_: Any, **__: Any) -> NoReturn:
        pytest.fail(f"this test needs the marker `{marker}`: make quick would run it")

    return refuse
