"""Runs a recipe on a text, under a clock or a number of steps, and watches its loss."""

from __future__ import annotations

import math
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import machine
from compress import ppmd
from learned import Run
from measure import Command, Process, Unavailable, Worker, facts, python
from recipes import BUDGETS, Recipe, regularised
from texts import Text

HERE = sys.executable
TORCH_TRIAL_SECONDS = 2.0  # of each precision, to see which is faster
PPMD_ORDERS = (4, 5, 6, 8)
TORCH_NETWORK = ("--layers", "2", "--hidden", "256", "--batch", "32", "--seq", "64")


class Learner:
    """All sides, ready to learn texts.

    Unless `cached`, each run of charrnn compiles its kernels anew, within its clock.
    """

    def __init__(self, folder: Path, torch_python: str, cached: bool) -> None:
        self.folder, self.torch_python, self.cached = folder, torch_python, cached
        self.versions: dict[str, str] = {}
        self.torch = ""  # PyTorch's version; empty: it cannot be imported
        self.torch_missing = ""  # why
        self._torch_speeds: dict[str, dict[bool, float]] = {}  # by text: bfloat16? -> characters/s

    def look(self) -> None:
        """Find out what is there.

        Raises:
            Unavailable: charrnn itself is not.
        """
        self.versions = dict(facts(python(HERE, "ours.py", "facts"), machine.environment())["versions"])
        try:
            self.torch = facts(python(self.torch_python, "peer_torch.py", "facts"), {})["version"]
            self.versions["PyTorch"] = self.torch
        except Unavailable as reason:
            self.torch_missing = str(reason)

    def learn(self, run: Run, text: Text, recipe: Recipe) -> None:
        """Run the recipe; what comes of it is put into `run`. A failure is an outcome too."""
        with tempfile.TemporaryDirectory(dir=self.folder) as name:
            try:
                match recipe.side:
                    case "charrnn":
                        self._charrnn(run, text, recipe, Path(name))
                    case "PyTorch":
                        self._torch(run, text, recipe, Path(name))
                    case "Kneser-Ney":
                        _count(run, text)
                    case "PPMd":
                        _compress(run, text, Path(name))
            except Unavailable as reason:
                run.loss, run.error = None, str(reason)
        run.load = round(machine.load(), 2)

    def _charrnn(self, run: Run, text: Text, recipe: Recipe, folder: Path) -> None:
        out = folder / "model.safetensors"
        options = [*recipe.options]
        if not recipe.has(*BUDGETS):
            ((unit, amount),) = run.budget.items()
            options += [f"--{unit}", f"{amount:g}" if unit == "minutes" else f"{amount:.0f}"]
        command = [
            HERE, "-m", "charrnn", "train", str(text.path), "--json", "-o", str(out),
            "--seed", str(run.seed), "--val-fraction", str(text.held_out),
            *(["--lines"] if text.lines else ["--val-split", "end"]), *options,
        ]  # fmt: skip
        environment = machine.environment()
        if not self.cached:
            environment["CHARRNN_CACHE_DIR"] = str(folder / "cache")
        _follow(run, command, environment)
        found = facts([HERE, "-m", "charrnn", "info", str(out), "--json"], {})
        run.chosen = {**found["model"], **{k: v for k, v in found["settings"].items() if v is not None}}

    def _torch(self, run: Run, text: Text, recipe: Recipe, folder: Path) -> None:
        """PyTorch reads the very characters that charrnn trains on and is judged by."""
        characters, _ = _split(run, text, folder)
        options = [*recipe.options]
        ((unit, amount),) = run.budget.items()
        budget = ("--seconds", 60 * amount) if unit == "minutes" else ("--steps", round(amount))
        faster, speed = self._fastest(text)
        if not recipe.has("--bf16", "--no-bf16") and faster:
            options.append("--bf16")
        if not recipe.has("--dropout", "--weight-decay"):
            learnt = 60 * amount * speed if unit == "minutes" else amount * 32 * 64
            options += regularised(learnt / characters)
        arguments = [
            "--train", folder / "train.txt", "--validation", folder / "validation.txt", *budget,
            "--seed", run.seed, *options,
        ]  # fmt: skip
        run.chosen = {"options": options}
        _follow(run, python(self.torch_python, "peer_torch_quality.py", *arguments), _torch_environment())

    def _fastest(self, text: Text) -> tuple[bool, float]:
        """Whether bfloat16 is PyTorch's faster precision on this text, and its characters a second."""
        if text.name not in self._torch_speeds:
            speeds: dict[bool, float] = {}
            for bfloat16 in (False, True) if machine.has_bfloat16() else (False,):
                arguments = ["train", "--corpus", text.path, *TORCH_NETWORK, "--norm", "--residual"]
                command = python(self.torch_python, "peer_torch.py", *arguments)
                with Worker([*command, *(["--bf16"] if bfloat16 else [])], _torch_environment()) as worker:
                    speeds[bfloat16] = worker(TORCH_TRIAL_SECONDS)
            self._torch_speeds[text.name] = speeds
        speeds = self._torch_speeds[text.name]
        best = max(speeds, key=lambda bfloat16: speeds[bfloat16])
        return best, speeds[best]


