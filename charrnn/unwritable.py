"""Why a file cannot be written, and what to do, in words for an error."""

from __future__ import annotations

import errno
from pathlib import Path

from charrnn.errors import SaveError, printable

_FULL = "free some space, or write to another disk with --out"
_FORBIDDEN = "check the permissions of its folder, or write elsewhere with --out"
_HINTS = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EFBIG: "raise the limit (ulimit -f), or write to another disk with --out",
    errno.EACCES: _FORBIDDEN,
    errno.EPERM: _FORBIDDEN,
    errno.EROFS: "it may only be read; write elsewhere with --out",
    errno.ENOTDIR: "a folder in its path is a file; write elsewhere with --out",
}


def unwritable(path: Path, error: OSError | ValueError) -> SaveError:
    """The error for a file that the system does not let us write."""
    name = printable(str(path))
    if not isinstance(error, OSError):  # a NUL in the path, or what the file system cannot spell
        return SaveError(f"{name} is no path", "give another with --out")
    reason = printable(error.strerror or str(error))
    hint = _HINTS.get(error.errno or 0, "write elsewhere with --out")
    return SaveError(f"{name} cannot be written: {reason}", hint)
