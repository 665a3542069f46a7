"""Loss curves as a file: SVG by our own hand, PNG by Matplotlib where that is installed."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from charrnn.errors import CharrnnError, ConfigError, printable
from charrnn.system import atomic
from charrnn.system.file_errors import writing
from charrnn.training import curves
from charrnn.training.curves import Curves, Words, svg

SUFFIXES = (".svg", ".png")
OPTION = "--plot"  # names the file


def check(path: str | Path) -> None:
    """That a picture can be drawn into such a file, before there is work to lose.

    Raises:
        ConfigError: its suffix is none of ours, or it is a folder.
        CharrnnError: what draws a PNG is not installed.
        SaveError: it cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise ConfigError(f"plot is {printable(str(path))!r}", "give a name that ends in .svg or .png")
    if os.path.isdir(path):
        raise ConfigError(f"{printable(str(path))} is a folder", "name a file to draw into")
    if path.suffix.lower() == ".png" and find_spec("matplotlib") is None:
        raise CharrnnError(
            "a PNG needs Matplotlib", "pip install 'charrnn[plot]', or give a name that ends in .svg"
        )
    with writing(path, OPTION):
        atomic.check(path)


def draw(path: str | Path, history: Iterable[Mapping[str, Any]], words: Words) -> None:
    """Draw a training history, as a model file has it, into an .svg or .png file; atomically.

    Raises:
        ConfigError, CharrnnError: as `check`; or the history is empty.
    """
    path = Path(path)
    check(path)
    found = Curves.of(history)
    if not found:
        raise CharrnnError(
            f"there is no loss of {printable(words.title)} to draw", "it is measured while a model trains"
        )
    content = svg(found, words).encode() if path.suffix.lower() == ".svg" else _png(found, words)
    with writing(path, OPTION):
        atomic.write(path, [content])


def _png(found: Curves, words: Words) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(curves.WIDTH / 100, curves.HEIGHT / 100), dpi=200, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_title(
        f"{printable(words.title)}\n{printable(words.subtitle)}", loc="left", fontsize=9, parse_math=False
    )
    for points, colour, name in (
        (found.training, curves.TRAINING, words.training),
        (found.validation, curves.VALIDATION, words.validation),
    ):
        if points:
            axes.plot(*zip(*points, strict=True), "o-", color=colour, markersize=3, label=name)
    if found.best is not None:
        epoch, loss = found.best
        label = f"best {loss:.4f} at epoch {epoch:,.1f}"
        axes.plot(
            [epoch], [loss], "o", color=curves.BEST, markerfacecolor="white", markersize=8,
            markeredgewidth=2, label=label, zorder=5,
        )  # fmt: skip
    axes.set_xlim(left=0)
    axes.set_xlabel("epoch")
    axes.set_ylabel("loss, nats a character")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color=curves.GRID)
    axes.legend(frameon=False)
    memory = io.BytesIO()
    figure.savefig(memory, format="png", metadata={"Software": None})
    return memory.getvalue()
