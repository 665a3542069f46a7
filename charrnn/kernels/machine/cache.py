"""Where machine code is kept: the user's cache folder, or else a temporary one that is the user's alone.

Machine code is loaded from there without a question. Among temporary folders anybody may make one of any
name, so that one is taken only if nobody else can write to it, or put another in its place.
"""

from __future__ import annotations

import os
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

SHARED = ("/tmp", "/var/tmp")  # where temporary folders are, besides TMPDIR
NAMES = 4  # of temporary folders that are tried: a stranger may have taken one


def folder(name: str) -> Path | None:
    """A folder of this name that can be written, made if need be; None: every process compiles anew."""
    for find in (_of_the_user, _temporary):
        with suppress(OSError, RuntimeError):  # RuntimeError: there is no home folder to expand
            path = find() / name
            path.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=path):
                return path
    return None


def _of_the_user() -> Path:
    if configured := os.environ.get("CHARRNN_CACHE_DIR"):
        return Path(configured)
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or "~/AppData/Local"
    elif sys.platform == "darwin":
        base = "~/Library/Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "charrnn"


def _temporary() -> Path:
    """A folder that is there, and private.

    Raises:
        OSError: there is none.
    """
    if not hasattr(os, "geteuid"):
        raise OSError("Windows does not say whose a folder is")
    for path in _candidates():
        with suppress(OSError):
            path.mkdir(mode=0o700)
        with suppress(OSError):
            if _is_private(path):
                return path
    raise OSError("no temporary folder is private")


def _candidates() -> Iterator[Path]:
    for base in (os.environ.get("TMPDIR"), *SHARED):
        if base:
            for number in range(NAMES):
                suffix = f"-{number}" if number else ""
                yield Path(os.path.realpath(base), f"charrnn-{os.geteuid()}{suffix}")


def _is_private(path: Path) -> bool:
    """Whether it is a folder, and no link to one, which only this user can write to, rename or replace."""
    about = os.lstat(path)
    if not stat.S_ISDIR(about.st_mode) or about.st_uid != os.geteuid() or about.st_mode & 0o022:
        return False
    return all(_keeps_names(parent) for parent in path.parents)


def _keeps_names(parent: Path) -> bool:
    """Whether in this folder nobody but root can replace what is this user's."""
    about = os.lstat(parent)
    shared = about.st_mode & 0o022 and not about.st_mode & stat.S_ISVTX
    return about.st_uid in (0, os.geteuid()) and not shared
