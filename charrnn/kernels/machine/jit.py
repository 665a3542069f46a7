"""How kernels are compiled and where the machine code is kept.

Numba's own cache notices an edited function, but not an edited callee in another file. So the folder's
name holds a hash of every kernel's source and of the versions that compiled it: it is never stale.

Several processes may compile into the folder at the same time: each machine code is a file of its own, and
is there in full or not at all.
"""

from __future__ import annotations

import functools
import hashlib
import os
import pickle
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import llvmlite
import numba
import numpy as np
from numba.core.ccallback import CFunc
from numba.core.compiler_lock import global_compiler_lock
from numba.core.serialize import dumps
from numba.core.sigutils import normalize_signature

from charrnn.kernels.machine import cache

# What is compiled, below the package's folder. A cell's loops have a hash of its file in their names instead
# (see loops.equations): a new cell leaves the others' machine code valid.
COMPILED = (
    "kernels/**/*.py", "text/rolling_hash.py", "inference/filters.py", "inference/sampling.py",
    "inference/constrained_step.py", "inference/writing_loop.py", "scoring/rans.py", "scoring/rans_loop.py",
)  # fmt: skip


def _sources_hash() -> str:
    """Hash of all that decides what machine code comes out (Numba itself adds the CPU)."""
    digest = hashlib.sha256()
    package = Path(__file__).parents[2]
    for path in sorted({path for name in COMPILED for path in package.glob(name)}):
        name = path.relative_to(package).as_posix()
        digest.update(name.encode() + b"\0" + path.read_bytes() + b"\0")
    versions = (sys.version, numba.__version__, llvmlite.__version__, np.__version__)
    digest.update(repr(versions).encode())
    return digest.hexdigest()[:16]


CACHE_DIR = cache.folder(f"kernels-{_sources_hash()}")
LITTER_SECONDS = 3600.0  # from when on a temporary file is nobody's
JIT_DISABLED = bool(numba.config.DISABLE_JIT)  # kernels then run as plain Python
_decorating = threading.RLock()


def hold_while_forking(lock: Any) -> None:
    """A child process has no other thread than the one that forked: what another holds, nobody lets go of.

    Of several, those that are taken first must be given last.
    """
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=lock.acquire, after_in_parent=lock.release, after_in_child=lock.release)


hold_while_forking(global_compiler_lock)
hold_while_forking(_decorating)


class _Files:
    """Where a function's machine code is kept: one file for each signature and CPU, in place of Numba's own.

    Numba numbers the files, and lists them in an index. Two processes that compile different signatures at
    the same time would take the same number, and one's machine code would be called for the other's.
    """

    def __init__(self, folder: str, name: str) -> None:
        self._start = Path(folder) / name

    def path(self, key: Any) -> Path:
        """The file for Numba's key: the arguments' types, the CPU, and the function's bytecode."""
        digest = hashlib.sha256(repr(key).encode()).hexdigest()
        return self._start.with_name(f"{self._start.name}-{digest[:32]}.nbc")

    def load(self, key: Any) -> Any:
        """What was saved; None: nothing, or the file is damaged."""
        try:
            return pickle.loads(self.path(key).read_bytes())
        except Exception:  # a broken pickle may raise anything
            return None

    def save(self, key: Any, data: Any) -> None:
        """Keep it if that is possible: what cannot be written is compiled again by the next process."""
        path = self.path(key)
        temporary = path.with_suffix(f".{os.urandom(8).hex()}.tmp")
        _remove_litter(path.parent)
        with suppress(OSError):
            try:
                temporary.write_bytes(dumps(data))
                os.replace(temporary, path)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise


@functools.cache
def _remove_litter(folder: Path) -> None:
    """What processes left that were killed while they wrote. Once a process: others write in the meantime."""
    for temporary in folder.glob("*.tmp"):
        with suppress(OSError):
            if time.time() - temporary.stat().st_mtime > LITTER_SECONDS:
                temporary.unlink()


