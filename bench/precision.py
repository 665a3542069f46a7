"""What bfloat16 does to the loss and to the time of training: the same steps in float32 and in bfloat16.

    python bench/precision.py corpus.txt
    python bench/precision.py corpus.txt --hidden 128 --cell gru --steps 1000 --seeds 5
    python bench/precision.py corpus.txt --write curves.svg        # also as a figure, a line for each run

For each seed, both precisions train the same network on the same windows, taking turns in this process. Shown
are validation losses in nats per character, as means over the seeds, and how far seeds lie apart: rounding
changes nothing that matters when the precisions differ by less than that.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import mean, median
from typing import Any

import curves_figure
from learned import Run
from report import Table, times

from charrnn.nn.cells import learning

PRECISIONS = ("float32", "bfloat16")
FEW = 20  # steps, before which a run's speed is not looked at


class Training:
    """One run, which advances when it is told to."""

    def __init__(self, events: Iterator[Any]) -> None:
        self._events = events
        self.losses: dict[int, float] = {}  # validation loss by step
        self.seconds_per_step: list[float] = []
        self.step = 0

    def advance(self) -> bool:
        """On to the next event; False when there is none."""
        begun = time.perf_counter()
        event = next(self._events, None)
        kind = type(event).__name__
        if kind == "Step":
            if self.step >= FEW:
                self.seconds_per_step.append((time.perf_counter() - begun) / (event.step - self.step))
            self.step = event.step
        elif kind == "Evaluated":
            self.losses[event.step] = event.val_loss
        return event is not None


def compare(a: argparse.Namespace, seed: int, folder: Path) -> dict[str, Training]:
    """Both precisions from the same seed, event by event in turns."""
    import charrnn

    runs = {}
    for precision in PRECISIONS:
        out = folder / f"{precision}-{seed}.safetensors"
        settings = {
            "cell": a.cell, "hidden_size": a.hidden, "num_layers": a.layers, "embedding_size": a.hidden,
            "batch_size": a.batch, "seq_len": a.seq, "dropout": a.dropout, "norm": a.norm, "residual": a.norm,
            "val_split": "end",
            "val_fraction": 0.02,  # with more, there would be fewer evaluations
            "steps": a.steps, "evaluations": a.evaluations, "seed": seed, "threads": a.threads,
        }  # fmt: skip
        runs[precision] = Training(charrnn.train(a.corpus, out=out, precision=precision, **settings))
    going = list(runs.values())
    while going:
        going = [run for run in going if run.advance()]
    return runs


def losses_table(seeds: list[dict[str, Training]]) -> Table:
    """A row for each evaluation that all runs reached."""
    steps = sorted(set.intersection(*(set(run.losses) for runs in seeds for run in runs.values())))
    rows = []
    for step in steps:
        first, second = ([runs[p].losses[step] for runs in seeds] for p in PRECISIONS)
        spread = max(max(values) - min(values) for values in (first, second))
        a, b = mean(first), mean(second)
        rows.append((str(step), f"{a:.4f}", f"{b:.4f}", f"{b - a:+.4f}", f"{spread:.4f}"))
    return Table(("step", *PRECISIONS, "difference", "between seeds"), tuple(rows))


def curves(a: argparse.Namespace, seeds: list[dict[str, Training]]) -> list[Run]:
    """All runs, as `curves_figure` draws them."""
    text = {"name": a.corpus.stem, "lines": False}
    return [
        Run(
            text, "charrnn", precision, [], {"steps": a.steps}, seed,
            points=[(0.0, step, loss, loss) for step, loss in runs[precision].losses.items()],
        )
        for seed, runs in enumerate(seeds)
        for precision in PRECISIONS
    ]  # fmt: skip


def speed_up(seeds: list[dict[str, Training]]) -> float | None:
    """How many steps bfloat16 takes in the time of one in float32."""
    first, second = ([s for runs in seeds for s in runs[p].seconds_per_step] for p in PRECISIONS)
    return median(first) / median(second) if first and second else None


def main(argv: list[str]) -> None:
    """The command line; see --help."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--cell", choices=learning(), default="lstm")
    for name, default in (
        ("layers", 2), ("hidden", 256), ("batch", 50), ("seq", 50), ("steps", 500), ("seeds", 3),
        ("evaluations", 5),
    ):  # fmt: skip
        parser.add_argument(f"--{name}", type=int, default=default, help=f"[{default}]")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--dropout", type=float, default=0.0)
    parser.add_argument("--norm", action="store_true", help="with layer norm and skip connections")
    parser.add_argument(
        "--write", type=Path, metavar="FILE", help="the losses over the steps, as .svg or .png"
    )
    a = parser.parse_args(argv)
    if a.write:
        curves_figure.require()
    seeds = []
    with tempfile.TemporaryDirectory(prefix="charrnn-bench-") as folder:
        for seed in range(1, a.seeds + 1):
            seeds.append(compare(a, seed, Path(folder)))
            ends = "  ".join(f"{p} {list(run.losses.values())[-1]:.4f}" for p, run in seeds[-1].items())
            print(f"seed {seed}: {ends}", file=sys.stderr, flush=True)
    about = f"{a.cell.upper()} {a.layers} x {a.hidden}, {a.steps:,} steps, {a.seeds} seeds"
    print(f"{about}\n")
    print(losses_table(seeds).plain())
    print(f"\nsteps in the same time, bfloat16 : float32   {times(speed_up(seeds))}")
    if a.write:
        curves_figure.draw(curves(a, seeds), about, a.write)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except KeyboardInterrupt:
        sys.exit(130)
