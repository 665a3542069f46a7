"""`sample --interactive` in a terminal: keys, what is shown, and that the terminal is left as it was."""

from __future__ import annotations

import os
import re
import select
import signal
import struct
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support.calls import call
from support.environment import environment
from support.processes import SIGNALS, command, failed
from support.toy_models import toy

from charrnn.checkpoint import model_file
from charrnn.search.suggestions import Offers

pytestmark = pytest.mark.skipif(os.name != "posix", reason="a pseudo-terminal is POSIX")

RIGHT, ESCAPE, TAB = b"\x1b[C", b"\x1b", b"\t"
PATIENCE = 60.0  # seconds, on a machine that has other things to do


class Terminal:
    """The command in a terminal of 80 columns; stdout is a pipe, or the terminal too."""

    def __init__(self, *args: object, to_terminal: bool = False) -> None:
        import fcntl
        import pty
        import termios

        self._termios = termios
        self._screen, self._end = pty.openpty()
        fcntl.ioctl(self._end, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self._before = termios.tcgetattr(self._end)
        self.seen = b""
        self._process = subprocess.Popen(
            command("sample", "--interactive", *args),
            stdin=self._end,
            stdout=self._end if to_terminal else subprocess.PIPE,
            stderr=self._end,
            env=environment(TERM="xterm"),
            start_new_session=True,
        )

    def wait_for(self, there: Callable[[str], object]) -> None:
        """Until what the terminal shows, without escapes, is as wanted."""
        end = time.monotonic() + PATIENCE
        while not there(self.text()):
            assert time.monotonic() < end, self.seen
            self._look(0.05)

    def text(self) -> str:
        return re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", self.seen.decode(errors="replace"))

    def _look(self, seconds: float) -> None:
        if select.select([self._screen], [], [], seconds)[0]:
            came = os.read(self._screen, 65536)
            self.seen += came
            for _ in range(came.count(b"\x1b[6n")):  # where the cursor is
                os.write(self._screen, b"\x1b[1;1R")

    def press(self, *keys: bytes) -> None:
        """Press the keys one after another, each once the editor has drawn what came of the one before."""
        for key in keys:
            before = len(self.seen)
            os.write(self._screen, key)
            end = time.monotonic() + PATIENCE
            while len(self.seen) == before and self._process.poll() is None:
                assert time.monotonic() < end
                self._look(0.05)
            while select.select([self._screen], [], [], 0.15)[0]:
                self._look(0)

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def end(self) -> tuple[int, str]:
        """The exit code and what came to stdout; the terminal is as it was."""
        end = time.monotonic() + PATIENCE
        while self._process.poll() is None:
            assert time.monotonic() < end
            self._look(0.05)
        self._look(0)
        written = ""
        if self._process.stdout is not None:
            with self._process.stdout as stream:
                written = stream.read().decode()
        try:
            assert self._termios.tcgetattr(self._end) == self._before
        finally:
            os.close(self._end)
            os.close(self._screen)
        return self._process.returncode, written


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("interaction")
    model_file.save(toy(8, "\nabcd", ending=0.2), folder / "lines.safetensors")
    model_file.save(toy(3, "\n abcd", lines=False, ending=0.0), folder / "prose.safetensors")
    model_file.save(toy(3, "\nabcd", split="%", ending=9.0), folder / "records.safetensors")
    return folder


@pytest.fixture
def offers(folder) -> Offers:
    return Offers(model_file.load(folder / "lines.safetensors"))


def started(folder: Path, name: str = "lines", *args: object, **options: bool) -> Terminal:
    terminal = Terminal("-m", folder / f"{name}.safetensors", *args, **options)
    terminal.wait_for(lambda text: "Esc: end" in text)
    return terminal


def test_keys_take_what_is_offered(folder, offers):
    first = offers.after("a")
    assert len(first.continuation) > 1
    then = offers.after("a" + first.continuation[0])
    assert then.word != "\n"
    terminal = started(folder)
    terminal.press(b"a", RIGHT, TAB, ESCAPE)
    assert terminal.end() == (0, "a" + first.continuation[0] + then.word + "\n")


def test_offers_and_probabilities_are_in_view(folder, offers):
    terminal = started(folder)
    offer = offers.after("")
    character, probability = offer.next[0]
    assert f"{character} {probability:.2f}" in terminal.text()
    assert offer.continuation in terminal.text()
    terminal.press(b"\xc3\xa9", b"\x04")
    assert "never seen: é" in terminal.text()
    assert terminal.end() == (0, "é\n")


def test_lines_come_one_after_another(folder):
    terminal = started(folder)
    terminal.press(b"ab", b"\r", b"cd", b"\x04")
    assert terminal.end() == (0, "ab\ncd\n")


def test_records_have_lines_within_and_come_one_after_another(folder):
    terminal = started(folder, "records")
    terminal.press(b"a", b"\r", b"b", b"\x0e", b"cd")
    assert "∎" in terminal.text(), "the end is offered"
    terminal.press(RIGHT, b"b", b"\x04")
    assert terminal.end() == (0, "a\nb\n%\ncd\n%\nb\n%\n")


def test_prose_has_lines_within(folder):
    terminal = started(folder, "prose", "--prompt", "ab")
    terminal.press(b"c", b"\r", b"d", ESCAPE)
    assert terminal.end() == (0, "abc\nd\n")


@pytest.mark.compiled
@pytest.mark.parametrize(("name", "first"), [("lines", b"dcbab\r" * 6), ("prose", b"dcbab\r" * 6)])
def test_what_is_accepted_is_offered_again(folder, name, first):
    terminal = started(folder, name, "--adaptive")
    terminal.press(first, b"dc", TAB, ESCAPE)
    assert terminal.end() == (0, "dcbab\n" * 7)
    terminal = started(folder, name)
    terminal.press(first, b"dc", TAB, ESCAPE)
    assert terminal.end()[1] != "dcbab\n" * 7


def test_what_was_written_stays_in_the_terminal(folder):
    terminal = started(folder, to_terminal=True)
    terminal.press(b"dcba", b"\x04")
    assert terminal.end()[0] == 0
    assert terminal.text().rstrip().endswith("dcba")


def test_ctrl_c_writes_nothing_and_is_130(folder):
    terminal = started(folder)
    terminal.press(b"ab", b"\x03")
    assert terminal.end() == (130, "")


@pytest.mark.parametrize(("name", "code"), SIGNALS)
def test_signals_leave_the_terminal_as_it_was(folder, name, code):
    terminal = started(folder)
    terminal.press(b"ab")
    terminal.signal(signal.Signals[name])
    assert terminal.end() == (code, "")
    assert terminal.seen.rfind(b"\x1b[?2004l") > terminal.seen.rfind(b"\x1b[?2004h")
    assert terminal.seen.rfind(b"\x1b[?25h") > terminal.seen.rfind(b"\x1b[?25l")


def test_without_a_terminal_it_says_so(folder):
    error = failed(call("sample", "--interactive", "-m", folder / "lines.safetensors"))
    assert "needs a terminal, and stdin is none" in error
    terminal = Terminal("-m", folder / "lines.safetensors", "--prompt", "a€")
    code, _ = terminal.end()
    assert code == 1
    assert "U+20AC" in terminal.text()


@pytest.mark.parametrize(
    "option",
    [
        ("--prompts", "x"),
        ("--count", 2),
        ("--best-of", 2),
        ("--prompt", "-"),
        ("--seed", 1),
        ("--match", "a"),
        ("--exact",),
        ("--ban", "b"),
        ("--novel",),
        ("--unique",),
        ("--dry", 1),
    ],
)
def test_options_that_would_do_nothing_are_refused(folder, option):
    result = call("sample", "--interactive", "-m", folder / "lines.safetensors", *option)
    assert result.returncode == 2
    assert b"--interactive" in result.stderr
