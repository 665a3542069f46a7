"""The folder for machine code: in the user's cache folder, or else a private temporary folder.

Machine code is loaded from it without further checks. In a temporary folder such as /tmp, anybody may create
any name; so a folder there is used only if nobody else can write to it or replace it.
"""

from __future__ import annotations

import itertools
import os
import stat
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

SHARED = ("/tmp", "/var/tmp")  # folders for temporary files, besides TMPDIR
NAMES = 4  # names that are tried in each, since another user may own the first


def folder(name: str) -> Path | None:
    """A writable folder of this name, created if missing. None: there is none, so each process compiles."""
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
    """An existing private folder.

    Raises:
        OSError: there is none.
    """
    if not hasattr(os, "geteuid"):
        raise OSError("Windows does not say whose a folder is")
    bases = [base for base in (os.environ.get("TMPDIR"), *SHARED) if base]
    for base, number in itertools.product(bases, range(NAMES)):
        suffix = f"-{number}" if number else ""
        path = Path(os.path.realpath(base), f"charrnn-{os.geteuid()}{suffix}")
        with suppress(OSError):
            path.mkdir(mode=0o700)
        with suppress(OSError):
            if _is_private(path):
                return path
    raise OSError("no temporary folder is private")


def _is_private(path: Path) -> bool:
    """Whether this is a folder, not a link, that only this user can write to, rename or replace."""
    about = os.lstat(path)
    if not stat.S_ISDIR(about.st_mode) or about.st_uid != os.geteuid() or about.st_mode & 0o022:
        return False
    return all(_keeps_names(parent) for parent in path.parents)


def _keeps_names(parent: Path) -> bool:
    """Whether nobody but root can replace this user's files in this folder."""
    about = os.lstat(parent)
    shared = about.st_mode & 0o022 and not about.st_mode & stat.S_ISVTX
    return about.st_uid in (0, os.geteuid()) and not shared
