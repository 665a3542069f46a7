"""atomic: a file is whole or untouched, whatever fails."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from charrnn.system import atomic

unix_only = pytest.mark.skipif(sys.platform == "win32", reason="a notion of Unix")


@pytest.fixture
def old(tmp_path: Path) -> Path:
    path = tmp_path / "m.bin"
    path.write_bytes(b"old")
    return path


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def test_chunks_are_joined_and_replace_the_old_file(old: Path) -> None:
    atomic.write(old, [b"ne", b"", b"w"])
    assert old.read_bytes() == b"new"
    assert names(old.parent) == ["m.bin"]


def test_missing_folders_are_made(tmp_path: Path) -> None:
    atomic.write(tmp_path / "a" / "b" / "m.bin", [b"x"])
    assert (tmp_path / "a" / "b" / "m.bin").read_bytes() == b"x"


def test_missing_folders_go_again_with_what_could_not_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "there").mkdir()

    def fail(_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    for folder in ("new", "there"):
        with pytest.raises(OSError, match="Input/output"):
            atomic.write(tmp_path / folder / "a" / "b" / "m.bin", [b"x"])
    assert [path.name for path in tmp_path.rglob("*")] == ["there"]


def test_a_path_in_the_current_folder_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    atomic.write(Path("m.bin"), [b"x"])
    assert names(tmp_path) == ["m.bin"]


@unix_only
@pytest.mark.parametrize("umask", [0o022, 0o077, 0o000])
def test_mode_follows_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        atomic.write(tmp_path / "m.bin", [b"x"])
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "m.bin").stat().st_mode) == 0o666 & ~umask


@pytest.mark.parametrize("function", ["fsync", "replace", "fstat"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failing_call_leaves_the_old_file_and_no_litter(
    old: Path, monkeypatch: pytest.MonkeyPatch, function: str, error: BaseException
) -> None:
    def fail(*_: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(os, function, fail)
        with pytest.raises(type(error)):
            atomic.write(old, [b"new"])
    assert old.read_bytes() == b"old"
    assert names(old.parent) == ["m.bin"]


def test_a_failing_source_of_chunks_leaves_the_old_file_and_no_litter(old: Path) -> None:
    def chunks() -> Iterator[bytes]:
        yield b"new"
        raise RuntimeError

    with pytest.raises(RuntimeError):
        atomic.write(old, chunks())
    assert old.read_bytes() == b"old"
    assert names(old.parent) == ["m.bin"]


@pytest.mark.parametrize("at", ["write", "flush"])
def test_a_disk_that_fills_up_leaves_the_old_file_and_no_litter(old: Path, at: str) -> None:
    resource = pytest.importorskip("resource")  # not on Windows
    # A small chunk stays in Python's buffer until the flush; a large one fails at once.
    size = {"write": 1 << 20, "flush": 2000}[at]
    program = f"""
        import resource
        from pathlib import Path
        from charrnn.system import atomic
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        try:
            atomic.write(Path({str(old)!r}), [bytes({size})])
        except OSError as error:
            print(type(error).__name__, error.errno)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=True
    )
    assert resource  # the module is there, so the limit was set
    assert done.stdout.startswith("OSError ")
    assert done.stderr == ""
    assert old.read_bytes() == b"old"
    assert names(old.parent) == ["m.bin"]


@unix_only
def test_a_killed_write_leaves_the_old_file_and_the_next_one_cleans_up(old: Path) -> None:
    program = f"""
        import os, signal
        from pathlib import Path
        from charrnn.system import atomic

        def chunks():
            yield bytes(1 << 20)
            os.kill(os.getpid(), signal.SIGKILL)
        atomic.write(Path({str(old)!r}), chunks())
    """
    for _ in range(2):
        killed = subprocess.run([sys.executable, "-c", textwrap.dedent(program)])
        assert killed.returncode == -9
        assert old.read_bytes() == b"old"
        assert names(old.parent) == [".m.bin.tmp", "m.bin"]
    atomic.write(old, [b"new"])
    assert old.read_bytes() == b"new"
    assert names(old.parent) == ["m.bin"]


def test_data_reach_the_disk_before_the_rename_and_the_folder_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    fsync, replace = os.fsync, os.replace

    def record_fsync(descriptor: int) -> None:
        is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        calls.append("folder" if is_folder else "file")
        if not is_folder:
            assert os.fstat(descriptor).st_size == 3
        fsync(descriptor)

    def record_replace(source: Path, target: Path) -> None:
        calls.append("rename")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", record_fsync)
    monkeypatch.setattr(os, "replace", record_replace)
    atomic.write(tmp_path / "m.bin", [b"new"])
    assert calls == ["file", "rename"] + ["folder"] * (sys.platform != "win32")


