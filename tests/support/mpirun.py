"""Commands that mpirun starts as several ranks, which share the cores that there are."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from support.environment import environment
from support.processes import command

TIMEOUT = 100  # seconds
_beside = Path(sys.executable).parent / "mpirun"
MPIRUN = str(_beside) if _beside.exists() else shutil.which("mpirun")


def missing() -> str:
    """Why ranks cannot be started here; empty if they can."""
    there = MPIRUN is not None and importlib.util.find_spec("mpi4py") is not None and os.name == "posix"
    return "" if there else "mpirun or mpi4py is not installed: pip install mpi4py mpich"


GONE = 10.0  # seconds after which no rank may be left
needs_mpi = pytest.mark.skipif(bool(missing()), reason=missing())


@cache
def is_open_mpi() -> bool:
    """Whether mpirun is that of Open MPI. It does not wait for ranks that it kills, and talks more."""
    assert MPIRUN is not None
    told = subprocess.run([MPIRUN, "--version"], capture_output=True, text=True, timeout=TIMEOUT).stdout
    return "Open MPI" in told


def words(ranks: int, *program: str) -> list[str]:
    assert MPIRUN is not None
    return [MPIRUN, *(["--oversubscribe"] * is_open_mpi()), "-n", str(ranks), *program]


def run(
    ranks: int, *args: object, stdin: bytes = b"", cwd: Path | None = None, **variables: str
) -> subprocess.CompletedProcess[bytes]:
    """`charrnn` with these arguments on so many ranks."""
    started = words(ranks, *command(*args))
    return subprocess.run(
        started, input=stdin, capture_output=True, cwd=cwd, env=environment(**variables), timeout=TIMEOUT
    )


def start(ranks: int, *args: object, cwd: Path, program: str | None = None) -> subprocess.Popen[str]:
    """The same, running; `program` is Python that takes the place of the command."""
    own = command(*args) if program is None else [sys.executable, "-c", program, *map(str, args)]
    return subprocess.Popen(
        words(ranks, *own),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd,
        env=environment(),
    )


def _all() -> Iterator[tuple[int, int, int | None, str]]:
    """The processes that there are: each one's id, its parent's, its rank, and its command line."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                parent = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
                words = (folder / "cmdline").read_text()
                variables = (folder / "environ").read_bytes().split(b"\0")
            except OSError:
                continue
            told = [v for v in variables if v.startswith((b"PMI_RANK=", b"OMPI_COMM_WORLD_RANK="))]
            yield int(folder.name), parent, int(told[0].split(b"=")[1]) if told else None, words


def ranks_of(word: str) -> list[int]:
    """The processes of ranks that have this word on their command line."""
    return [pid for pid, _, rank, words in _all() if rank is not None and word in words]


def left_of(word: str) -> list[int]:
    """Those of them that do not end in time, where the launcher has not waited for them."""
    until = time.monotonic() + GONE * is_open_mpi()
    while (found := ranks_of(word)) and time.monotonic() < until:
        time.sleep(0.05)
    return found


def processes(mpirun: int) -> dict[int, tuple[int, int]]:
    """By its rank, the process that the launcher has started, and the one that works."""
    found = list(_all())
    parents = {pid: parent for pid, parent, *_ in found}
    ranks = {pid: rank for pid, _, rank, _ in found if rank is not None}

    def is_below(pid: int) -> bool:
        while pid in parents and pid != mpirun:
            pid = parents[pid]
        return pid == mpirun

    own = {pid for pid in ranks if is_below(pid)}
    workers = {pid for pid in own if parents[pid] in own}
    return {ranks[pid]: (parents[pid], pid) for pid in workers}


def wait_for_steps(process: subprocess.Popen[str]) -> str:
    """Read what a run says until it has made steps."""
    assert process.stderr is not None
    said = ""
    while line := process.stderr.readline():
        said += line
        if line.startswith("step "):
            return said
    raise AssertionError(said)


def ended(process: subprocess.Popen[str]) -> tuple[int, list[str]]:
    """The exit code of a run, and what charrnn itself said since."""
    try:
        _, said = process.communicate(timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        for _, worker in processes(process.pid).values():
            os.kill(worker, signal.SIGKILL)
        process.kill()
        raise
    return process.returncode, [line for line in said.splitlines() if line.startswith("charrnn: ")]
