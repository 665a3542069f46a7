"""Compilation of kernels, and the cache of their machine code.

Numba's own cache notices an edited function, but not an edited callee in another file. So the folder's
name contains a hash of all kernels' sources and of the compiler's versions: the cache is never stale.

Several processes may compile into the folder at the same time: each compiled function is a file of its own,
which is written atomically.
"""

from __future__ import annotations

import functools
import gc
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
from numba.core.runtime import rtsys
from numba.core.serialize import dumps
from numba.core.sigutils import normalize_signature

from charrnn.kernels.machine import cache
from charrnn.kernels.machine.linked import linked_first

# The compiled sources in the package. Cells are not among them: their loops have a hash of the cell's file in
# their names (see loops.equations), so that a new cell leaves all other machine code valid.
COMPILED = (
    "kernels/**/*.py", "text/rolling_hash.py", "inference/filters.py", "inference/sampling.py",
    "inference/constrained_step.py", "inference/filter_code.py", "inference/writing_loop.py",
    "scoring/rans.py", "scoring/rans_loop.py",
)  # fmt: skip


def _sources_hash() -> str:
    """A hash of everything that the machine code depends on, except the CPU, which Numba adds."""
    digest = hashlib.sha256()
    package = Path(__file__).parents[2]
    for path in sorted({path for name in COMPILED for path in package.glob(name)}):
        name = path.relative_to(package).as_posix()
        digest.update(name.encode() + b"\0" + path.read_bytes() + b"\0")
    versions = (sys.version, numba.__version__, llvmlite.__version__, np.__version__)
    digest.update(repr(versions).encode())
    return digest.hexdigest()[:16]


CACHE_DIR = cache.folder(f"kernels-{_sources_hash()}")
LITTER_SECONDS = 3600.0  # the age at which a temporary file is abandoned
JIT_DISABLED = bool(numba.config.DISABLE_JIT)  # kernels then run as plain Python
_decorating = threading.RLock()


def hold_while_forking(lock: Any) -> None:
    """Hold the lock during a fork: in the child, no other thread is left to release it.

    Of several locks, pass the one that is acquired first last.
    """
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=lock.acquire, after_in_parent=lock.release, after_in_child=lock.release)


hold_while_forking(global_compiler_lock)
hold_while_forking(_decorating)


class _Files:
    """The files of a function's machine code, one for each signature and CPU, in place of Numba's own.

    Numba numbers its files and lists them in an index. Two processes that compile different signatures at
    the same time would take the same number, and one signature would get the other's machine code.

    Nor are they in Numba's subfolder for the source's path: copies of the package share their machine code.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self._start = folder / name

    def path(self, key: Any) -> Path:
        """The file for a key of Numba's: the arguments' types, the CPU, and the function's bytecode."""
        digest = hashlib.sha256(repr(key).encode()).hexdigest()
        return self._start.with_name(f"{self._start.name}-{digest[:32]}.nbc")

    def load(self, key: Any) -> Any:
        """The saved data. None: there is no file, or it is damaged."""
        try:
            return pickle.loads(self.path(key).read_bytes())
        except Exception:  # a broken pickle may raise anything
            return None

    def save(self, key: Any, data: Any) -> None:
        """Save the data, if possible; otherwise the next process compiles the function again."""
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
    """Remove temporary files of killed processes, once per process; recent ones may still be in use."""
    for temporary in folder.glob("*.tmp"):
        with suppress(OSError):
            if time.time() - temporary.stat().st_mtime > LITTER_SECONDS:
                temporary.unlink()


@dataclass(frozen=True)
class Task:
    """A function to compile, or to load from the cache."""

    name: str  # begins with the name of its module
    run: Callable[[], object]
    needed: bool = False  # other tasks need it and must follow
    done: Callable[[], bool] = lambda: True  # whether this process or the cache has the machine code


_recorded = threading.local()


