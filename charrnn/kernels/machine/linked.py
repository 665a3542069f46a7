"""Machine code for those functions alone that something calls at an address.

Numba optimises each function and generates its machine code, even if it is only linked into callers, with
which LLVM optimises it again. Here a library of code is only linked at first; the rest of the work is done
when an address in it, or its machine code, is asked for.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from numba.core.codegen import JITCodeLibrary
from numba.core.registry import cpu_target

_thread = threading.local()


@contextmanager
def linked_first() -> Iterator[None]:
    """What this thread compiles meanwhile is linked first; others who use Numba here keep its way."""
    _install()
    before = getattr(_thread, "linked_first", False)
    _thread.linked_first = True
    try:
        yield
    finally:
        _thread.linked_first = before


class _Library(JITCodeLibrary):
    _is_complete = True

    def finalize(self) -> None:
        self._is_complete = not getattr(_thread, "linked_first", False)
        super().finalize()

    def _optimize_final_module(self) -> None:
        if self._is_complete:
            super()._optimize_final_module()

    def _finalize_final_module(self) -> None:
        if self._is_complete:
            super()._finalize_final_module()
        else:  # without handing it to the engine that generates machine code
            self._finalize_dynamic_globals()
            self._verify_declare_only_symbols()
            self._finalized = True

    def _complete(self) -> None:
        self._ensure_finalized()
        if not self._is_complete:
            self._is_complete = True
            self._optimize_final_module()
            self._final_module.verify()
            self._finalize_final_module()

    def get_pointer_to_function(self, name: str) -> Any:
        """The address, or 0: there is no such function, as of those that only kernels call."""
        self._ensure_finalized()
        if not self._is_complete:
            if all(function.name != name for function in self.get_defined_functions()):
                return 0
            self._complete()
        return super().get_pointer_to_function(name)

    def _get_compiled_object(self) -> Any:
        self._complete()
        return super()._get_compiled_object()

    def serialize_using_bitcode(self) -> Any:
        self._complete()
        return super().serialize_using_bitcode()


@functools.cache
def _install() -> None:
    codegen: Any = cpu_target.target_context.codegen()
    set_env = codegen.set_env

    def set_known_env(name: str, env: Any) -> None:
        # The environment of a function, which only messages need, has a place beside its machine code.
        if codegen._engine.is_symbol_defined(name):
            set_env(name, env)

    codegen._library_class = _Library
    codegen.set_env = set_known_env
