"""How the process behaves: what a terminal is shown, and that a signal is answered whatever runs."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.environment import environment
from support.processes import SIGNALS

from charrnn.cli.process import Output
from charrnn.cli.views import progress
from charrnn.events import Unsaved

posix = pytest.mark.skipif(os.name != "posix", reason="signals are POSIX")


class Terminal(io.TextIOWrapper):
    """stdout, kept in memory."""

    def __init__(self, *, watched: bool) -> None:
        self.bytes = io.BytesIO()
        self.watched = watched
        super().__init__(self.bytes, encoding="utf-8")

    def isatty(self) -> bool:
        return self.watched


def written(monkeypatch: pytest.MonkeyPatch, *pieces: str, watched: bool, raw_bytes: bool = False) -> bytes:
    terminal = Terminal(watched=watched)
    monkeypatch.setattr(sys, "stdout", terminal)
    output = Output(raw_bytes=raw_bytes)
    for piece in pieces:
        output.write(piece)
    output.flush()
    return terminal.bytes.getvalue()


HOSTILE = "a\x1b]0;title\x07\x9b2J\tb\r\n\x7f\x08日\u00a0"


def test_a_terminal_is_shown_no_control_characters_of_a_model(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = written(monkeypatch, HOSTILE, watched=True).decode()
    assert shown == "a\\x1b]0;title\\x07\\x9b2J\tb\r\n\\x7f\\x08日\u00a0"


def test_a_pipe_gets_what_was_written(monkeypatch: pytest.MonkeyPatch) -> None:
    assert written(monkeypatch, HOSTILE, watched=False) == HOSTILE.encode()


def test_a_terminal_is_shown_the_bytes_of_a_model_as_text(monkeypatch: pytest.MonkeyPatch) -> None:
    data = "日\x1b[31m".encode() + b"\xc2\x9b2J\xff."
    pieces = data.decode("latin-1")  # one byte after another
    shown = written(monkeypatch, *pieces, watched=True, raw_bytes=True).decode()
    assert shown == "日\\x1b[31m\\x9b2J\ufffd."
    assert written(monkeypatch, *pieces, watched=False, raw_bytes=True) == data


@pytest.mark.parametrize("view", [progress.Notes, progress.Lines])
def test_what_cannot_be_saved_is_a_warning(
    view: type[progress.View], capsys: pytest.CaptureFixture[str]
) -> None:
    view().show(Unsaved(7, "m\x1b cannot be written: No space left on device: free some space"))
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("warning: m\\x1b cannot be written: No space left on device: free some space")
    assert "training goes on" in said.err


@posix
@pytest.mark.parametrize(("name", "code"), SIGNALS)
def test_a_signal_is_answered_while_the_main_thread_is_in_a_long_call(name: str, code: int) -> None:
    script = """
import hashlib
from charrnn.cli import process

def program(args):
    print("ready", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 2_000_000_000)  # returns to Python when it is done, not before

process.run(program, [], ())
"""
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, env=environment()
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.Signals[name])
        try:
            assert process.wait(60) == code
        finally:
            process.kill()


@posix
def test_the_first_signal_still_asks_while_the_main_thread_is_in_a_long_call() -> None:
    script = """
import hashlib, os, signal, threading, time
from charrnn.cli import process

def program(args):
    with process.StopRequest(lambda: print("asked", flush=True), lambda: None) as stop:
        stop.saveable = True
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
        begun = time.monotonic()
        while time.monotonic() < begun + 1.5:  # the signal comes, and is late
            hashlib.pbkdf2_hmac("sha256", b"", b"", 1_500_000)
        print(stop(), flush=True)
    return 0

process.run(program, [], ())
"""
    result = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        env=environment(),
        timeout=60,
    )
    assert result.stdout.decode().split() == ["asked", "SIGINT"]
    assert result.returncode == 0


@posix
@pytest.mark.parametrize(("name", "code"), SIGNALS)
@pytest.mark.parametrize("late", [False, True])
def test_a_signal_leaves_nothing_half_written(tmp_path: Path, name: str, code: int, late: bool) -> None:
    script = f"""
import hashlib, time
from pathlib import Path
from charrnn.system import atomic
from charrnn.cli import process

def chunks():
    yield b"half"
    print("ready", flush=True)
    if {late}:
        hashlib.pbkdf2_hmac("sha256", b"", b"", 2_000_000_000)
    time.sleep(60)

process.run(lambda args: atomic.write(Path("out"), chunks()) or 0, [], ())
"""
    with subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        cwd=tmp_path,
        env=environment(),
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        assert os.listdir(tmp_path) == [".out.tmp"]
        process.send_signal(signal.Signals[name])
        try:
            assert process.wait(60) == code
        finally:
            process.kill()
    assert os.listdir(tmp_path) == []
