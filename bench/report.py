"""What a benchmark says: its progress, tables as plain text and as markdown, the block of a page."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

NOTHING = "–"


class BlockError(Exception):
    """The page has no place for the block."""


def narrator() -> Callable[[str], None]:
    """Says lines on stderr, each with the seconds since now."""
    begun = time.perf_counter()

    def say(line: str) -> None:
        print(f"{time.perf_counter() - begun:5.0f} s  {line}", file=sys.stderr, flush=True)

    return say


def require_same(path: Path, measured_on: dict[str, str], here: dict[str, str]) -> None:
    """Refuse to go on elsewhere with what a file holds."""
    if measured_on != here:
        sys.exit(f"{path} was measured on another machine: {', '.join(measured_on.values())}")


@dataclass(frozen=True)
class Table:
    """The first column is text, the others are numbers."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""

    def plain(self) -> str:
        """Columns side by side, for a terminal."""
        lines = (self.header, *self.rows)
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        text = []
        for first, *others in lines:
            cells = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
            text.append("  ".join([first.ljust(widths[0]), *cells]).rstrip())
        text.insert(1, "  ".join("-" * width for width in widths))
        return "\n".join([*text, self.note]).rstrip()

    def markdown(self) -> str:
        lines = ["| " + " | ".join(cells) + " |" for cells in (self.header, *self.rows)]
        lines.insert(1, "|---|" + "---:|" * (len(self.header) - 1))
        return "\n".join([*lines, *(("", self.note) if self.note else ())])


def number(value: float | None) -> str:
    """Three significant digits, which is more than the measurements repeat: 123,000 or 0.0712."""
    if value is None:
        return NOTHING
    if value == 0:
        return "0"
    digits = 2 - math.floor(math.log10(abs(value)))
    rounded = round(value, digits)
    return f"{rounded:,.{max(digits, 0)}f}"


def seconds(value: float | None) -> str:
    return NOTHING if value is None else f"{number(value)} s"


def times(value: float | None) -> str:
    """A ratio: 1.5 x."""
    return NOTHING if value is None else f"{value:.{2 if value < 10 else 0}f} x"


def percent(value: float | None) -> str:
    return NOTHING if value is None else f"{100 * value:.0f} %"


def page_with_block(path: Path, name: str, block: str) -> str:
    """What the page in a file becomes with this block; see `replace_block`.

    Raises:
        BlockError: the page has no place for it.
    """
    try:
        return replace_block(path.read_text(encoding="utf-8"), name, block)
    except BlockError as error:
        raise BlockError(f"{path}: {error}") from None


def replace_block(page: str, name: str, block: str) -> str:
    """The page with what stands between `<!-- name -->` and `<!-- /name -->` replaced.

    Raises:
        BlockError: the markers are not there, or not once each in this order.
    """
    opening, closing = f"<!-- {name} -->", f"<!-- /{name} -->"
    before, found, rest = page.partition(opening)
    _, end, after = rest.partition(closing)
    if not (found and end) or opening in after or closing in before + after:
        raise BlockError(f"the page needs {opening} and {closing}, once each and in this order")
    return f"{before}{opening}\n\n{block.strip()}\n\n{closing}{after}"
