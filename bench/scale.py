"""What many machines would bring: a model of a step and an exchange, fitted to what a few take.

    sudo python bench/scale.py --json scale.json --write docs/scale.svg
    python bench/scale.py --read scale.json --write docs/scale.svg        draws it anew

Measured are exchanges of two, three and four hosts, network namespaces of this machine with slow cables, and
a step of one process. An exchange of h hosts is taken for

    a (h - 1) + b 64 P (h - 1) / h / bandwidth

seconds for P parameters, for each of which a rank sends 8 bytes (h - 1) / h, and receives as many. If hosts
meet in every step, bytes of upper layers pass while the gradients of lower ones are computed. Every host has
a batch of its own, which rank 0 deals out: 9 bytes a character. So a step learns from the more text, the more
hosts there are. Drawing needs Matplotlib: pip install -e '.[bench]'.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.append(str(Path(__file__).parent.parent / "tests"))
from machines import NETWORK, T, V
from support import hosts

from charrnn.config import ModelConfig
from charrnn.nn.learning.apart import VECTORS
from charrnn.nn.learning.speed import characters_per_second, hidden
from charrnn.nn.network import Model
from charrnn.nn.workers import Workers

HOSTS, MEGABITS, NUMBERS = (2, 3, 4), (1000, 100), (32_768, 262_144, 1_048_576)
TIMES = 7  # exchanges, of which the quickest counts
BATCH = 64  # of each host
DEALT = 9 * 8  # bits of a character that rank 0 deals out: two ids, and whether a text begins
MOST, SHOWN = 256, (4, 16, 64, 256)
LINES = [(10_000, 1), (1000, 1), (1000, 50), (100, 1), (100, 50), (100, 500)]
COLOURS = {10_000: "#448361", 1000: "#0b6e99", 100: "#d9730d"}
STYLES = {1: "-", 50: "--", 500: ":"}
Results = dict[str, Any]


def side() -> None:
    """On each host: the seconds of an exchange, by its numbers; the leader prints them."""
    from charrnn.nn.learning.speed import add_up
    from charrnn.ranks.launch import launched
    from charrnn.ranks.mpi import MpiRanks

    launch = launched()
    assert launch is not None
    ranks: Any = MpiRanks(launch, lambda code, line: os._exit(code))
    if ranks.rank:
        ranks.follow()
    found = {}
    for numbers in NUMBERS:
        times = []
        for _ in range(TIMES):
            began = time.perf_counter()
            with ranks.asking(add_up, [(numbers,)] * ranks.size):
                add_up(ranks, None, numbers)
            times.append(time.perf_counter() - began)
        found[numbers] = min(times)
    print(json.dumps(found), flush=True)
    ranks.leave(0)
    os._exit(0)


def measured() -> Results:
    rows = []
    for size in HOSTS:
        for megabits in MEGABITS:
            with tempfile.TemporaryDirectory() as folder, hosts.hosts(Path(folder), size) as several:
                several.slow_down(megabits, 1.0)
                mpirun = [str(Path(sys.executable).with_name("mpirun")), *several.launcher()]
                own = ["-n", str(size), sys.executable, __file__, "--side"]
                found = subprocess.run(
                    [*mpirun, *own], check=True, capture_output=True, text=True, timeout=300
                )
            rows += [[size, megabits, int(n), seconds] for n, seconds in json.loads(found.stdout).items()]
    config = ModelConfig(V, **NETWORK)
    speed = characters_per_second(config, BATCH, T, bfloat16=False, workers=Workers())
    return {"exchanges": rows, "step": BATCH * T / speed, "parameters": config.num_parameters}


def terms(size: Any, megabits: Any, numbers: Any) -> Any:
    """What a and b are multiplied with."""
    return np.stack([size - 1, 64 * numbers * (size - 1) / size / (megabits * 1e6)], axis=-1)


def fitted(results: Results) -> Any:
    """a and b, by least squares of relative errors."""
    rows = np.array(results["exchanges"])
    seconds = rows[:, 3:]
    return np.linalg.lstsq(terms(*rows.T[:3]) / seconds, np.ones(len(rows)), rcond=None)[0]


def efficiency(size: Any, megabits: float, every: int, results: Results) -> Any:
    """The characters a second of so many hosts, as a share of as many times those of one."""
    step, exchange = results["step"], terms(size, megabits, results["parameters"]) @ fitted(results)
    dealt = (size - 1) * BATCH * T * DEALT / (megabits * 1e6)
    if every == 1:
        model = Model(ModelConfig(V, **NETWORK), workers=Workers(1))
        bytes_alone = terms(size, megabits, results["parameters"])[..., 1] * fitted(results)[1]
        return step / (step + dealt + exchange - hidden(model, step, bytes_alone))
    return step / (np.maximum(step, dealt) + exchange * VECTORS / every)


def network(megabits: int) -> str:
    """10 Gbit/s; 100 Mbit/s"""
    return f"{megabits // 1000} Gbit/s" if megabits >= 1000 else f"{megabits} Mbit/s"


def draw(results: Results, path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams.update(
        {
            "svg.hashsalt": "charrnn", "svg.fonttype": "path", "font.size": 9, "axes.spines.top": False,
            "axes.spines.right": False, "axes.grid": True, "grid.color": "#e6e6e6",
            "figure.facecolor": "white",
        }
    )  # fmt: skip
    from matplotlib import pyplot as plt

    size = np.unique(np.geomspace(1, MOST, 200).round())
    figure, panel = plt.subplots(figsize=(6.4, 3.8), layout="constrained")
    for megabits, every in LINES:
        label = f"{network(megabits)}, {'every step' if every == 1 else f'every {every} steps'}"
        ys = 100 * efficiency(size, megabits, every, results)
        panel.plot(size, ys, STYLES[every], color=COLOURS[megabits], linewidth=1.4, label=label)
    panel.set_xscale("log", base=2)
    panel.set_xticks(ticks := [2**n for n in range(9)], [str(tick) for tick in ticks])
    panel.set(xlabel="hosts", ylabel="% of as many times one host's speed", ylim=(0, 103))
    figure.legend(loc="outside upper center", ncols=3, frameon=False, fontsize=8)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None, dpi=110)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE", help="what was measured")
    parser.add_argument("--read", type=Path, metavar="FILE", help="draw this, and measure nothing")
    parser.add_argument("--write", type=Path, metavar="FILE", help="the figure, .svg or .png")
    parser.add_argument("--step", type=float, metavar="S", help="seconds of a step; else measured now")
    parser.add_argument("--side", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        side()
    if options.read:
        results = json.loads(options.read.read_text())
    elif why := hosts.missing():
        sys.exit(f"{why}: start it as root, where ip, tc and unshare are installed")
    else:
        results = measured()
    if options.step:
        results["step"] = options.step
    if options.json:
        options.json.write_text(json.dumps(results) + "\n")
    (a, b), rows = fitted(results), np.array(results["exchanges"])
    error = np.median(np.abs(terms(*rows.T[:3]) @ (a, b) / rows[:, 3] - 1))
    print(f"a {1e3 * a:.1f} ms, b {b:.2f}, median error {error:.0%}; a step {results['step']:.2f} s\n")
    print(f"| network | shards meet | {' | '.join(f'{n} hosts' for n in SHOWN)} |")
    print(f"|---|---|{'---:|' * len(SHOWN)}")
    for megabits, every in LINES:
        often = "every step" if every == 1 else f"every {every} steps"
        shares = efficiency(np.array(SHOWN, float), megabits, every, results)
        print(f"| {network(megabits)} | {often} | {' | '.join(f'{share:.0%}' for share in shares)} |")
    if options.write:
        draw(results, options.write)


if __name__ == "__main__":
    main()