@dataclass(frozen=True)
class Task:
    """Something to compile, or to load from the cache."""

    name: str  # begins with that of the module of kernels
    run: Callable[[], object]
    needed: bool = False  # by other tasks, which must follow it
    done: Callable[[], bool] = lambda: True  # whether this process or the cache has it


_recorded = threading.local()


def record(calls: Callable[[], object]) -> list[Task]:
    """What `calls()` needs to have compiled, in its order.

    It runs in this thread, but a kernel that is not compiled for its arguments is not called, and gives None.
    """
    tasks: dict[str, Task] = {}
    _recorded.tasks = tasks
    try:
        calls()
    finally:
        del _recorded.tasks
    return list(tasks.values())


def recorded(task: Task) -> bool:
    """Whether calls are being recorded, and this task with them; otherwise it is to be run now."""
    tasks: dict[str, Task] | None = getattr(_recorded, "tasks", None)
    if tasks is None:
        return False
    tasks.setdefault(task.name, task)
    return True


def name_of(function: Callable[..., Any]) -> str:
    """Its name for the cache and in the list of tasks [module.function]."""
    return f"{function.__module__.rpartition('.')[2]}.{function.__name__}"


def njit(**options: Any) -> Callable[[Any], Any]:
    """`numba.njit` without the GIL; what Python calls is cached in CACHE_DIR when there is one.

    Nothing is fused or reordered (no fastmath), so that a result is the same on every CPU.

    A function whose name begins with "_" can be called from kernels alone, and is part of their machine code.
    """

    def decorate(function: Any) -> Any:
        inner = function.__name__.startswith("_")
        cached = CACHE_DIR is not None and not inner
        with _caching():
            kernel: Any = numba.njit(
                nogil=True,
                error_model="numpy",  # a check for division by zero would forbid vector code
                no_cfunc_wrapper=True,  # what is never called is not compiled
                no_cpython_wrapper=inner,
                cache=cached,
                **options,
            )(function)
        if inner or JIT_DISABLED:
            return kernel
        if cached:
            kernel._cache._cache_file = _Files(kernel._cache.cache_path, name_of(function))
        _make_recordable(kernel, name_of(function))
        return kernel

    return decorate


def cfunc(signature: Any, function: Callable[..., None]) -> Any:
    """What `numba.cfunc` makes, cached likewise: machine code with an address, after its `compile()`.

    `numba.cfunc` itself leaves no moment to put `_Files` in the place of Numba's cache.
    """
    with _caching():
        code: Any = CFunc(
            function, normalize_signature(signature), locals={}, options={"error_model": "numpy"}
        )
        if CACHE_DIR is not None:
            code.enable_caching()
            code._cache._cache_file = _Files(code._cache.cache_path, name_of(function))
    return code


def is_kept(cache: Any, types: Any, target: Any) -> bool:
    """Whether the cache that Numba has for a function, if any, has its machine code for these types."""
    files = getattr(cache, "_cache_file", None)
    return files is not None and files.path(cache._index_key(types, target.codegen())).exists()


@contextmanager
def _caching() -> Iterator[None]:
    # Numba reads the setting while it decorates; its other users in the process keep their own.
    with _decorating:
        before = numba.config.CACHE_DIR
        numba.config.CACHE_DIR = str(CACHE_DIR or "")
        try:
            yield
        finally:
            numba.config.CACHE_DIR = before


def _make_recordable(kernel: Any, name: str) -> None:
    """Let `record` see the kernel's first call with new types of arguments."""
    compile_for = kernel._compile_for_args  # Numba calls what this returns, with the same arguments

    def compile_or_record(*arguments: Any) -> Any:
        types = tuple(kernel.typeof_pyval(argument) for argument in arguments)

        def done() -> bool:
            return types in kernel.overloads or is_kept(kernel._cache, types, kernel.targetctx)

        task = Task(f"{name}{types}", lambda: kernel.compile(types), done=done)
        return (lambda *arguments: None) if recorded(task) else compile_for(*arguments)

    kernel._compile_for_args = compile_or_record
