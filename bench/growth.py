"""How speed and memory grow with the network and the window, as a figure of small panels.

    python bench/growth.py --write docs/growth.svg
    python bench/growth.py --json growth.json                          the figures alone
    python bench/growth.py --read growth.json --write docs/growth.svg  draws them anew

Drawing needs Matplotlib: pip install -e '.[bench]'.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import machine
from measure import Unavailable, Worker, compare, python
from networks import VOCABULARY, Network, flops_per_character
from report import narrator
from sections import HERE, Bench

from charrnn.nn.cells import learning

CELLS = learning()
COLOURS = dict(zip(CELLS, cycle(("#0b6e99", "#d9730d", "#448361", "#6940a5")), strict=False))
MIDDLE = {"hidden": 128, "layers": 2, "seq": 50, "batch": 50, "vocabulary": VOCABULARY}


@dataclass(frozen=True)
class Axis:
    """One quantity that grows, while the others stay as in MIDDLE."""

    name: str  # the key in MIDDLE
    label: str
    values: tuple[int, ...]


AXES = (
    Axis("hidden", "hidden size H", (32, 64, 128, 256, 512, 1024)),
    Axis("layers", "layers L", (1, 2, 4, 8)),
    Axis("vocabulary", "characters in the vocabulary V", (16, 64, 256, 1024, 4096)),
    Axis("batch", "batch size B", (1, 4, 16, 64, 256)),
    Axis("seq", "window T", (4, 16, 64, 256, 1024)),
)
Point = dict[str, Any]  # "axis", "cell", "x", "speed" (characters/s), "memory" (MB or None), "flops"
Results = dict[str, Any]  # "machine", "versions", "peak" (GFLOP/s) and "points"


def measure(bench: Bench) -> Results:
    """Every point of every curve, and the peak of the machine.

    Raises:
        Unavailable: charrnn cannot be measured.
    """
    bench.look()
    with ExitStack() as stack:
        peak = stack.enter_context(Worker(python(HERE, "ours.py", "peak"), bench.environment()))
        for cell in CELLS:  # whose kernels are compiled now and never below, where it would take memory
            _point(bench, Network(cell, 2, 32), VOCABULARY, rounds=0)
        points, peaks = [], []
        for axis in AXES:
            for cell in CELLS:
                bench.say(f"{axis.label}: {cell.upper()}")
                for x in axis.values:
                    sizes: dict[str, Any] = MIDDLE | {axis.name: x}
                    vocabulary = sizes.pop("vocabulary")
                    point = _point(bench, Network(cell, **sizes), vocabulary, bench.rounds)
                    points.append({"axis": axis.name, "cell": cell, "x": x, **point})
            peaks.append(peak(min(bench.seconds, 0.5)))
    return {
        "machine": machine.describe(),
        "versions": bench.ours["versions"],
        "peak": max(peaks),
        "points": points,
    }


def _point(bench: Bench, network: Network, vocabulary: int, rounds: int) -> dict[str, Any]:
    corpus = bench.synthetic(1_100_000, vocabulary)
    command = python(HERE, "ours.py", "train", "--corpus", corpus, *network.arguments())
    with Worker(command, bench.environment()) as worker:
        row = compare(network.name, "characters/s", {"charrnn": lambda: worker(bench.seconds)}, rounds)
        if row.missing:
            raise Unavailable(f"{network.name}: {row.missing['charrnn']}")
        return {
            "speed": row.value("charrnn"),
            "memory": worker.facts["memory"],
            "flops": flops_per_character(network.cell, network.layers, network.hidden, vocabulary),
        }


def draw(results: Results, path: Path) -> None:
    """The figure, in the format of the file's suffix."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams.update(
        {
            "svg.hashsalt": "charrnn", "svg.fonttype": "path", "font.size": 9, "axes.titlesize": 10,
            "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True,
            "grid.color": "#e6e6e6", "lines.markersize": 4, "figure.facecolor": "white",
        }
    )  # fmt: skip
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(2, 3, figsize=(10, 6.4), layout="constrained")
    *speeds, memory = panels.flat
    for panel, axis in zip(speeds, AXES, strict=True):
        _speed(panel, axis, results)
        if panel is not speeds[0]:
            panel.sharey(speeds[0])  # one scale, so that panels can be compared
    for panel in panels[:, 0]:
        panel.set_ylabel("training, characters/s")
    _memory(memory, results)
    handles, labels = speeds[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), frameon=False)
    middle = "H = {hidden}, L = {layers}, T = {seq}, B = {batch}, V = {vocabulary}".format(**MIDDLE)
    about = ", ".join(results["machine"].values())
    figure.supxlabel(f"What does not grow: {middle}. {about}.", fontsize=8, color="#555555")
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None, dpi=110)
    plt.close(figure)


def _speed(panel: Any, axis: Axis, results: Results) -> None:
    panel.set_title(axis.label)
    for cell in CELLS:
        points = _points(results, axis.name, cell)
        xs, ys = [p["x"] for p in points], [p["speed"] for p in points]
        panel.plot(xs, ys, "o-", color=COLOURS[cell], label=cell.upper())
    points = _points(results, axis.name, "lstm")
    limit = [1e9 * results["peak"] / p["flops"] for p in points]
    label = "limit of the LSTM: all its FLOPs at the CPU's float32 peak"
    panel.plot([p["x"] for p in points], limit, ":", color="#888888", label=label)
    panel.set_xscale("log", base=2)
    panel.set_yscale("log")
    panel.set_xticks(axis.values, [f"{x}" for x in axis.values])
    panel.minorticks_off()
    panel.yaxis.set_major_formatter(lambda y, _: f"{y:,.0f}")


def _memory(panel: Any, results: Results) -> None:
    (axis,) = (axis for axis in AXES if axis.name == "seq")
    panel.set_title("peak memory, by window T")
    panel.set_ylabel("training, MB")
    for cell in CELLS:
        points = [p for p in _points(results, axis.name, cell) if p["memory"] is not None]
        panel.plot([p["x"] for p in points], [p["memory"] for p in points], "o-", color=COLOURS[cell])
    panel.set_ylim(bottom=0)
    panel.set_xlim(left=0)


def _points(results: Results, axis: str, cell: str) -> list[Point]:
    return [p for p in results["points"] if (p["axis"], p["cell"]) == (axis, cell)]


def main(argv: list[str]) -> None:
    """The command line; see --help."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", type=Path, metavar="FILE", help="the figure, .svg or .png")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what was measured")
    parser.add_argument("--read", type=Path, metavar="FILE", help="draw what --json wrote")
    parser.add_argument("--seconds", type=float, default=1.0, help="of each measurement [1]")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each point [3]")
    a = parser.parse_args(argv)
    if not (a.write or a.json):
        parser.error("nothing would come of it: give --write or --json")
    if a.write:
        try:
            import matplotlib  # noqa: F401 - better now than after the measurements
        except ImportError:
            sys.exit("Matplotlib draws the figure: pip install -e '.[bench]'")
    say = narrator()
    if a.read:
        results = json.loads(a.read.read_text(encoding="utf-8"))
    else:
        with tempfile.TemporaryDirectory(prefix="charrnn-bench-") as folder:
            try:
                results = measure(Bench(Path(folder), a.seconds, a.rounds, say=say))
            except Unavailable as reason:
                sys.exit(f"{reason}\n(charrnn is measured where it is installed: pip install -e .)")
    if a.json:
        a.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    if a.write:
        draw(results, a.write)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except KeyboardInterrupt:
        sys.exit(130)
