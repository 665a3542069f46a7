"""Several ranks, of which one is killed, stopped or cut off, or whose disk is full, at random moments.

Every rank must be gone ten seconds later, after one line of charrnn's; the model file must be whole; and
`--resume`, on another number of ranks, must end with the bytes of the run that was never disturbed.
Cuts need root and `ip`: hosts are network namespaces then, which speak TCP.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from charrnn.checkpoint import model_file
from charrnn.errors import CheckpointError

from ..support.environment import environment
from .harness import Report, command, scratch

sys.path.insert(0, str(Path(__file__).parents[1]))  # as pytest has it
mpirun = importlib.import_module("support.mpirun")

TEXT = "the quick brown fox jumps over the lazy dog\n" * 60
STEPS = 400
NETWORK = ("--hidden-size", 24, "--num-layers", 1, "--embedding-size", 8, "--threads", 1, "--shards", 4)
GONE = 10.0  # seconds after which no rank may be left
PATIENCE = 90.0
HOSTS = 3
Fault = Callable[[subprocess.Popen[str], int], None]  # done to a run, and to that of its ranks
Fault = Callable[[subprocess.Popen[str], int], None]  # what is done to a run, and to which of its ranks


class Ranks:
    """Runs that are disturbed, in a folder."""

    def __init__(self, folder: Path, report: Report, seed: int) -> None:
        self.folder, self.report, self.random = folder, report, random.Random(seed)
        self.model = folder / "m.safetensors"
        (folder / "text.txt").write_text(TEXT)
        self.words = ("train", folder / "text.txt", "-o", self.model, *NETWORK)
        self.straight = self._run(1, "--steps", STEPS, "--force")
        self.longest = 0.0

    def _run(self, ranks: int, *more: object) -> bytes:
        """The model of a run that nothing disturbs."""
        words = mpirun.words(ranks, *command(*self.words, *more, "-q"))
        subprocess.run(words, env=environment(), timeout=PATIENCE, check=True, capture_output=True)
        return self.model.read_bytes()

    def disturb(self, what: str, fault: Fault, launcher: list[str]) -> None:
        """Start a run, disturb it while it makes steps, and go on with it."""
        size = self.random.randint(2, HOSTS)
        for path in self.folder.glob("*m.*"):
            path.unlink()
        words = [mpirun.MPIRUN, *launcher, "-n", str(size), *command(*self.words, "--steps", STEPS, "--json")]
        process = subprocess.Popen(
            words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment()
        )
        assert process.stdout is not None
        process.stdout.readline()  # the first step
        time.sleep(self.random.random() * 1.5)
        fault(process, self.random.randrange(size))
        began = time.monotonic()
        case = f"{what} of {size} ranks, case {self.report.tried + 1}"
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
        said = process.communicate(timeout=PATIENCE)[1]
        lines = [line for line in said.splitlines() if line.startswith("charrnn: error")]
        ended = process.returncode == 0
        told = len(lines) == 1 or (ended and not lines)
        self.report.check(told, f"{case}: {process.returncode}, said {said[-800:]!r}")
        self.report.check("Traceback" not in said, f"{case}: {said}")
        self._go_on(case)
        self.report.count("done before" if ended else what)

    def _go_on(self, case: str) -> None:
        if self.model.exists():
            try:
                model_file.load(self.model)
            except CheckpointError as error:
                self.report.breaks(f"{case}: {error}")
        more = ("--resume",) if model_file.resume_path(self.model).exists() else ("--force",)
        try:
            found = self._run(self.random.randint(1, HOSTS), "--steps", STEPS, *more)
        except subprocess.SubprocessError as error:
            self.report.breaks(f"{case}: {error} {getattr(error, 'stderr', b'')!r}")
            return
        self.report.check(found == self.straight, f"{case}: other bytes after {more}")

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

    def cut(self, hosts: Hosts) -> None:
        """The cable of a host is pulled."""

        def fault(process: subprocess.Popen[str], rank: int) -> None:
            hosts.cut(max(1, rank))

        self.disturb("cut", fault, hosts.launcher())
        hosts.mend()


class Hosts:
    """Network namespaces, each with a cable to the bridge between them."""

    def __init__(self, folder: Path) -> None:
        self.script = folder / "on_host"
        self.script.write_text(
            '#!/bin/sh\nwhile [ "${1#-}" != "$1" ]; do shift; done\n'
            'host=charrnn${1#10.97.0.1}; shift\nexec ip netns exec "$host" sh -c "$*"\n'
        )
        self.script.chmod(0o700)

    def launcher(self) -> list[str]:
        """What tells MPICH's launcher of them."""
        hosts = ",".join(f"10.97.0.1{n}" for n in range(HOSTS))
        tcp = ["-genv", "UCX_TLS", "tcp,self", "-genv", "UCX_NET_DEVICES", "e0"]
        where = ["-launcher", "ssh", "-launcher-exec", str(self.script), "-hosts", hosts]
        return [*tcp, *where, "-localhost", "10.97.0.254"]

    def cut(self, host: int) -> None:
        _ip("link", "set", f"charrnnv{host}", "down")

    def mend(self) -> None:
        for host in range(HOSTS):
            _ip("link", "set", f"charrnnv{host}", "up")
        time.sleep(3)  # until the bridge knows the way again


@contextlib.contextmanager
def hosts(folder: Path) -> Iterator[Hosts]:
    with contextlib.ExitStack() as held:
        _ip("link", "add", "charrnnbr", "type", "bridge")
        held.callback(_ip, "link", "del", "charrnnbr")
        _ip("addr", "add", "10.97.0.254/24", "dev", "charrnnbr")
        _ip("link", "set", "charrnnbr", "up")
        for n in range(HOSTS):
            name, cable = f"charrnn{n}", f"charrnnv{n}"
            _ip("netns", "add", name)
            held.callback(_ip, "netns", "del", name)
            _ip("link", "add", cable, "type", "veth", "peer", "name", "e0", "netns", name)
            _ip("link", "set", cable, "master", "charrnnbr", "up")
            for words in (f"addr add 10.97.0.1{n}/24 dev e0", "link set e0 up", "link set lo up"):
                _ip("netns", "exec", name, "ip", *words.split())
            _ip("netns", "exec", name, "ip", "route", "add", "default", "via", "10.97.0.254")
        yield Hosts(folder)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


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
        if options.cuts and os.geteuid() == 0 and shutil.which("ip"):
            with hosts(folder) as several:
                for _ in range(options.cuts):
                    ranks.cut(several)
        print(f"all ranks gone after {ranks.longest:.1f} s at the latest", file=sys.stderr)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
