"""Trains and writes for long, and watches whether memory or speed change.

    python -m tests.campaigns.long --minutes 60 --characters 100000000

Memory is asked for every so often, after the first third of the time: from there on it stays as it is. Speed
is that of a second of computing, since others may use the machine; in a run of ten minutes or more, the last
third must be nearly as fast as the first.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from ..support.environment import environment
from .harness import Report, command, hear_ctrl_c, scratch

WORDS = (
    "the", "sea", "and", "a", "ship", "went", "over", "under", "old", "new", "king", "salt", "wind", "of"
)  # fmt: skip
GROWTH, CONSTANT = 1.03, 6.0  # memory may grow by so much, and so many MB
LONG = 600.0  # seconds, from which on the speed says something
SLOWER = 0.7  # of the speed may be left: caches are shared with others, too
PIECE = 1 << 16  # bytes read at a time
WINDOW = 1024  # characters a step
Look = tuple[float, float, float, float]  # seconds, MB, seconds of computing, characters so far


class Watch:
    """How much memory a process has and how fast it is, while it works for long."""

    def __init__(self, report: Report, what: str, process: subprocess.Popen[bytes]) -> None:
        self.report, self.what, self.process = report, what, process
        self.began = self.looked = time.monotonic()
        self.looks: list[Look] = []

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began

    def look(self, characters: int) -> None:
        """So many are done by now."""
        if time.monotonic() - self.looked > max(0.2, self.seconds / 200):
            self.looked = time.monotonic()
            found = subprocess.run(
                ["ps", "-o", "rss=,cputimes=", "-p", str(self.process.pid)], capture_output=True, text=True
            )
            if found.stdout.strip():
                memory, computing = map(int, found.stdout.split())
                self.looks.append((self.seconds, memory / 1024, computing, characters))
            self.report.count(f"looks at {self.what}")

    def judge(self) -> None:
        """Whether both stayed as they were."""
        third = self.seconds / 3
        thirds = [[look for look in self.looks if min(2, int(look[0] / third)) == n] for n in range(3)]
        if not all(thirds):
            return
        settled, last = (max(mb for _, mb, _, _ in looks) for looks in thirds[1:])
        self.report.check(
            last <= GROWTH * settled + CONSTANT, f"{self.what}: {settled:.1f} MB became {last:.1f} MB"
        )
        first, end = (_speed(looks) for looks in (thirds[0], thirds[2]))
        print(
            f"{self.what}: {first:,.0f} characters in a second of computing at first, {end:,.0f} in "
            f"the last third; {settled:.0f} MB in the middle, {last:.0f} MB at the end",
            file=sys.stderr,
        )
        if self.seconds > LONG:
            self.report.check(
                end > SLOWER * first, f"{self.what}: {first:,.0f} became {end:,.0f} characters/s"
            )


def _speed(looks: list[Look]) -> float:
    """Characters in a second of computing, from the first look to the last."""
    (_, _, before, first), (_, _, after, last) = looks[0], looks[-1]
    return (last - first) / max(after - before, 1)


def train(folder: Path, report: Report, seconds: float) -> Path:
    """A run that is stopped after so long; its model."""
    draw = random.Random(1)
    corpus, out = folder / "corpus.txt", folder / "m.safetensors"
    lines = (" ".join(draw.choices(WORDS, k=draw.randrange(3, 12))) for _ in range(20_000))
    corpus.write_text("\n".join(lines), encoding="utf-8")
    words = command(
        "train", corpus, "-o", out, "--steps", 10**9, "--hidden-size", 64, "--val-fraction", 0.01, "--json",
        "--batch-size", 16, "--seq-len", WINDOW // 16,
    )  # fmt: skip
    with subprocess.Popen(words, stdout=subprocess.PIPE, env=environment()) as process:
        watch = Watch(report, "training", process)
        asked = False
        assert process.stdout is not None
        for line in process.stdout:
            event = json.loads(line)
            if event["event"] == "step":
                watch.look(event["step"] * WINDOW)
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
            written += len(piece)
            watch.look(written)
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
