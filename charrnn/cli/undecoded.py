"""What a filter says of bytes that are no text: it reads on, but its user may have meant another encoding."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, TypeVar

from charrnn.cli.process import say
from charrnn.config import TextConfig


class _Line(Protocol):
    @property
    def text(self) -> str: ...
    @property
    def file(self) -> str: ...
    @property
    def number(self) -> int: ...


Line = TypeVar("Line", bound=_Line)


class Notice:
    """Says once that a text is none in the encoding that it is read in, and what to try."""

    def __init__(self, text: TextConfig, own: TextConfig) -> None:
        """`own` is how the model's corpus was read."""
        self._text, self._own = text, own
        self._said = False

    def look(self, line: str, file: str, number: int = 0) -> None:
        """At the next line, number so many of its file, or 0: nobody counts them."""
        if self._said or (line.isascii() and "\0" not in line):
            return
        from charrnn.text.lines import what_to_try_with

        hint = what_to_try_with(line, self._text, self._own.encoding)
        if hint is not None:
            self._said = True
            where = f", as line {number:,} shows" if number else ""
            say(f"note: {file} is not {self._text.encoding.upper()} text{where}: {hint}")


def told(results: Iterator[list[Line]], text: TextConfig, own: TextConfig) -> Iterator[list[Line]]:
    """The same results, looked at."""
    notice = Notice(text, own)
    for lines in results:
        for line in lines:
            notice.look(line.text, line.file, line.number)
        yield lines
