"""Loss over time as a figure: a panel for each text and budget, a line for each recipe.

Needs Matplotlib: pip install -e '.[bench]'.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from learned import Run

COLUMNS = 3
COLOURS = ("#0b6e99", "#d9730d", "#448361", "#ad1a72", "#6940a5", "#64473a", "#9b9a97")


def require() -> None:
    """End the program with a line that says what to do, if nothing can be drawn."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        sys.exit("Matplotlib draws the figure: pip install -e '.[bench]'")


def draw(runs: Sequence[Run], about: str, path: Path) -> None:
    """The figure, in the format of the file's suffix. The lines show each seed's best loss so far."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams.update(
        {
            "svg.hashsalt": "charrnn", "font.size": 9, "axes.titlesize": 10, "axes.spines.top": False,
            "axes.spines.right": False, "axes.grid": True, "grid.color": "#e6e6e6",
            "figure.facecolor": "white",
        }
    )  # fmt: skip
    from matplotlib import pyplot as plt

    whats = list(dict.fromkeys(run.what for run in runs))
    names = list(dict.fromkeys(run.recipe for run in runs))
    columns = min(COLUMNS, len(whats))
    rows = -(-len(whats) // columns)
    figure, panels = plt.subplots(
        rows, columns, figsize=(3.6 * columns, 2.9 * rows + 0.6), layout="constrained", squeeze=False
    )
    for panel in panels.flat[len(whats) :]:
        panel.set_visible(False)
    for panel, what in zip(panels.flat, whats, strict=False):
        _panel(panel, what, [run for run in runs if run.what == what], names)
    for row in panels:
        row[0].set_ylabel("validation loss, nats a character")
    handles = {
        label: h for panel in panels.flat for h, label in zip(*panel.get_legend_handles_labels(), strict=True)
    }
    figure.legend(
        handles.values(), handles.keys(), loc="outside upper center", ncols=len(handles), frameon=False
    )
    figure.supxlabel(about, fontsize=8, color="#555555")
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None, dpi=110)
    plt.close(figure)


def _panel(panel: Any, what: str, runs: Sequence[Run], names: Sequence[str]) -> None:
    timed = "minutes" in runs[0].budget
    panel.set_title(what)
    panel.set_xlabel("seconds" if timed else "steps")
    shown = []
    for run in runs:
        xs = [point[0] if timed else point[1] for point in run.points]
        best, ys = float("inf"), []
        for point in run.points:
            best = min(best, point[3])
            ys.append(best)
        shown += ys[len(ys) // 4 :]
        number = names.index(run.recipe)
        label = run.recipe if run.seed == min(r.seed for r in runs if r.recipe == run.recipe) else None
        panel.plot(xs, ys, "-", color=COLOURS[number % len(COLOURS)], linewidth=1.3, label=label)
    if shown:  # the first losses would press all others together
        low, high = min(shown), max(shown)
        panel.set_ylim(low - 0.05 * (high - low) - 1e-3, high + 0.05 * (high - low) + 1e-3)