def record(calls: Callable[[], object]) -> list[Task]:
    """The tasks that `calls()` depends on, in order.

    It runs in this thread, but a kernel that is not compiled for its arguments is skipped and returns None.
    What it would have written is then whatever was in that memory, of which NumPy does not warn.
    """
    tasks: dict[str, Task] = {}
    _recorded.tasks = tasks
    try:
        with np.errstate(all="ignore"):
            calls()
    finally:
        del _recorded.tasks
    return list(tasks.values())


def recorded(task: Task) -> bool:
    """Whether calls are being recorded, in which case the task is, too; otherwise it must run now."""
    tasks: dict[str, Task] | None = getattr(_recorded, "tasks", None)
    if tasks is None:
        return False
    tasks.setdefault(task.name, task)
    return True


def name_of(function: Callable[..., Any]) -> str:
    """The name of a function in the cache and in the list of tasks [module.function]."""
    return f"{function.__module__.rpartition('.')[2]}.{function.__name__}"


def njit(**options: Any) -> Callable[[Any], Any]:
    """`numba.njit` without the GIL; functions that Python calls are cached in CACHE_DIR, if there is one.

    Nothing is fused or reordered (no fastmath), so that results are the same on every CPU.

    A function whose name begins with "_" can be called only by kernels and is compiled into each of them.
    """

    def decorate(function: Any) -> Any:
        inner = function.__name__.startswith("_")
        cached = CACHE_DIR is not None and not inner
        with _caching():
            kernel: Any = numba.njit(
                nogil=True,
                error_model="numpy",  # a check for division by zero would forbid vector code
                no_cfunc_wrapper=True,  # which nothing would call
                no_cpython_wrapper=inner,
                cache=cached,
                **options,
            )(function)
        if inner or JIT_DISABLED:
            return kernel
        if cached and CACHE_DIR is not None:
            _keep(kernel._cache, CACHE_DIR, function)
        _make_recordable(kernel, name_of(function))
        return kernel

    return decorate


def cfunc(signature: Any, function: Callable[..., None]) -> Any:
    """The same as `numba.cfunc`, cached as by `njit`; it has an address after `compile()`.

    `numba.cfunc` itself compiles before `_Files` could replace Numba's cache.
    """
    with _caching():
        code: Any = CFunc(
            function, normalize_signature(signature), locals={}, options={"error_model": "numpy"}
        )
        if CACHE_DIR is not None:
            code.enable_caching()
            _keep(code._cache, CACHE_DIR, function)
    return code


def _keep(cache: Any, folder: Path, function: Callable[..., Any]) -> None:
    """Let Numba's cache for a function keep it in files of ours, and load it without what compilation needs.

    Numba would first import all that it knows how to compile, which takes longer than to load the machine
    code of a whole network. It still does so before it compiles.
    """

    def load(types: Any, target: Any) -> Any:
        rtsys.initialize(target)  # the machine code may allocate memory
        with cache._guard_against_spurious_io_errors():
            return cache._load_overload(types, target)

    cache._cache_file = _Files(folder, name_of(function))
    cache.load_overload = load


def keeper(cache: Any, types: Any, target: Any) -> Callable[[], bool]:
    """What says whether a function's Numba cache, if there is one, holds its machine code for these types."""
    files = getattr(cache, "_cache_file", None)
    if files is None:
        return lambda: False
    # Numba asks LLVM for the CPU each time; progress is told by hundreds of questions.
    path = functools.cache(lambda: files.path(cache._index_key(types, target.codegen())))
    return lambda: path().exists()


@contextmanager
def quickly() -> Iterator[None]:
    """Compile with less work: kernels that are only linked into others have no machine code of their own.

    Nor is garbage collected: most is needed, and to look takes 6 % of the time.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        with linked_first():
            yield
    finally:
        if collects:
            gc.enable()


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
        is_kept = keeper(kernel._cache, types, kernel.targetctx)

        def run() -> None:
            with quickly():
                kernel.compile(types)

        task = Task(f"{name}{types}", run, done=lambda: types in kernel.overloads or is_kept())
        if recorded(task):
            return lambda *arguments: None
        with quickly():
            return compile_for(*arguments)

    kernel._compile_for_args = compile_or_record
