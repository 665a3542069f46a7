"""Prompts: from an argument, from stdin, or from a file of prompts read line by line."""

from __future__ import annotations

import io
import json
import os
import queue
import sys
import threading
from itertools import count
from typing import TYPE_CHECKING, Any

from charrnn.config import TextConfig
from charrnn.errors import CorpusError, quoted
from charrnn.text.files.waiting import BeforeWaiting, take

if TYPE_CHECKING:
    from charrnn import api

READ_AHEAD = 4096  # prompts
# The most characters of a prompt, or bytes on stdin; they take minutes, and 40 bytes of memory each.
LONGEST = 1 << 24
_JSON = 'give a string, or an object such as {"prompt": "Once", "seed": 7, "label": "tale"}'


def argument(value: str, text: TextConfig) -> str:
    """An argument's text in the model's characters, which are bytes for a `--bytes` model."""
    return os.fsencode(value).decode("latin-1") if text.bytes else value


def from_stdin(text: TextConfig, model_text: TextConfig) -> str:
    """All of stdin except the last line end. `model_text`, the corpus's configuration, is for error hints.

    Raises:
        CorpusError: stdin is closed, invalid in the encoding, or too long.
        ConfigError: the encoding is not known.
    """
    if sys.stdin is None:
        raise CorpusError("stdin is closed", "give the prompt as --prompt TEXT")
    from charrnn.text.files.decoding import KEEP_BYTES, Cleaner

    data = sys.stdin.buffer.read(LONGEST + 1)
    if len(data) > LONGEST:
        raise _too_long("the prompt on stdin", "bytes")
    prompt = data.decode(_checked_encoding(text), KEEP_BYTES)
    prompt = Cleaner(text).clean(_readable(prompt, text, model_text, "the prompt on stdin"), last=True)
    return prompt.removesuffix("\n").removesuffix("\r")


def _checked_encoding(text: TextConfig) -> str:
    from charrnn.text.files.decoding import check_encoding

    if text.bytes:
        return "latin-1"
    check_encoding(text.encoding)
    return text.encoding


def _too_long(what: str, unit: str = "characters") -> CorpusError:
    return CorpusError(f"{what} is longer than {LONGEST:,} {unit}", "give its end alone, as tail -c does")


def _readable(prompt: str, text: TextConfig, model_text: TextConfig, what: str) -> str:
    """A prompt that was decoded with KEEP_BYTES, its invalid bytes skipped or replaced.

    Raises:
        CorpusError: there is an invalid byte, and the configuration is strict.
    """
    if prompt.isascii() or text.bytes:
        return prompt
    from charrnn.text.files.lines import BYTES, what_to_try_with

    if text.encoding_errors != "strict":
        return BYTES.sub("" if text.encoding_errors == "skip" else "\ufffd", prompt)
    if (found := BYTES.search(prompt)) is None:
        return prompt
    before = len(prompt[: found.start()].encode(text.encoding, "replace"))
    raise CorpusError(
        f"{what} is no {text.encoding.upper()} at byte {before}",
        what_to_try_with(prompt, text, model_text.encoding) or "",
    )


class Prompts:
    """The lines of a file or of stdin (`-`), read on a separate thread; each is a prompt, perhaps in JSON.

    A text can thus be written before the next line has arrived, and at most READ_AHEAD lines are in memory.
    `before_waiting` is called before each wait for a line; see charrnn.text.files.waiting.

    Raises:
        OSError: the file cannot be opened.
        CorpusError: stdin is closed.
    """

    def __init__(
        self,
        name: str,
        text: TextConfig,
        model_text: TextConfig,
        before_waiting: BeforeWaiting,
        *,
        in_json: bool = False,
    ) -> None:
        """`model_text`, with which the model's corpus was read, is for error hints.

        A line that is `in_json` is a string, or an object with the keys of api.Prompt.
        """
        from charrnn.text.files.decoding import KEEP_BYTES

        encoding = "utf-8" if in_json and text.bytes else _checked_encoding(text)
        if name == "-":
            if sys.stdin is None:
                raise CorpusError("stdin is closed", "name a file instead of -")
            stream = sys.stdin.buffer
        else:
            stream = open(name, "rb")  # noqa: SIM115 - the process ends before the file does
        # Reads what a pipe holds, and does not wait for more than a line.
        self._stream = io.TextIOWrapper(stream, encoding, KEEP_BYTES, newline="\n")
        self._text, self._model_text, self._before_waiting = text, model_text, before_waiting
        # A line or an error; None at the end.
        self._lines: queue.Queue[str | api.Prompt | Exception | None] = queue.Queue(READ_AHEAD)
        self._parse = self._from_json if in_json else self._prompt
        self._error: Exception | None = None  # raised after the lines before it were taken
        self._ended = False
        threading.Thread(target=self._read, name="charrnn-prompts", daemon=True).start()

    def take(self, most: int) -> list[str | api.Prompt]:
        """The next lines, those available but at least one and at most `most`; none at the end.

        Raises:
            CorpusError: a line cannot be decoded.
            OSError: the file cannot be read.
        """
        found: list[str | api.Prompt] = []
        while not self._ended and len(found) < most:
            line = self._next(wait=not found)
            if line is None:
                break
            if isinstance(line, Exception):
                self._error, self._ended = line, True
            else:
                found.append(line)
        if not found and self._error is not None:
            raise self._error
        return found

    def _next(self, wait: bool) -> str | api.Prompt | Exception | None:
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
                self._lines.put(self._parse(line, number))
        except Exception as problem:
            self._lines.put(problem)
        self._lines.put(None)

    def _prompt(self, line: str, number: int) -> str:
        from charrnn.text.files.decoding import BYTE_ORDER_MARK

        line, what = line.removesuffix("\n"), f"line {number} of the prompts"
        if len(line) > LONGEST:
            raise _too_long(what)
        if not (self._text.keep_newlines or self._text.bytes):
            line = line.removesuffix("\r")
        prompt = _readable(line, self._text, self._model_text, what)
        return prompt if self._text.bytes else prompt.lstrip(BYTE_ORDER_MARK)

    def _from_json(self, line: str, number: int) -> api.Prompt:
        from charrnn import api
        from charrnn.text.files.decoding import Cleaner

        what = f"line {number} of the prompts"
        if len(line) > LONGEST:
            raise _too_long(what)
        try:
            value: Any = json.loads(line)
        except ValueError:
            raise CorpusError(f"{what} is no JSON", _JSON) from None
        values = {"prompt": value} if isinstance(value, str) else value
        if not isinstance(values, dict) or not isinstance(values.get("prompt"), str):
            raise CorpusError(f"{what} has no prompt", _JSON)
        if others := sorted(values.keys() - {"prompt", "seed", "label"}):
            raise CorpusError(f"{what} has {quoted(others[0])}, which means nothing", _JSON)
        seed = values.get("seed")
        if seed is not None and not (type(seed) is int and 0 <= seed < 2**63):
            raise CorpusError(f"the seed in {what} is {quoted(seed)}", "give a whole number from 0 up")
        prompt, label = values["prompt"], values.get("label")
        by_column = isinstance(label, dict) and all(isinstance(value, str) for value in label.values())
        if label is not None and not (isinstance(label, str) or by_column):
            raise CorpusError(
                f"the label in {what} is {quoted(label)}", "give a text, or one for each column"
            )
        if self._text.bytes:
            prompt = prompt.encode("utf-8", "surrogatepass").decode("latin-1")
        return api.Prompt(Cleaner(self._text).clean(prompt, last=True), seed, label)
