"""The note of a filter about undecodable bytes: it reads on, but the user may have meant another encoding."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, TypeVar

from charrnn.cli.process import say
from charrnn.config import TextConfig


class OfLine(Protocol):
    """What a filter found out about a line."""

    @property
    def text(self) -> str: ...
    @property
    def file(self) -> str: ...
    @property
    def number(self) -> int: ...


Line = TypeVar("Line", bound=OfLine)


class Notice:
    """Says once that a text is invalid in its encoding, with a hint at another."""

    def __init__(self, text: TextConfig, model_text: TextConfig) -> None:
        """`text` is how the input is read, `model_text` how the model's corpus was."""
        self._text, self._model_text = text, model_text
        self._said = False

    def check(self, line: str, file: str, number: int = 0) -> None:
        """Check the next line of a file; `number` is its line number, 0 if unknown."""
        if self._said or (line.isascii() and "\0" not in line):
            return
        from charrnn.text.files.lines import what_to_try_with

        hint = what_to_try_with(line, self._text, self._model_text.encoding)
        if hint is not None:
            self._said = True
            where = f", as line {number:,} shows" if number else ""
            say(f"note: {file} is not {self._text.encoding.upper()} text{where}: {hint}")


def with_notice(
    results: Iterator[list[Line]], text: TextConfig, model_text: TextConfig
) -> Iterator[list[Line]]:
    """The same results, checked by a Notice on the way."""
    notice = Notice(text, model_text)
    for lines in results:
        for line in lines:
            notice.check(line.text, line.file, line.number)
        yield lines
