"""Several ranks, of which one is killed, stopped or cut off, or whose disk is full, at random moments.

Every rank must be gone ten seconds later, after one line of charrnn's; the model file must be whole; and
`--resume`, on another number of ranks, must end with the bytes of the run that was never disturbed.
Cuts need root and `ip`: hosts are network namespaces then, which speak TCP.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import importlib
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from charrnn.checkpoint import model_file
from charrnn.errors import CheckpointError

from ..support.environment import environment
from .harness import Report, command, scratch

sys.path.insert(0, str(Path(__file__).parents[1]))  # as pytest has it
mpirun, networks = importlib.import_module("support.mpirun"), importlib.import_module("support.hosts")

TEXT = "the quick brown fox jumps over the lazy dog\n" * 60
STEPS = 400
EVERY = (1, 30)  # steps between two exchanges
NETWORK = ("--hidden-size", 24, "--num-layers", 2, "--embedding-size", 8, "--threads", 1, "--shards", 4)
GONE = 10.0  # seconds after which no rank may be left
PATIENCE = 90.0
HOSTS = 3
Fault = Callable[[subprocess.Popen[str], int], None]  # what is done to a run, and to which of its ranks


class Ranks:
    """Runs that are disturbed, in a folder."""

    def __init__(self, folder: Path, report: Report, seed: int) -> None:
        self.folder, self.report, self.random = folder, report, random.Random(seed)
        self.model = folder / "m.safetensors"
        (folder / "text.txt").write_text(TEXT)
        self.words = ("train", folder / "text.txt", "-o", self.model, *NETWORK)
        self.straight = functools.cache(lambda every: self._run(1, every, "--force"))  # undisturbed
        self.longest = 0.0

    def _training(self, every: int, *more: object) -> list[str]:
        return command(*self.words, "--steps", STEPS, "--sync-every", every, *more)

    def _run(self, ranks: int, every: int, *more: object) -> bytes:
        """The model of a run that nothing disturbs."""
        words = mpirun.words(ranks, *self._training(every, *more, "-q"))
        subprocess.run(words, env=environment(), timeout=PATIENCE, check=True, capture_output=True)
        return self.model.read_bytes()

    def disturb(self, what: str, fault: Fault, launcher: list[str]) -> None:
        """Start a run, disturb it while it makes steps, and go on with it."""
        size, every = self.random.randint(2, HOSTS), self.random.choice(EVERY)
        straight = self.straight(every)
        for path in self.folder.glob("*m.*"):
            path.unlink()
        words = [mpirun.MPIRUN, *launcher, "-n", str(size), *self._training(every, "--json")]
        process = subprocess.Popen(
            words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment()
        )
        assert process.stdout is not None
        process.stdout.readline()  # the first step
        time.sleep(self.random.random() * 1.5)
        fault(process, self.random.randrange(size))
        began = time.monotonic()
        case = f"{what} of {size} ranks that meet every {every}, case {self.report.tried + 1}"
        while left := mpirun.ranks_of(str(self.model)):
            if time.monotonic() - began > GONE:
                self.report.breaks(f"{case}: {left} are left")
                for pid in left:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                break
            time.sleep(0.05)
        self.longest = max(self.longest, time.monotonic() - began)
        if what == "cut":  # the launcher itself waits for TCP
            time.sleep(1)
            process.kill()
        events, said = process.communicate(timeout=PATIENCE)
        lines = [line for line in said.splitlines() if line.startswith("charrnn: error")]
        done = '"event": "done"' in events  # nothing is left to be lost, nor to be said
        ended = process.returncode == 0 or done
        told = len(lines) == 1 or (ended and not lines)
        self.report.check(told, f"{case}: {process.returncode}, said {said[-800:]!r}")
        self.report.check("Traceback" not in said, f"{case}: {said}")
        if done:
            self.report.check(self.model.read_bytes() == straight, f"{case}: other bytes at the end")
        self._go_on(case, every)
        self.report.count("done before" if ended else what)

    def _go_on(self, case: str, every: int) -> None:
        if self.model.exists():
            try:
                model_file.load(self.model)
            except CheckpointError as error:
                self.report.breaks(f"{case}: {error}")
        more = ("--resume",) if model_file.resume_path(self.model).exists() else ("--force",)
        try:
            found = self._run(self.random.randint(1, HOSTS), every, *more)
        except subprocess.SubprocessError as error:
            self.report.breaks(f"{case}: {error} {getattr(error, 'stderr', b'')!r}")
            return
        self.report.check(found == self.straight(every), f"{case}: other bytes after {more}")

    def kill(self) -> None:
        """A process of a rank, the one that works or the one that was started, is killed or stopped."""
        number = self.random.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGSTOP])
        works = number == signal.SIGSTOP or self.random.random() < 0.6

        def fault(process: subprocess.Popen[str], rank: int) -> None:
            with contextlib.suppress(KeyError, ProcessLookupError):
                os.kill(mpirun.processes(process.pid)[rank][works], number)

        self.disturb("stopped" if number == signal.SIGSTOP else "killed", fault, [])

    def fill(self) -> None:
        """From a moment on, rank 0 may write files of few bytes only."""
        most = self.random.randint(1, 40_000)

        def fault(process: subprocess.Popen[str], rank: int) -> None:
            with contextlib.suppress(KeyError, ProcessLookupError):
                leader = mpirun.processes(process.pid)[0][1]
                resource.prlimit(leader, resource.RLIMIT_FSIZE, (most, most))
            process.wait(PATIENCE)  # it goes on, and tries again; only the end may fail

        self.disturb("full disk", fault, [])

    def cut(self, hosts: networks.Hosts) -> None:
        """The cable of a host is pulled."""

        def fault(process: subprocess.Popen[str], rank: int) -> None:
            hosts.cut(max(1, rank))

        self.disturb("cut", fault, hosts.launcher())
        hosts.mend()


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--kills", type=int, default=120)
    parser.add_argument("--disks", type=int, default=40)
    parser.add_argument("--cuts", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    report = Report("ranks")
    with scratch() as folder:
        ranks = Ranks(folder, report, options.seed)
        for _ in range(options.kills):
            ranks.kill()
        for _ in range(options.disks):
            ranks.fill()
        if options.cuts and not networks.missing():
            with networks.hosts(folder, HOSTS) as several:
                for _ in range(options.cuts):
                    ranks.cut(several)
        print(f"all ranks gone after {ranks.longest:.1f} s at the latest", file=sys.stderr)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
