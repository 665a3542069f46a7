"""Messages and hints for files that cannot be read or written."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from charrnn.errors import ConfigError, SaveError, printable
from charrnn.system.spelling import close_names

# {option} is the option that names the file.
_FULL = "free some space, or write to another disk with {option}"
_FORBIDDEN = "check the permissions of its folder, or write elsewhere with {option}"
_HINTS = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EFBIG: "raise the limit (ulimit -f), or write to another disk with {option}",
    errno.EACCES: _FORBIDDEN,
    errno.EPERM: _FORBIDDEN,
    errno.EROFS: "it may only be read; write elsewhere with {option}",
    errno.ENOTDIR: "a folder in its path is a file; write elsewhere with {option}",
}


def why_unreadable(path: Path | None, error: OSError | ValueError, suffix: str = "") -> tuple[str, str]:
    """The message and hint for a file (None: standard input) that cannot be read.

    For a missing file, existing names that end in `suffix` are suggested.
    """
    name = "standard input" if path is None else printable(str(path))
    if isinstance(error, FileNotFoundError) and path is not None:
        similar = _similar_name(path, suffix)
        hint = f"did you mean {printable(str(similar))}?" if similar else "check the path"
        return f"{name} does not exist", hint
    if isinstance(error, PermissionError):
        return f"{name} may not be read", "check its permissions"
    reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return f"{name} cannot be read", printable(reason)


def _similar_name(path: Path, suffix: str) -> Path | None:
    """A file in the folder of the missing `path` with a similar name, suffixes aside."""
    try:
        names = [name for name in os.listdir(path.parent) if name.endswith(suffix)]
    except OSError:
        return None
    if suffix and path.name + suffix in names:  # close_names rejects short names
        return path.with_name(path.name + suffix)
    stems = {name.removesuffix(Path(name).suffix): name for name in sorted(names)}
    near = close_names(path.name.removesuffix(path.suffix), stems)
    return path.with_name(stems[near[0]]) if near else None


def save_error(path: Path, error: OSError | ValueError, option: str = "--out") -> SaveError:
    """The error for a file that cannot be written."""
    name = printable(str(path))
    if not isinstance(error, OSError):  # a NUL, or characters that the file system cannot encode
        return SaveError(f"{name} is no path", f"give another with {option}")
    reason = printable(error.strerror or str(error))
    hint = _HINTS.get(error.errno or 0, "write elsewhere with {option}").format(option=option)
    return SaveError(f"{name} cannot be written: {reason}", hint)


@contextlib.contextmanager
def writing(path: Path, option: str = "--out") -> Iterator[None]:
    """Turns an OSError in the `with` block into a SaveError about `path`."""
    try:
        yield
    except OSError as error:
        raise save_error(path, error, option) from error


def refuse_overwriting(path: Path, files: Iterable[tuple[str, Path | int]], option: str = "--out") -> None:
    """Checks that writing `path` replaces none of `files`, given as descriptions with paths or descriptors.

    Raises:
        ConfigError: `path` is one of them, perhaps through a link.
    """
    identity = _identity(path)
    for what, file in files:
        if _identity(file) == identity:
            raise ConfigError(
                f"{printable(str(path))} is {what}, which would be lost", f"write elsewhere with {option}"
            )


def _identity(file: Path | int) -> object:
    """A key that is the same for all names of a file; for a missing file, its resolved path."""
    with contextlib.suppress(OSError, ValueError):
        about = os.stat(file)
        return about.st_dev, about.st_ino
    with contextlib.suppress(OSError, ValueError):
        return file if isinstance(file, int) else os.path.normcase(os.path.realpath(file))
    return object()  # an invalid path, which opening it will report
