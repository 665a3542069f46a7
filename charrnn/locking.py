"""At most one run writes a model file: a lock of the operating system, which ends with its process.

The lock is held on a small file beside the model, which says who holds it. What a killed run leaves of it
blocks nobody: the file stays, but not the lock, and the next run takes both.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from charrnn import atomic
from charrnn.checkpoint import resume_path
from charrnn.errors import TrainingError, printable
from charrnn.unwritable import unwritable

_OPEN = os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
# Where the folder's file system has no locks, training goes on without.
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL}
_HELD = {errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES, errno.EDEADLK}
_LONGEST_HOLDER = 300  # bytes
_LOCKED_BYTE = 1 << 30  # on Windows, where a byte that is locked cannot be read: one beyond the text


def lock_path(out: Path) -> Path:
    """The file whose lock stands for the model file `out`, its resume file, and all links to them."""
    resume = resume_path(os.path.realpath(out))
    return resume.with_name(f".{resume.name}.lock")


@contextlib.contextmanager
def exclusive(out: Path) -> Iterator[None]:
    """While this is held, nobody else holds it for the same model file, in this process or another.

    Folders that are missing are made; those that are then still empty are removed again.

    Raises:
        TrainingError: somebody else holds it; names the process, the computer and the time.
        SaveError: the folder cannot be written.
    """
    try:
        path = lock_path(out)
        made = atomic.make_folders(path.parent)
        descriptor = _open_locked(out, path)
    except (OSError, ValueError) as error:
        raise unwritable(out, error) from error
    try:
        with contextlib.suppress(OSError):  # a full disk is said when the model is to be written
            os.ftruncate(descriptor, 0)
            os.write(descriptor, _holder().encode()[:_LONGEST_HOLDER])
        yield
    finally:
        _release(path, descriptor)
        atomic.remove_empty(made)


def _open_locked(out: Path, path: Path) -> int:
    while True:
        descriptor = os.open(path, _OPEN, 0o666)
        try:
            if not _lock(descriptor):
                raise TrainingError(
                    f"{printable(str(out))} is being trained by {_read_holder(descriptor)}",
                    "wait for it, or write another file with -o",
                )
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                    return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # the one who held it has removed the file: take the new one


def _release(path: Path, descriptor: int) -> None:
    """Remove the file and let go of it; whoever has opened it meanwhile sees that it has gone."""
    with contextlib.suppress(OSError):
        if sys.platform == "win32":  # removes no open file, nor one that another has opened
            os.close(descriptor)
            os.unlink(path)
        else:
            os.unlink(path)
            os.close(descriptor)


def _lock(descriptor: int) -> bool:
    """Whether the lock is ours now, or there are none on this file system."""
    try:
        if sys.platform == "win32":
            import msvcrt

            os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
            os.lseek(descriptor, 0, os.SEEK_SET)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _HELD:
            return False
        if error.errno not in _NO_LOCKS:
            raise
    return True


def _holder() -> str:
    now = time.strftime("%Y-%m-%d %H:%M:%S")
    return f"process {os.getpid()} on {socket.gethostname()} since {now}"


def _read_holder(descriptor: int) -> str:
    """What the file says of who holds it. Nothing in it is trusted."""
    with contextlib.suppress(OSError):
        os.lseek(descriptor, 0, os.SEEK_SET)
        if text := os.read(descriptor, _LONGEST_HOLDER).decode("utf-8", "replace"):
            return printable(text)
    return "another process"
