"""locking: one run a model file, and nobody is blocked by a run that is dead."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.environment import environment

from charrnn.errors import SaveError, TrainingError
from charrnn.training.locking import exclusive, lock_path

posix = pytest.mark.skipif(os.name != "posix", reason="signals and links are POSIX")


@contextmanager
def holder(out: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock."""
    program = f"""
import sys
from pathlib import Path
from charrnn.training.locking import exclusive
with exclusive(Path({str(out)!r})):
    print("held", flush=True)
    sys.stdin.read()
"""
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            assert process.stdin is not None
            process.stdin.close()
            process.wait(60)


@posix
@pytest.mark.parametrize("left", ["", "process 1 on elsewhere since 2001-01-01 00:00:00"])
def test_a_first_that_has_just_begun_is_named(tmp_path: Path, left: str) -> None:
    """Between taking the lock and writing its name; `left`: by a run that was killed."""
    import fcntl

    out = tmp_path / "m.safetensors"
    path = lock_path(out)
    path.write_text(left)
    with path.open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)

        def write() -> None:
            file.truncate(0)
            file.write("process 4711 on here since 2026-11-25 12:00:00")
            file.flush()

        later = threading.Timer(0.02 if left else 0.2, write)
        later.start()
        with pytest.raises(TrainingError, match="is being trained by process 4711 on here"), exclusive(out):
            pass
        later.join()


def test_the_second_is_refused_and_told_who_the_first_is(tmp_path: Path) -> None:
    out = tmp_path / "m.safetensors"
    with holder(out) as process:
        with pytest.raises(TrainingError) as caught, exclusive(out):
            pass
        assert caught.value.message.startswith(f"{out} is being trained by process {process.pid} on ")
        assert " since 2" in caught.value.message
        assert caught.value.hint
    with exclusive(out):
        pass
    assert list(tmp_path.iterdir()) == []


def test_within_one_process_the_second_is_refused_too(tmp_path: Path) -> None:
    out = tmp_path / "m.safetensors"
    with exclusive(out), pytest.raises(TrainingError, match=f"process {os.getpid()} on"), exclusive(out):
        pass


@posix
def test_a_killed_process_blocks_nobody_and_its_litter_goes(tmp_path: Path) -> None:
    out = tmp_path / "m.safetensors"
    with holder(out) as process:
        process.send_signal(signal.SIGKILL)
        process.wait(60)
    assert lock_path(out).exists()
    with exclusive(out):
        pass
    assert list(tmp_path.iterdir()) == []


@posix
@pytest.mark.parametrize("call", ["os.open", "fcntl.flock", "os.write", "os.unlink"])
def test_a_process_that_ends_by_a_signal_takes_its_file_with_it(tmp_path: Path, call: str) -> None:
    """Whatever it does at that moment, and the folders that it made."""
    out = tmp_path / "new" / "folder" / "m.safetensors"
    program = f"""
import fcntl, os
from pathlib import Path
from charrnn.system import atomic
from charrnn.training.locking import exclusive

real = {call}

def interrupted(*arguments):
    real(*arguments)
    {call} = real
    atomic.abandon()
    os._exit(7)

{call} = interrupted
with exclusive(Path({str(out)!r})):
    pass
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        env=environment(),
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (7, b"")
    assert list(tmp_path.iterdir()) == []


@posix
def test_but_never_the_file_of_another(tmp_path: Path) -> None:
    out = tmp_path / "m.safetensors"
    program = f"""
import fcntl, os
from pathlib import Path
from charrnn.system import atomic
from charrnn.training.locking import exclusive

real = fcntl.flock

def interrupted(*arguments):
    try:
        real(*arguments)
    finally:
        fcntl.flock = real
        atomic.abandon()
        os._exit(7)

fcntl.flock = interrupted
with exclusive(Path({str(out)!r})):
    pass
"""
    with holder(out):
        done = subprocess.run([sys.executable, "-c", program], env=environment(), timeout=60)
        assert done.returncode == 7
        assert lock_path(out).exists()


@posix
def test_all_names_of_a_file_are_one(tmp_path: Path) -> None:
    out = tmp_path / "m.safetensors"
    link = tmp_path / "elsewhere" / "link.safetensors"
    link.parent.mkdir()
    link.symlink_to(out)
    for other in (link, tmp_path / "m", tmp_path / "elsewhere" / ".." / "m.safetensors"):
        # "m" would write the same resume file.
        with exclusive(out), pytest.raises(TrainingError, match="is being trained"), exclusive(other):
            pass
    with exclusive(out), exclusive(tmp_path / "n.safetensors"):
        pass


def test_folders_are_made_and_empty_ones_removed_again(tmp_path: Path) -> None:
    out = tmp_path / "a" / "b" / "m.safetensors"
    with exclusive(out):
        pass
    assert list(tmp_path.iterdir()) == []
    with exclusive(out):
        out.write_text("")
    assert [path.name for path in out.parent.iterdir()] == ["m.safetensors"]


@posix
def test_one_who_opened_the_file_before_it_was_removed_takes_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "m.safetensors"
    opened = os.open
    calls = 0

    def open_late(path: Path, *args: int) -> int:
        nonlocal calls
        descriptor = opened(path, *args)
        calls += 1
        if calls == 1:  # its holder ends just now
            os.unlink(path)
        return descriptor

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", open_late)
        held = exclusive(out)
        held.__enter__()
    assert calls == 2
    with pytest.raises(TrainingError), exclusive(out):
        pass
    held.__exit__(None, None, None)


@posix
def test_a_file_system_without_locks_is_no_obstacle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl

    def fail(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", fail)
    with exclusive(tmp_path / "m.safetensors"):
        pass


@posix
def test_what_the_file_says_reaches_no_terminal_as_it_is(tmp_path: Path) -> None:
    out = tmp_path / "m.safetensors"
    with exclusive(out):
        lock_path(out).write_bytes(b"\x1b[31mred\xff\n" * 1000)
        with pytest.raises(TrainingError) as caught, exclusive(out):
            pass
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 2000


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file" / "m.safetensors", tmp_path / "nul\0" / "m.safetensors"):
        with pytest.raises(SaveError) as caught, exclusive(out):
            pass
        assert str(caught.value).isprintable()
        assert caught.value.hint
