"""Loss curves as a file: SVG without any library, PNG with Matplotlib if it is installed."""

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
from charrnn.training.curves import Curves, Labels, svg

SUFFIXES = (".svg", ".png")
OPTION = "--plot"  # named by errors


def check(path: str | Path) -> None:
    """Check that a picture can be written to the path, before there is work to lose.

    Raises:
        ConfigError: the suffix is not one of SUFFIXES, or the path is a folder.
        CharrnnError: the path is a PNG, and Matplotlib is not installed.
        SaveError: the path cannot be written.
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


def draw(path: str | Path, history: Iterable[Mapping[str, Any]], labels: Labels) -> None:
    """Draw the history of a model file as an .svg or .png file, written atomically.

    Raises:
        ConfigError, CharrnnError, SaveError: as `check`.
        CharrnnError: the history has no losses.
    """
    path = Path(path)
    check(path)
    found = Curves.of(history)
    if not found:
        raise CharrnnError(
            f"there is no loss of {printable(labels.title)} to draw", "it is measured while a model trains"
        )
    content = svg(found, labels).encode() if path.suffix.lower() == ".svg" else _png(found, labels)
    with writing(path, OPTION):
        atomic.write(path, [content])


def _png(found: Curves, labels: Labels) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(curves.WIDTH / 100, curves.HEIGHT / 100), dpi=200, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_title(
        f"{printable(labels.title)}\n{printable(labels.subtitle)}", loc="left", fontsize=9, parse_math=False
    )
    for points, colour, name in curves.lines(found, labels):
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