def _cut(run: Run, text: Text) -> list[Any]:
    """How ours.py is told what the run learns, and what judges it."""
    return ["--corpus", text.path, "--seed", run.seed, "--val-fraction", text.held_out,
            *(["--lines"] if text.lines else [])]  # fmt: skip


def _split(run: Run, text: Text, folder: Path) -> tuple[int, int]:
    """The characters of train.txt and validation.txt, which are written into the folder."""
    command = python(HERE, "ours.py", "split", *_cut(run, text), "--out", folder)
    learnt, held_out = facts(command, {})["characters"]
    return learnt, held_out


def _count(run: Run, text: Text) -> None:
    """By charrnn's counts alone: modified Kneser-Ney, as large as a run by default has it."""
    begun = time.perf_counter()
    found = facts(python(HERE, "ours.py", "count", *_cut(run, text)), machine.environment())
    run.loss, run.seconds = found["loss"], round(time.perf_counter() - begun, 3)
    run.chosen = {"order": found["order"]}


def _compress(run: Run, text: Text, folder: Path) -> None:
    """What the held-out text adds to the size of PPMd's file, by the best of some orders.

    It learns that text, too, while it reads it. With longer orders 7-Zip, which gives it sixteen times the
    file's size, has it forget all now and then, and the difference of two files says nothing.
    """
    begun = time.perf_counter()
    _, held_out = _split(run, text, folder)
    train, validation = ((folder / f"{name}.txt").read_bytes() for name in ("train", "validation"))
    added = {}
    for order in PPMD_ORDERS:
        alone, both = ppmd(train, order), ppmd(train + validation, order)
        if alone is None or both is None:
            raise Unavailable("there is no 7-Zip here")
        added[order] = both - alone
    order = min(added, key=lambda order: added[order])
    run.loss, run.chosen = added[order] * 8 * math.log(2) / held_out, {"order": order}
    run.seconds = round(time.perf_counter() - begun, 3)


def _torch_environment() -> dict[str, str]:
    return machine.environment() | (machine.MALLOC if machine.has_glibc() else {})


def _follow(run: Run, command: Command, environment: dict[str, str]) -> None:
    """Run a command that prints events as JSON lines, and note when it says what.

    Raises:
        Unavailable: it failed.
    """
    begun = time.perf_counter()
    ended: float | None = None  # when its clock was over, where that is before the process ends
    with Process(command, environment) as process:
        while True:
            event: dict[str, Any] = process.read(lambda values: "event" in values)
            now = time.perf_counter() - begun
            if event["event"] == "eval":
                run.points.append((round(now, 3), event["step"], event["train_loss"], event["val_loss"]))
            elif event["event"] == "end":
                ended = now
            elif event["event"] == "done":
                break
        process.process.wait()
        run.seconds = round(ended or time.perf_counter() - begun, 3)
    run.loss, run.steps, run.parameters = event["best_val_loss"], event["step"], event["parameters"]
    if run.loss is None:
        raise Unavailable("its loss was never measured: the text is too short, or the budget")
