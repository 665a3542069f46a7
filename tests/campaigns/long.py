"""Trains and writes for long, and watches whether memory or speed change.

    python -m tests.campaigns.long --minutes 60 --characters 100000000

Memory is asked for every so often, after the first third of the time: from there on it stays as it is. Speed
is compared between the first and the last third, and told; only where it falls to half in a run of ten
minutes or more does that count as broken, since others may use the machine.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

from .harness import Report, command, environment, hear_ctrl_c, scratch

WORDS = (
    "the", "sea", "and", "a", "ship", "went", "over", "under", "old", "new", "king", "salt", "wind", "of"
)  # fmt: skip
GROWTH, CONSTANT = 1.03, 6.0  # memory may grow by so much, and so many MB
LONG = 600.0  # seconds, from which on the speed says something
PIECE = 1 << 16  # bytes read at a time


class Watch:
    """How much memory a process has and how fast it is, while it works for long."""

    def __init__(self, report: Report, what: str, process: subprocess.Popen[bytes]) -> None:
        self.report, self.what, self.process = report, what, process
        self.began = self.looked = time.monotonic()
        self.memory: list[tuple[float, float]] = []  # seconds and MB
        self.speed: list[tuple[float, float]] = []  # seconds and characters a second

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began

    def look(self, characters_per_second: float) -> None:
        self.speed.append((self.seconds, characters_per_second))
        if time.monotonic() - self.looked > max(0.2, self.seconds / 200):
            self.looked = time.monotonic()
            found = subprocess.run(
                ["ps", "-o", "rss=", "-p", str(self.process.pid)], capture_output=True, text=True
            )
            if found.stdout.strip():
                self.memory.append((self.seconds, int(found.stdout) / 1024))
            self.report.count(f"looks at {self.what}")

    def judge(self) -> None:
        """Whether both stayed as they were."""
        third = self.seconds / 3
        settled = [mb for at, mb in self.memory if third <= at < 2 * third]
        last = [mb for at, mb in self.memory if at >= 2 * third]
        if settled and last:
            limit = GROWTH * max(settled) + CONSTANT
            self.report.check(
                max(last) <= limit, f"{self.what}: {max(settled):.1f} MB became {max(last):.1f} MB"
            )
        first, end = (
            statistics.median(speeds or [0.0])
            for speeds in (
                [speed for at, speed in self.speed if at < third],
                [speed for at, speed in self.speed if at >= 2 * third],
            )
        )
        print(
            f"{self.what}: {first:,.0f} characters/s in the first third, {end:,.0f} in the last; "
            f"{max(settled, default=0):.0f} MB in the middle, {max(last, default=0):.0f} MB at the end",
            file=sys.stderr,
        )
        if self.seconds > LONG:
            self.report.check(end > first / 2, f"{self.what}: {first:,.0f} became {end:,.0f} characters/s")


def train(folder: Path, report: Report, seconds: float) -> Path:
    """A run that is stopped after so long; its model."""
    draw = random.Random(1)
    corpus, out = folder / "corpus.txt", folder / "m.safetensors"
    lines = (" ".join(draw.choices(WORDS, k=draw.randrange(3, 12))) for _ in range(20_000))
    corpus.write_text("\n".join(lines), encoding="utf-8")
    words = command(
        "train", corpus, "-o", out, "--steps", 10**9, "--hidden-size", 64, "--val-fraction", 0.01, "--json",
    )  # fmt: skip
    with subprocess.Popen(words, stdout=subprocess.PIPE, env=environment()) as process:
        watch = Watch(report, "training", process)
        asked = False
        assert process.stdout is not None
        for line in process.stdout:
            event = json.loads(line)
            if event["event"] == "step":
                watch.look(event["chars_per_second"])
            if watch.seconds > seconds and not asked:
                asked = True
                watch.judge()
                process.send_signal(signal.SIGINT)
    report.check(process.returncode == 130, f"training: exit code {process.returncode}")
    return out


def write(model: Path, report: Report, characters: int) -> None:
    """A text of so many characters, which begins as a short one of the same seed does."""
    short = subprocess.run(
        command("sample", "-m", model, "--seed", 1, "-n", 1000), capture_output=True, env=environment()
    )
    words = command("sample", "-m", model, "--seed", 1, "-n", characters)
    with subprocess.Popen(words, stdout=subprocess.PIPE, env=environment()) as process:
        watch = Watch(report, "writing", process)
        assert process.stdout is not None
        written, beginning = 0, b""
        while piece := process.stdout.read(PIECE):
            beginning = (beginning + piece)[:1000] if written < 1000 else beginning
            before, now = watch.speed[-1][0] if watch.speed else 0.0, watch.seconds
            written += len(piece)
            watch.look(len(piece) / max(now - before, 1e-6))
        watch.judge()
    report.check(process.returncode == 0, f"writing: exit code {process.returncode}")
    report.check(characters <= written <= characters + 1, f"writing: {written} characters")
    report.check(beginning == short.stdout[:1000], "writing: a long text begins otherwise than a short one")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60.0, help="of training")
    parser.add_argument("--characters", type=int, default=100_000_000, help="to be written")
    options = parser.parse_args(arguments)
    hear_ctrl_c()
    report = Report("long runs")
    with scratch() as folder:
        model = train(folder, report, 60 * options.minutes)
        write(model, report, options.characters)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
