"""A file is either whole or untouched: write beside it, then rename."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterable
from pathlib import Path


def write(path: Path, chunks: Iterable[bytes]) -> None:
    """Write the file `path`, replacing it at once when all of it is on the disk.

    Folders that are missing are made, the mode follows the umask, and a symbolic link stays: the
    file that it points to is replaced. On a failure the old file is as it was, and nothing is left
    beside it. Only a killed process leaves its temporary file; its name is fixed, so that there is
    at most one, and the next write replaces it.

    Raises:
        OSError: the disk is full, the folder may not be written, `path` is no regular file, ...
    """
    if path.is_symlink():
        path = Path(os.path.realpath(path))
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if path.exists() and not path.is_file():  # a rename would turn /dev/null into a file
        raise OSError(errno.EINVAL, "It is a device, no regular file", str(path))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:  # but it is no folder
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path.parent)) from error

    temporary = path.with_name(f".{path.name}.tmp")
    temporary.unlink(missing_ok=True)
    # "x" creates the file, so a link that somebody laid at this known name is not followed.
    with contextlib.ExitStack() as cleanup, open(temporary, "xb") as file:
        cleanup.callback(_remove, temporary)
        for chunk in chunks:
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())  # before the rename, which must not reach the disk first
        written = os.fstat(file.fileno())
        file.close()  # Windows renames no open file
        if not os.path.samestat(written, os.stat(temporary)):
            cleanup.pop_all()  # the temporary file is not ours
            raise OSError(errno.EBUSY, "Another process is writing it", str(path))
        os.replace(temporary, path)
        cleanup.pop_all()
    _sync_folder(path.parent)


def _remove(temporary: Path) -> None:
    with contextlib.suppress(OSError):  # the error that brought us here says more
        temporary.unlink()


def _sync_folder(folder: Path) -> None:
    """Put the rename itself on the disk. Windows and some file systems cannot; the file is whole."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
