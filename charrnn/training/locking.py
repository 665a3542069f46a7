"""A lock that keeps two runs from writing the same model file. It ends with the process at the latest.

The locked file is a small one beside the model, and names the holder. A killed run leaves the file behind,
but not the lock: the next run takes over both.
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

from charrnn.checkpoint.model_file import resume_path
from charrnn.errors import TrainingError, printable
from charrnn.system import atomic
from charrnn.system.file_errors import save_error

_OPEN = os.O_RDWR | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
# Errors of file systems without locks, on which training continues without one.
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL}
_HELD = {errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES, errno.EDEADLK}
_LONGEST_HOLDER = 300  # bytes
_HOLDER_TRIES, _HOLDER_SECONDS = 20, 0.05
_LOCKED_BYTE = 1 << 30  # on Windows, locked bytes cannot be read: lock one beyond the text


def lock_path(out: Path) -> Path:
    """The file to lock for the model file `out`, its resume file, and links to either."""
    resume = resume_path(os.path.realpath(out))
    return resume.with_name(f".{resume.name}.lock")


@contextlib.contextmanager
def exclusive(out: Path) -> Iterator[None]:
    """Hold the lock of a model file, against other holders in this process or another.

    Missing folders are made, and removed again at the end if they are still empty.

    Raises:
        TrainingError: the lock is held already; names the process, the computer and the time.
        SaveError: the folder cannot be written.
    """
    with contextlib.ExitStack() as held:
        try:
            lock = _Lock(lock_path(out))
            held.enter_context(atomic.folders(lock.path.parent))
            held.enter_context(atomic.also_abandoning(lock.abandon))
            lock.take(out)
            held.callback(lock.release)
        except (OSError, ValueError) as error:
            raise save_error(out, error) from error
        yield


class _Lock:
    """The lock file, and the lock on it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None  # of the file, while it is locked or about to be

    def take(self, out: Path) -> None:
        """
        Raises:
            TrainingError: the lock is held already.
            OSError: the file cannot be made.
        """
        while True:
            with atomic.name_lock():
                self._descriptor = descriptor = os.open(self.path, _OPEN | os.O_CREAT, 0o666)
            try:
                if not _lock(descriptor):
                    raise TrainingError(
                        f"{printable(str(out))} is being trained by {_read_holder(descriptor)}",
                        "wait for it, or write another file with -o",
                    )
                if self._is_there(descriptor):
                    break
            except BaseException:
                self._close(descriptor)
                raise
            self._close(descriptor)  # the last holder has removed this file: try again with a new one
        with contextlib.suppress(OSError):  # a full disk is reported when the model is written
            os.ftruncate(descriptor, 0)
            since = time.strftime("%Y-%m-%d %H:%M:%S")
            holder = f"process {os.getpid()} on {socket.gethostname()} since {since}"
            os.write(descriptor, holder.encode()[:_LONGEST_HOLDER])

    def release(self) -> None:
        """Remove the file and unlock it; a process that has opened it meanwhile sees that it is gone."""
        descriptor = self._descriptor
        assert descriptor is not None
        with contextlib.suppress(OSError):
            if sys.platform == "win32":  # where a file that a process has open cannot be removed
                self._close(descriptor)
                os.unlink(self.path)
            else:
                os.unlink(self.path)
                self._close(descriptor)

    def abandon(self) -> None:
        """Remove the file at the end of the process, at any moment, unless another process holds the lock.

        The file may just have been made and not be locked yet, so it is locked first; locking twice is
        harmless.
        """
        with contextlib.suppress(OSError):
            descriptor = self._descriptor
            if descriptor is None:
                descriptor = os.open(self.path, _OPEN)
            if (_lock(descriptor) or sys.platform == "win32") and self._is_there(descriptor):
                self._descriptor = descriptor
                self.release()

    def _is_there(self, descriptor: int) -> bool:
        """Whether the path still names the file that was opened."""
        with contextlib.suppress(FileNotFoundError):
            return os.path.samestat(os.fstat(descriptor), os.stat(self.path))
        return False

    def _close(self, descriptor: int) -> None:
        self._descriptor = None
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    """Try to lock; False if another holder has the lock. True, too, on a file system without locks."""
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


def _read_holder(descriptor: int) -> str:
    """The holder's name in the file, which is not trusted.

    A new holder writes its name a moment after locking; until then the file is empty, or names the last one.
    """
    with contextlib.suppress(OSError):
        for _ in range(_HOLDER_TRIES):
            time.sleep(_HOLDER_SECONDS)
            os.lseek(descriptor, 0, os.SEEK_SET)
            if text := os.read(descriptor, _LONGEST_HOLDER).decode("utf-8", "replace"):
                return printable(text)
    return "another process"
