"""What texts go on from: an argument, or a file of prompts that is read as it comes."""

from __future__ import annotations

import codecs
import os
import queue
import sys
import threading
from itertools import count

from charrnn.config import TextConfig
from charrnn.errors import CorpusError
from charrnn.waiting import BeforeWaiting, take

READ_AHEAD = 4096  # prompts
LONGEST = 1 << 24  # bytes of a prompt, for which the network needs minutes, and 40 bytes of memory for each


def argument(value: str, text: TextConfig) -> str:
    """What was typed, in the characters of the model: a `--bytes` model's are bytes."""
    return os.fsencode(value).decode("latin-1") if text.bytes else value


def from_stdin(text: TextConfig) -> str:
    """All of stdin but its last line end, read as the model's corpus was.

    Raises:
        CorpusError: stdin is closed, is no UTF-8, or too long.
    """
    if sys.stdin is None:
        raise CorpusError("stdin is closed", "give the prompt as --prompt TEXT")
    data = sys.stdin.buffer.read(LONGEST + 1)
    if len(data) > LONGEST:
        raise _too_long("the prompt on stdin")
    prompt = _decoded(data, text, "the prompt on stdin", begins=True)
    if not text.keep_newlines and not text.bytes:
        prompt = prompt.replace("\r\n", "\n").replace("\r", "\n")
    return prompt.removesuffix("\n").removesuffix("\r")


def _too_long(what: str) -> CorpusError:
    return CorpusError(f"{what} is longer than {LONGEST:,} bytes", "give its end alone, as tail -c does")


def _decoded(data: bytes, text: TextConfig, what: str, *, begins: bool) -> str:
    """`begins`: it is the first of its file, where a byte order mark may stand."""
    if text.bytes:
        return data.decode("latin-1")
    try:
        return (data.removeprefix(codecs.BOM_UTF8) if begins else data).decode("utf-8")
    except UnicodeDecodeError as problem:
        raise CorpusError(
            f"{what} is no UTF-8 at byte {problem.start}", "convert it, such as with iconv -f latin1 -t utf-8"
        ) from None


class Prompts:
    """The lines of a file or of stdin (`-`), read as the model's corpus was, by a thread of their own.

    So a text can be written while the line after it is still to come, and no more than READ_AHEAD lines are
    in memory. `before_waiting` is called whenever the next one has not come yet; see charrnn.waiting.

    Raises:
        OSError: the file cannot be opened.
        CorpusError: stdin is closed.
    """

    def __init__(self, name: str, text: TextConfig, before_waiting: BeforeWaiting) -> None:
        if name == "-":
            if sys.stdin is None:
                raise CorpusError("stdin is closed", "name a file: --prompts FILE")
            self._stream = sys.stdin.buffer
        else:
            self._stream = open(name, "rb")  # noqa: SIM115 - the process ends before the file does
        self._text, self._before_waiting = text, before_waiting
        # A line, or what went wrong; None at the end.
        self._lines: queue.Queue[str | Exception | None] = queue.Queue(READ_AHEAD)
        self._waiting: Exception | None = None
        self._ended = False
        threading.Thread(target=self._read, name="charrnn-prompts", daemon=True).start()

    def take(self, most: int) -> list[str]:
        """The next lines, `most` at the most: those that are there, one at least. None at the end.

        Raises:
            CorpusError: a line cannot be decoded.
            OSError: the file cannot be read.
        """
        found: list[str] = []
        while not self._ended and len(found) < most:
            line = self._next(wait=not found)
            if isinstance(line, str):
                found.append(line)
            elif line is not None:  # raised once the texts of the lines before have been written
                self._waiting, self._ended = line, True
            else:
                break
        if not found and self._waiting is not None:
            raise self._waiting
        return found

    def _next(self, wait: bool) -> str | Exception | None:
        try:
            line = take(self._lines, self._before_waiting) if wait else self._lines.get_nowait()
        except queue.Empty:
            return None
        if line is None:
            self._ended = True
        return line

    def _read(self) -> None:
        try:
            for number in count(1):
                if not (line := self._stream.readline(LONGEST + 2)):
                    break
                self._lines.put(self._prompt(line, number))
        except Exception as problem:
            self._lines.put(problem)
        self._lines.put(None)

    def _prompt(self, line: bytes, number: int) -> str:
        line, what = line.removesuffix(b"\n"), f"line {number} of the prompts"
        if len(line) > LONGEST:
            raise _too_long(what)
        prompt = _decoded(line, self._text, what, begins=number == 1)
        keeps = self._text.keep_newlines or self._text.bytes
        return prompt if keeps else prompt.removesuffix("\r")
