"""Lets several processes use one model file, and one cache of kernels, at the same time.

    python -m tests.campaigns.races --rounds 100 --seed 1
    python -m tests.campaigns.races --rounds 0 --first-runs 4      # compiles everything, which takes minutes

Of many that train into one file at once, one does and the others name it; whoever reads while it saves sees a
whole model; and first runs that share an empty cache of kernels write what each writes alone.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from charrnn import api
from charrnn.checkpoint import model_file
from charrnn.errors import CheckpointError

from ..support.environment import environment
from .crashes import Campaign, Folder, outcome_of
from .harness import Child, Report, command, scratch


class Races:
    def __init__(self, campaign: Campaign) -> None:
        self.campaign, self.folder, self.report = campaign, campaign.folder, campaign.report
        self.random: random.Random = campaign.random

    def train_at_once(self) -> None:
        """Several runs into one file, one of which may be killed."""
        self.folder.empty()
        children: list[Child] = []
        for _ in range(self.random.choice((2, 3, 5))):
            children.append(self.folder.start())
            time.sleep(self.random.choice((0, 0, 0.005, 0.02)))
        killed = self.random.random() < 0.5
        if killed:
            os.kill(children[0].pid, signal.SIGKILL)
        outcomes = [outcome_of(child) for child in children]
        for outcome in outcomes:
            if outcome.error:
                self.report.check("is being trained by process" in outcome.error, f"at once: {outcome}")
                self.report.count("refused")
            elif outcome.code == 0:
                self.report.count("trained")
            else:
                self.report.count("killed")
                self.report.check(killed, f"at once: {outcome}")
        if not killed:
            self.report.check(any(o.code == 0 for o in outcomes), f"nobody trained: {outcomes}")
        self.campaign.look("at once", max(outcome.announced for outcome in outcomes))
        self.campaign.ends_well("at once")

    def read_while_saving(self) -> None:
        """Load, sample, score and copy while a run saves at every step."""
        self.folder.empty()
        out = self.folder.out
        child = self.folder.start()
        seen = 0
        while child.is_running():
            try:
                model = model_file.load(out)
            except CheckpointError as error:
                self.report.check("does not exist" in str(error), f"read while it saves: {error}")
                continue
            seen += 1
            written = "".join(next(api.sample(model, seed=1, length=5)))
            self.report.check(len(written) == 5, f"read while it saves: it writes {written!r}")
            read = [line for lines in api.score_lines(out, self.folder.corpus) for line in lines]
            self.report.check(
                all(line.bits > 0 for line in read), "read while it saves: a line costs nothing"
            )
            copy = self.folder.path.parent / "copy.safetensors"
            copy.write_bytes(out.read_bytes())
            model_file.load(copy)
        outcome = outcome_of(child)
        self.report.check(outcome.reason == "budget", f"read while it saves: {outcome}")
        self.report.count("read while saving")
        self.report.outcomes["models seen"] += seen


def first_runs(folder: Path, report: Report, processes: int) -> None:
    """Runs that share an empty cache, then one that is damaged, then one that cannot be written."""
    corpus = folder / "first.txt"
    corpus.write_text("she sells sea shells\n" * 99)

    def start(number: int, before: Callable[[], None] | None = None) -> subprocess.Popen[bytes]:
        words = [
            "train", corpus, "--steps", 5, "--hidden-size", 8, "--num-layers", 1, "--threads", 1, "-q",
            "--force", "--cell", ("lstm", "gru")[number % 2], "-o", folder / f"{number}.safetensors",
        ]  # fmt: skip
        return subprocess.Popen(
            command(*words),
            stderr=subprocess.PIPE,
            env=environment(CHARRNN_CACHE_DIR=str(folder / "cache")),
            preexec_fn=before,
        )

    def end(what: str, runs: list[subprocess.Popen[bytes]]) -> list[bytes]:
        contents = []
        for number, run in enumerate(runs):
            _, said = run.communicate(timeout=1200)
            report.check(run.returncode == 0 and not said, f"{what}: {run.returncode}, says {said[-500:]!r}")
            path = folder / f"{number}.safetensors"
            contents.append(path.read_bytes() if path.exists() else b"")
            report.count(what)
        return contents

    def cached() -> list[Path]:
        return [path for path in (folder / "cache").rglob("*") if path.is_file()]

    alone = end("alone", [start(number) for number in range(2)])
    for path in cached():
        path.unlink()
    together = end("with an empty cache", [start(number) for number in range(processes)])
    for number, content in enumerate(together):
        report.check(content == alone[number % 2], "with an empty cache: it writes another model")
    for name, damage in (("empty", lambda data: b""), ("cut", lambda data: data[: len(data) // 2])):
        for path in cached():
            path.write_bytes(damage(path.read_bytes()))
        report.check(
            end(f"with {name} files in the cache", [start(0)]) == alone[:1], "it writes another model"
        )
    for path in cached():
        path.unlink()

    def limit() -> None:
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        sys.dont_write_bytecode = True  # what is cut off would stay

    report.check(end("with a full disk", [start(0, limit)]) == alone[:1], "it writes another model")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--first-runs", type=int, default=0, help="processes that share a cache of kernels")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    code = 0
    with scratch() as path:
        if options.rounds:
            report = Report("several at once")
            races = Races(Campaign(Folder(path / "out"), report, options.seed))
            for _ in range(options.rounds):
                races.train_at_once()
                races.read_while_saving()
            code |= report.finish()
        if options.first_runs:
            report = Report("first runs that share a cache")
            first_runs(path, report, options.first_runs)
            code |= report.finish()
    return code


if __name__ == "__main__":
    sys.exit(main())
