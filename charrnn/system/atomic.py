"""A file is either whole or untouched: write beside it, then rename."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

# "x" as open() has it: a link that somebody laid at the known name of a temporary file is not followed.
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
# Windows replaces no file that somebody reads at this moment.
_REPLACE_TRIES, _REPLACE_SECONDS = 20, 0.05

_naming = threading.RLock()  # held while files or folders are made or renamed, and from `abandon` on
_ABANDON_SECONDS = 0.2  # for a disk that does not answer


def write(path: Path, chunks: Iterable[bytes]) -> None:
    """Write the file `path`, replacing it at once when all of it is on the disk.

    Folders that are missing are made, the mode follows the umask, and a symbolic link stays: the
    file that it points to is replaced. On a failure the old file is as it was, and nothing new is
    left. Only a killed process leaves its temporary file, and one that ends without `abandon`;
    its name is fixed, so that there is at most one, which `clean` removes and the next write replaces.

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
        # Closed by now, since Windows renames no open file.
        with _naming:
            if not temporary.is_ours():
                raise OSError(errno.EBUSY, "Another process is writing it", str(path))
            _replace(temporary.path, path)
        _sync_folder(path.parent)


def check(path: Path) -> None:
    """That `write(path, ...)` could begin now. Nothing of the attempt stays.

    Raises:
        OSError: as `write` does at its beginning.
    """
    path = _target(path)
    with folders(path.parent):
        temporary = _Temporary(path)
        if not os.path.lexists(temporary.path):  # else another writes it, or a killed process did
            with _closing(temporary.create()) as descriptor:
                temporary.about = os.fstat(descriptor)
            temporary.remove()


def abandon() -> None:
    """Remove what this process has not written whole, because it ends now: nothing is written after this.

    And what `also_abandoning` names, and the folders that were made for it.

    For signal handlers: callable at any moment, from any thread. A disk that does not answer is not waited
    for when another thread does so already.
    """
    if _naming.acquire(timeout=_ABANDON_SECONDS):  # for good
        for temporary in list(_unfinished):
            temporary.remove()
        for remove in _also.copy():
            remove()
        for made in reversed(_made):
            _remove_empty(made)


def clean(path: Path) -> None:
    """Remove what a killed process has left of a `write(path, ...)`. Nobody else may be writing it."""
    with contextlib.suppress(OSError):
        os.unlink(_temporary_path(_resolved(path)))


@contextlib.contextmanager
def also_abandoning(remove: Callable[[], None]) -> Iterator[None]:
    """While this is held, `abandon` calls `remove`, which may be at any moment and from any thread.

    Nothing that `naming` guards is done afterwards.
    """
    _also.append(remove)
    try:
        yield
    finally:
        _also.remove(remove)


def naming() -> contextlib.AbstractContextManager[object]:
    """Held while a file is made that `abandon` is to remove."""
    return _naming


@contextlib.contextmanager
def folders(folder: Path) -> Iterator[None]:
    """Make the folder and those above it. Those that were missing go again if they are empty at the end."""
    missing = []  # the innermost first
    for parent in (folder, *folder.parents):
        if parent.exists():
            break
        missing.append(parent)
    _made.append(missing)  # before they are there: a signal may come in between
    try:
        with _naming:
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except FileExistsError as error:  # but it is no folder
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
    """The file that `path` leads to. OSError: it cannot be one."""
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
    """What is written beside the file `path`, and becomes it."""

    def __init__(self, path: Path) -> None:
        self.path = _temporary_path(path)
        self.about: os.stat_result | None = None  # None: it was made at this moment

    def create(self) -> int:
        """Open it, in place of what a killed process has left."""
        with _naming:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.path)
            _unfinished.add(self)  # before it is there: a signal may come in between
            try:
                return os.open(self.path, _CREATE, 0o666)
            except BaseException:
                _unfinished.discard(self)
                raise

    def is_ours(self) -> bool:
        """Whether nobody else has taken it away, or put another in its place."""
        with contextlib.suppress(FileNotFoundError):
            return self.about is None or os.path.samestat(self.about, os.stat(self.path))
        return False

    def remove(self) -> None:
        """Remove it, unless it has become the file, or is another's."""
        with contextlib.suppress(OSError):  # what brought us here says more
            if self.is_ours():
                os.unlink(self.path)
        _unfinished.discard(self)


# Of this process: what `abandon` removes.
_unfinished: set[_Temporary] = set()
_also: list[Callable[[], None]] = []
_made: list[list[Path]] = []  # folders


@contextlib.contextmanager
def _closing(descriptor: int) -> Iterator[int]:
    """The descriptor; closing it may fail, too, where a network folder only then says that it is full."""
    try:
        yield descriptor
    except BaseException:
        with contextlib.suppress(OSError):
            os.close(descriptor)
        raise
    os.close(descriptor)


def _write_all(descriptor: int, chunk: bytes) -> None:
    """A system call may write less than it was given: near the end of a disk, or 2 GB at the most."""
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
    """Put the rename itself on the disk. Windows and some file systems cannot; the file is whole.

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