def test_a_folder_that_cannot_be_synced_is_no_failure(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fsync = os.fsync

    def fail_on_folders(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(22, "Invalid argument")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", fail_on_folders)
    atomic.write(old, [b"new"])
    assert old.read_bytes() == b"new"


@unix_only
def test_a_link_stays_and_its_file_is_replaced(old: Path) -> None:
    folder = old.parent / "elsewhere"
    folder.mkdir()
    link = folder / "link.bin"
    link.symlink_to(old)
    atomic.write(link, [b"new"])
    assert link.is_symlink()
    assert old.read_bytes() == b"new"
    assert names(folder) == ["link.bin"]


@unix_only
def test_a_link_laid_at_the_temporary_name_is_not_followed(old: Path) -> None:
    victim = old.parent / "victim"
    victim.write_bytes(b"mine")
    (old.parent / ".m.bin.tmp").symlink_to(victim)
    atomic.write(old, [b"new"])
    assert victim.read_bytes() == b"mine"
    assert old.read_bytes() == b"new"
    assert not old.is_symlink()


@unix_only
def test_a_link_laid_there_at_the_last_moment_is_not_followed(
    old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    victim = old.parent / "victim"
    victim.write_bytes(b"mine")
    (old.parent / ".m.bin.tmp").symlink_to(victim)
    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", lambda _: None)  # laid just after the unlink
        with pytest.raises(FileExistsError):
            atomic.write(old, [b"new"])
    assert victim.read_bytes() == b"mine"
    assert old.read_bytes() == b"old"


@unix_only
def test_two_writers_of_one_file_never_mix(old: Path) -> None:
    def chunks() -> Iterator[bytes]:
        yield b"first"
        other = old.parent / ".m.bin.tmp"  # another process begins meanwhile, and is not done
        other.unlink()  # its inode is not used again while it is open
        other.write_bytes(b"half")

    with pytest.raises(OSError, match="Another process is writing it"):
        atomic.write(old, chunks())
    assert old.read_bytes() == b"old"
    assert (old.parent / ".m.bin.tmp").read_bytes() == b"half"  # left to whom it belongs


@unix_only
def test_nor_do_two_of_one_process(old: Path) -> None:
    def chunks() -> Iterator[bytes]:
        yield b"first"
        with pytest.raises(OSError, match="Another process"):
            atomic.write(old, outer())

    def outer() -> Iterator[bytes]:
        yield b"half"
        atomic.write(old, [b"third"])

    with pytest.raises(OSError, match="Another process"):
        atomic.write(old, chunks())
    assert old.read_bytes() == b"third"
    assert names(old.parent) == ["m.bin"]


def test_what_can_be_written_can_be_checked_before_and_leaves_nothing(old: Path) -> None:
    for path in (old, old.with_name("new"), old.parent / "a" / "b" / "new"):
        atomic.check(path)
    assert names(old.parent) == ["m.bin"]
    (old.parent / ".m.bin.tmp").write_bytes(b"half")  # of another who writes it now
    atomic.check(old)
    assert names(old.parent) == [".m.bin.tmp", "m.bin"]
    for path in (old.parent, old / "new", old.with_name("x" * 255)):
        with pytest.raises(OSError):  # noqa: PT011
            atomic.check(path)
    assert old.read_bytes() == b"old"


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        atomic.write(tmp_path, [b"x"])
    assert names(tmp_path) == []


@unix_only
def test_what_is_no_regular_file_is_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)  # type: ignore[attr-defined, unused-ignore]
    with pytest.raises(OSError, match="no regular file"):
        atomic.write(pipe, [b"x"])
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_a_system_that_writes_less_than_it_is_given_is_asked_again(
    old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:3]))
        atomic.write(old, [b"new content", b"", b", more"])
    assert old.read_bytes() == b"new content, more"


def test_a_system_that_writes_nothing_is_an_error(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda descriptor, data: 0)
        with pytest.raises(OSError, match="Input/output error"):
            atomic.write(old, [b"new"])
    assert old.read_bytes() == b"old"
    assert names(old.parent) == ["m.bin"]


