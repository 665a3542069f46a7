"""How kernels are compiled and where the machine code is kept.

Numba's own cache notices an edited function, but not an edited callee in another file. So the folder's
name holds a hash of every kernel's source and of the versions that compiled it: it is never stale.
"""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import llvmlite
import numba
import numpy as np

# Lets LLVM fuse a*b+c into one instruction; nothing else is reordered, and NaN stays NaN.
CONTRACT = {"contract"}
# Also lets sums be vectorised. Only for reductions, where the order is then LLVM's, and fixed.
REASSOCIATE = {"contract", "reassoc"}


def _sources_hash() -> str:
    """Hash of all that decides what machine code comes out (Numba itself adds the CPU)."""
    digest = hashlib.sha256()
    here = Path(__file__).parent
    shared = [here.parent / "sampling.py", here.parent / "steering.py"]
    for path in [*sorted(here.glob("*.py")), *shared]:
        if path.exists():
            digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    versions = (sys.version, numba.__version__, llvmlite.__version__, np.__version__)
    digest.update(repr(versions).encode())
    return digest.hexdigest()[:16]


def _user_cache() -> Path:
    if configured := os.environ.get("CHARRNN_CACHE_DIR"):
        return Path(configured)
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or "~/AppData/Local"
    elif sys.platform == "darwin":
        base = "~/Library/Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "charrnn"


def _cache_dir() -> Path | None:
    """A folder that can be written, or None: then every process compiles anew."""
    try:
        folder = _user_cache() / f"kernels-{_sources_hash()}"
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except (OSError, RuntimeError):  # RuntimeError: there is no home folder to expand
        return None


CACHE_DIR = _cache_dir()
JIT_DISABLED = bool(numba.config.DISABLE_JIT)  # kernels then run as plain Python
_decorating = threading.Lock()


def njit(*, fastmath: set[str] | bool = False, **options: Any) -> Callable[[Any], Any]:
    """`numba.njit` without the GIL, cached in CACHE_DIR when there is one.

    A function whose name begins with "_" can be called from kernels alone.
    """

    def decorate(function: Any) -> Any:
        inner = function.__name__.startswith("_")
        return _cached(
            numba.njit,
            nogil=True,
            error_model="numpy",  # a check for division by zero would forbid vector code
            fastmath=fastmath,
            no_cfunc_wrapper=True,  # what is never called is not compiled
            no_cpython_wrapper=inner,
            **options,
        )(function)

    return decorate


def cfunc(signature: Any) -> Callable[[Any], Any]:
    """`numba.cfunc`, compiled at once and cached likewise: machine code with an address."""
    return _cached(numba.cfunc, signature, error_model="numpy")


def _cached(decorator: Any, *arguments: Any, **options: Any) -> Callable[[Any], Any]:
    def decorate(function: Any) -> Any:
        # Numba reads the setting while it decorates; its other users in the process keep their own.
        with _decorating:
            before = numba.config.CACHE_DIR
            numba.config.CACHE_DIR = str(CACHE_DIR or "")
            try:
                return decorator(*arguments, cache=CACHE_DIR is not None, **options)(function)
            finally:
                numba.config.CACHE_DIR = before

    return decorate
