"""Where a heat map goes: to a terminal in colours, below bars without any, into a web page or a picture."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from charrnn.cli.process import Output
from charrnn.errors import ConfigError
from charrnn.system import atomic
from charrnn.system.file_errors import refuse_overwriting, writing

if TYPE_CHECKING:
    from charrnn.scoring import heatmap

COLORS = ("auto", "always", "never")


class Wanted(NamedTuple):
    """What the options ask for."""

    html: str | None
    svg: str | None
    color: str = "auto"

    @property
    def page(self) -> str | None:
        """The file to write."""
        return self.html or self.svg

    @property
    def option(self) -> str:
        """Its option."""
        return "--html" if self.html else "--svg"


def color(value: str) -> str:
    """The value of --color. ConfigError: it is none."""
    if value not in COLORS:
        raise ConfigError(f"color is {value!r}", f"give one of {', '.join(COLORS)}")
    return value


def check(wanted: Wanted, paths: list[str], model: Path) -> None:
    """Check, before there is work to lose, that one file is written, over nothing that is read.

    Raises:
        ConfigError: it is not so.
    """
    from charrnn.text.files.sources import find

    if wanted.html and wanted.svg:
        raise ConfigError("--html and --svg are given", "give one of them")
    if wanted.page and wanted.page != "-":
        read = [("what is read", source.file) for source in find(paths)]
        refuse_overwriting(Path(wanted.page), [*read, ("the model", model)], wanted.option)


def show(pieces: Iterable[heatmap.Piece], scale: heatmap.Scale, wanted: Wanted, output: Output) -> None:
    """Write the text in the way that is wanted."""
    from charrnn.scoring import heatmap

    if wanted.page:
        shown = heatmap.html(pieces, scale) if wanted.html else heatmap.svg(pieces, scale)
        if wanted.page == "-":
            output.write_all(shown)
        else:
            with writing(Path(wanted.page), wanted.option):
                atomic.write(Path(wanted.page), (piece.encode() for piece in shown))
        return
    paint = None
    to_terminal = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    if wanted.color == "always" or (wanted.color == "auto" and to_terminal):
        from charrnn.cli.views.terminal import heat_painter

        paint = heat_painter(scale, forced=wanted.color == "always")
    output.write_all(heatmap.painted(pieces, paint, scale) if paint else heatmap.marked(pieces, scale))