@pytest.mark.parametrize("at", ["file", "folder"])
def test_a_disk_that_fails_is_an_error(old: Path, monkeypatch: pytest.MonkeyPatch, at: str) -> None:
    """Also when that comes out after the rename: what is not on the disk is not said to be."""
    fsync = os.fsync

    def fail(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode) == (at == "folder"):
            raise OSError(errno.EIO, "Input/output error")
        fsync(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(OSError, match="Input/output error"):
            atomic.write(old, [b"new"])
    assert names(old.parent) == ["m.bin"]


def test_windows_waits_for_readers_of_the_old_file(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace, tries = os.replace, []

    def busy(source: Path, target: Path) -> None:
        tries.append(source)
        if len(tries) < 3:
            raise PermissionError(errno.EACCES, "The process cannot access the file")
        replace(source, target)

    monkeypatch.setattr(atomic, "_REPLACE_SECONDS", 0.0)
    monkeypatch.setattr(os, "replace", busy)
    monkeypatch.setattr(sys, "platform", "win32")
    atomic.write(old, [b"new"])
    monkeypatch.undo()
    assert old.read_bytes() == b"new"
    assert len(tries) == 3


@unix_only
@pytest.mark.parametrize("thread", ["main", "another"])
def test_a_process_that_ends_may_take_what_it_has_not_written_whole_with_it(old: Path, thread: str) -> None:
    """Called by a signal's handler, in the main thread or for it, whatever that does at the moment."""
    program = f"""
        import os, threading, time
        from pathlib import Path
        from charrnn.system import atomic

        def end():
            atomic.abandon()
            os._exit(7)

        def chunks():
            yield bytes(1 << 20)
            if {thread!r} == "main":
                end()
            threading.Thread(target=end).start()

        while True:
            atomic.write(Path({str(old)!r}), chunks())
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, timeout=60)
    assert (done.returncode, done.stderr) == (7, b"")
    assert names(old.parent) == ["m.bin"]
    assert old.read_bytes() in (b"old", bytes(1 << 20))


@unix_only
@pytest.mark.parametrize("function", ["open", "mkdir"])
def test_the_folders_that_were_made_for_it_go_with_it(tmp_path: Path, function: str) -> None:
    program = f"""
        import os
        from pathlib import Path
        from charrnn.system import atomic

        real = os.{function}

        def interrupted(*arguments):
            real(*arguments)
            if "b" in str(arguments[0]):
                os.{function} = real
                atomic.abandon()
                os._exit(7)

        os.{function} = interrupted
        os.chdir({str(tmp_path)!r})
        atomic.write(Path("a/b/m.bin"), [b"new"])
    """
    (tmp_path / "other").mkdir()
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, timeout=60)
    assert (done.returncode, done.stderr) == (7, b"")
    assert [path.name for path in tmp_path.rglob("*")] == ["other"]


@unix_only
@pytest.mark.parametrize("function", ["open", "replace", "unlink"])
def test_it_may_do_so_within_any_call_to_the_system(old: Path, function: str) -> None:
    program = f"""
        import os
        from pathlib import Path
        from charrnn.system import atomic

        real = os.{function}

        def interrupted(*arguments):
            real(*arguments)
            os.{function} = real
            atomic.abandon()
            os._exit(7)

        os.{function} = interrupted
        atomic.write(Path({str(old)!r}), [b"new"])
    """
    (old.parent / ".m.bin.tmp").write_bytes(b"half")
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, timeout=60)
    assert (done.returncode, done.stderr) == (7, b"")
    assert names(old.parent) == ["m.bin"]
    assert old.read_bytes() == (b"new" if function == "replace" else b"old")


@unix_only
def test_what_another_process_writes_meanwhile_stays_when_this_one_ends(old: Path) -> None:
    program = f"""
        import os
        from pathlib import Path
        from charrnn.system import atomic

        def chunks():
            yield b"first"
            other = Path({str(old)!r}).with_name(".m.bin.tmp")
            other.rename(other.with_name("away"))  # so that its inode is not used again
            other.write_bytes(b"half")
            atomic.abandon()
            os._exit(7)

        atomic.write(Path({str(old)!r}), chunks())
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, timeout=60)
    assert (done.returncode, done.stderr) == (7, b"")
    assert (old.parent / ".m.bin.tmp").read_bytes() == b"half"


def test_what_a_killed_write_left_can_be_removed(old: Path) -> None:
    (old.parent / ".m.bin.tmp").write_bytes(b"half")
    atomic.clean(old)
    atomic.clean(old)
    atomic.clean(old.parent / "nowhere" / "m.bin")
    assert names(old.parent) == ["m.bin"]
