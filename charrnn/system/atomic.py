"""Atomic writes: to a temporary file in the same folder, which is then renamed."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

# Exclusive creation, so that a link planted at a temporary file's predictable name is not followed.
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
# Windows cannot replace a file while another process reads it.
_REPLACE_TRIES, _REPLACE_SECONDS = 20, 0.05

_name_lock = threading.RLock()  # held while files or folders are created or renamed, and from `abandon` on
_ABANDON_SECONDS = 0.2  # longest wait for a thread that is blocked by an unresponsive disk


def write(path: Path, chunks: Iterable[bytes]) -> None:
    """Write the file `path`, replacing an existing one once the new contents are on the disk.

    Missing folders are created, the mode follows the umask, and a symbolic link is kept: its target is
    replaced. After a failure the old file is unchanged and nothing new is left. A process that is killed
    or ends without `abandon` leaves its temporary file; its name is fixed, so there is at most one, which
    `clean` removes and the next write replaces.

    Raises:
        OSError: the disk is full, the folder may not be written, `path` is no regular file, ...
    """
    path = _target(path)
    temporary = _Temporary(path)
    with contextlib.ExitStack() as cleanup:
        cleanup.enter_context(folders(path.parent))
        with _closing(temporary.create()) as descriptor:
            cleanup.callback(temporary.remove)
            temporary.about = os.fstat(descriptor)
            for chunk in chunks:
                _write_all(descriptor, chunk)
            os.fsync(descriptor)  # before the rename, which must not reach the disk first
        # After closing, since Windows cannot rename an open file.
        with _name_lock:
            if not temporary.is_ours():
                raise OSError(errno.EBUSY, "Another process is writing it", str(path))
            _replace(temporary.path, path)
        _sync_folder(path.parent)


def check(path: Path) -> None:
    """Check that `write(path, ...)` can begin. Nothing is left behind.

    Raises:
        OSError: as `write` does at its beginning.
    """
    path = _target(path)
    with folders(path.parent):
        temporary = _Temporary(path)
        if not os.path.lexists(temporary.path):  # else in use by another process, or left by a killed one
            with _closing(temporary.create()) as descriptor:
                temporary.about = os.fstat(descriptor)
            temporary.remove()


def abandon() -> None:
    """Remove unfinished files and the folders made for them, and call the functions of `also_abandoning`.

    For the end of the process: nothing can be written afterwards. Signal handlers may call it at any moment
    and from any thread. It gives up if another thread is blocked by an unresponsive disk.
    """
    if _name_lock.acquire(timeout=_ABANDON_SECONDS):  # never released
        for temporary in list(_unfinished):
            temporary.remove()
        for remove in _also.copy():
            remove()
        for made in reversed(_made):
            _remove_empty(made)


def clean(path: Path) -> None:
    """Remove the temporary file that a killed process left for `path`. No other process may be writing it."""
    with contextlib.suppress(OSError):
        os.unlink(_temporary_path(_resolved(path)))


@contextlib.contextmanager
def also_abandoning(remove: Callable[[], None]) -> Iterator[None]:
    """Inside the `with` block `abandon` also calls `remove`, at any moment and from any thread.

    Nothing that `name_lock` guards happens afterwards.
    """
    _also.append(remove)
    try:
        yield
    finally:
        _also.remove(remove)


def name_lock() -> contextlib.AbstractContextManager[object]:
    """The lock to hold while creating a file that `abandon` must remove."""
    return _name_lock


@contextlib.contextmanager
def folders(folder: Path) -> Iterator[None]:
    """Make the folder and its missing parents; at the end those that were made and are empty are removed."""
    missing = []  # the innermost first
    for parent in (folder, *folder.parents):
        if parent.exists():
            break
        missing.append(parent)
    _made.append(missing)  # before they exist: a signal may arrive in between
    try:
        with _name_lock:
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except FileExistsError as error:  # as a file
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder)) from error
        yield
    finally:
        _remove_empty(missing)
        _made.remove(missing)


def _remove_empty(folders: Iterable[Path]) -> None:
    for folder in folders:
        with contextlib.suppress(OSError):
            folder.rmdir()


def _target(path: Path) -> Path:
    """The file that `path` refers to, links followed. OSError: it is something else than a regular file."""
    path = _resolved(path)
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if path.exists() and not path.is_file():  # a rename would turn /dev/null into a file
        raise OSError(errno.EINVAL, "It is a pipe or a device, no regular file", str(path))
    return path


def _resolved(path: Path) -> Path:
    return Path(os.path.realpath(path)) if path.is_symlink() else path


def _temporary_path(path: Path) -> Path:
    return path.with_name(f".{path.name}.tmp")


class _Temporary:
    """The temporary file beside `path`, which is renamed to it."""

    def __init__(self, path: Path) -> None:
        self.path = _temporary_path(path)
        self.about: os.stat_result | None = None  # None: not yet known, right after creation

    def create(self) -> int:
        """Open it, replacing one that a killed process has left."""
        with _name_lock:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.path)
            _unfinished.add(self)  # before it exists: a signal may arrive in between
            try:
                return os.open(self.path, _CREATE, 0o666)
            except BaseException:
                _unfinished.discard(self)
                raise

    def is_ours(self) -> bool:
        """Whether it exists and no other process has replaced it."""
        with contextlib.suppress(FileNotFoundError):
            return self.about is None or os.path.samestat(self.about, os.stat(self.path))
        return False

    def remove(self) -> None:
        """Remove it, unless it was renamed or belongs to another process."""
        with contextlib.suppress(OSError):  # the error that led here is more informative
            if self.is_ours():
                os.unlink(self.path)
        _unfinished.discard(self)


# What `abandon` removes:
_unfinished: set[_Temporary] = set()
_also: list[Callable[[], None]] = []
_made: list[list[Path]] = []  # folders


@contextlib.contextmanager
def _closing(descriptor: int) -> Iterator[int]:
    """Closes the descriptor. That may raise, too: a network folder may report only then that it is full."""
    try:
        yield descriptor
    except BaseException:
        with contextlib.suppress(OSError):
            os.close(descriptor)
        raise
    os.close(descriptor)


def _write_all(descriptor: int, chunk: bytes) -> None:
    """Writes all of `chunk`; one system call may write less, near a full disk or beyond 2 GB."""
    left = memoryview(chunk)
    while left:
        count = os.write(descriptor, left)
        if not count:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        left = left[count:]


def _replace(temporary: Path, path: Path) -> None:
    for attempt in range(_REPLACE_TRIES):
        try:
            return os.replace(temporary, path)
        except PermissionError:
            if sys.platform != "win32" or attempt == _REPLACE_TRIES - 1:
                raise
            time.sleep(_REPLACE_SECONDS)


def _sync_folder(folder: Path) -> None:
    """Flush the rename to the disk, except on Windows and file systems that cannot.

    Raises:
        OSError: the disk has failed.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno == errno.EIO:
            raise
