"""Trains onto disks that are full, read-only, or go away.

    python -m tests.campaigns.disks --runs 400 --seed 1

A run ends well, or with one line that says why; what it announced is there and whole; and as soon as the disk
is well again, `resume` ends with the bytes of the run that nothing happened to.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from .crashes import Campaign, Folder, Outcome, outcome_of
from .harness import Child, Report, scratch

PAGE = os.sysconf("SC_PAGE_SIZE")
ROOM = 64  # pages, in which everything fits
SECONDS = 0.003  # between two changes of a disk that comes and goes


class Disks:
    def __init__(self, campaign: Campaign, mount: Path | None) -> None:
        self.campaign, self.folder, self.mount = campaign, campaign.folder, mount
        self.random = campaign.random

    def limited(self) -> tuple[str, Outcome]:
        """No file may grow beyond a limit."""
        limit = self.random.randrange(0, 20_000)

        def limit_size() -> None:
            hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
            sys.dont_write_bytecode = True  # what is cut off would stay

        return f"files of {limit} bytes at the most", outcome_of(self.folder.start(before=limit_size))

    def small(self) -> tuple[str, Outcome]:
        """The disk is small."""
        pages = self.random.randrange(1, 12)
        self._remount(f"size={pages * PAGE}")
        outcome = outcome_of(self.folder.start())
        self._remount(f"size={ROOM * PAGE}")
        return f"a disk of {pages} pages", outcome

    def filled(self) -> tuple[str, Outcome]:
        """Others fill the disk, and free it again."""
        ballast = self.folder.path / "ballast"

        def change() -> None:
            if ballast.exists():
                ballast.unlink()
                return
            try:
                with open(ballast, "wb", buffering=0) as file:
                    while True:
                        file.write(bytes(PAGE))
            except OSError:  # it is full
                pass

        outcome = self._meanwhile(change)
        ballast.unlink(missing_ok=True)
        return "a disk that is filled and freed", outcome

    def read_only(self) -> tuple[str, Outcome]:
        """The disk is read-only for a while, as after an error."""
        state = ["rw"]

        def change() -> None:
            state[0] = "ro" if state[0] == "rw" else "rw"
            self._remount(state[0])

        outcome = self._meanwhile(change)
        self._remount("rw")
        return "a disk that is read-only for a while", outcome

    def vanishing(self) -> tuple[str, Outcome]:
        """Somebody removes the folder."""

        def change() -> None:
            if self.random.random() < 0.2:
                shutil.rmtree(self.folder.path / "deep", ignore_errors=True)

        self.folder.out = self.folder.path / "deep" / "m.safetensors"
        outcome = self._meanwhile(change)
        if self.folder.out.exists():
            shutil.move(self.folder.out, self.folder.path / "m.safetensors")
        shutil.rmtree(self.folder.path / "deep", ignore_errors=True)
        self.folder.out = self.folder.path / "m.safetensors"
        outcome.announced = -1  # it may have been removed
        return "a folder that vanishes", outcome

    def _meanwhile(self, change: Callable[[], None]) -> Outcome:
        child: Child = self.folder.start()
        while child.is_running():
            time.sleep(self.random.uniform(0, 2 * SECONDS))
            change()
        return outcome_of(child)

    def _remount(self, options: str) -> None:
        done = subprocess.run(["mount", "-o", f"remount,{options}", self.mount or ""], capture_output=True)
        if done.returncode and "ro" not in options:  # busy while a file is open for writing
            done.check_returncode()

    def run(self, kind: Callable[[], tuple[str, Outcome]]) -> None:
        campaign, report = self.campaign, self.campaign.report
        self.folder.empty()
        what, outcome = kind()
        campaign.look(what, outcome.announced)
        if outcome.error:
            report.count("ended with one line")
            report.check(outcome.code == 1, f"{what}: {outcome}")
        else:
            report.count("went on to the end" if outcome.unsaved else "ended")
            gone = kind == self.vanishing and not self.folder.out.exists()  # removed after its last save
            same = gone or self.folder.out.read_bytes() == campaign.expected
            report.check(outcome.reason == "budget" and same, f"{what}: {outcome}")
        campaign.ends_well(what)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--runs", type=int, default=400)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    report = Report("disks")
    with scratch() as path:
        mount: Path | None = path / "out"
        assert mount is not None
        mount.mkdir()
        size = f"size={ROOM * PAGE}"
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", mount], capture_output=True)
        if mounted.returncode:
            print("a disk of its own needs the right to mount one: only limits are tried", file=sys.stderr)
        try:
            folder = Folder(path / "out")
            disks = Disks(Campaign(folder, report, options.seed), mount)
            kinds = [disks.limited, disks.vanishing]
            if not mounted.returncode:
                kinds += [disks.small, disks.filled, disks.read_only]
            choice = random.Random(options.seed)
            for _ in range(options.runs):
                disks.run(choice.choice(kinds))
        finally:
            if not mounted.returncode:
                subprocess.run(["umount", "-l", path / "out"], check=True)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
