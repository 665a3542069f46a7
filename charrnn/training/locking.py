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

from charrnn.checkpoint.model_file import resume_path
from charrnn.errors import TrainingError, printable
from charrnn.system import atomic
from charrnn.system.file_errors import save_error

_OPEN = os.O_RDWR | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
# Where the folder's file system has no locks, training goes on without.
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL}
_HELD = {errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES, errno.EDEADLK}
_LONGEST_HOLDER = 300  # bytes
_HOLDER_TRIES, _HOLDER_SECONDS = 20, 0.05
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
    with contextlib.ExitStack() as held:
        try:
            lock = _Lock(lock_path(out))
            held.enter_context(atomic.folders(lock.path.parent))
            held.enter_context(atomic.also_abandoning(lock.abandon))
            lock.take(out)
            held.callback(lock.release)
        except (OSError, ValueError) as error:
            raise save_error(out, error) from error
        lock.say_who_holds_it()
        yield


class _Lock:
    """The small file, and the lock on it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None  # of the file while it is held, or about to be

    def take(self, out: Path) -> None:
        """
        Raises:
            TrainingError: somebody else holds it.
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
                    return
            except BaseException:
                self._close(descriptor)
                raise
            self._close(descriptor)  # the one who held it has removed the file: take the new one

    def say_who_holds_it(self) -> None:
        assert self._descriptor is not None
        with contextlib.suppress(OSError):  # a full disk is said when the model is to be written
            os.ftruncate(self._descriptor, 0)
            os.write(self._descriptor, _holder().encode()[:_LONGEST_HOLDER])

    def release(self) -> None:
        """Remove the file and let go of it; whoever has opened it meanwhile sees that it has gone."""
        descriptor = self._descriptor
        assert descriptor is not None
        with contextlib.suppress(OSError):
            if sys.platform == "win32":  # removes no open file, nor one that another has opened
                self._close(descriptor)
                os.unlink(self.path)
            else:
                os.unlink(self.path)
                self._close(descriptor)

    def abandon(self) -> None:
        """Remove the file, unless somebody else holds it, because the process ends; at any moment.

        It may have been made a moment ago, and not be locked yet: then this locks it. To lock it again harms
        nobody.
        """
        with contextlib.suppress(OSError):
            descriptor = self._descriptor
            if descriptor is None:
                descriptor = os.open(self.path, _OPEN)
            if (_lock(descriptor) or sys.platform == "win32") and self._is_there(descriptor):
                self._descriptor = descriptor
                self.release()

    def _is_there(self, descriptor: int) -> bool:
        """Whether the file that was opened is still the one of that name."""
        with contextlib.suppress(FileNotFoundError):
            return os.path.samestat(os.fstat(descriptor), os.stat(self.path))
        return False

    def _close(self, descriptor: int) -> None:
        self._descriptor = None
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
    """What the file says of who holds it. Nothing in it is trusted.

    Who has just taken the lock writes a moment later; until then there is nothing, or whom it took it from.
    """
    with contextlib.suppress(OSError):
        for _ in range(_HOLDER_TRIES):
            time.sleep(_HOLDER_SECONDS)
            os.lseek(descriptor, 0, os.SEEK_SET)
            if text := os.read(descriptor, _LONGEST_HOLDER).decode("utf-8", "replace"):
                return printable(text)
    return "another process"
