"""The command line as a user meets it: a process, its streams, and what it came to."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.environment import ROOT, environment

posix = pytest.mark.skipif(os.name != "posix", reason="signals, /dev/full and pseudo-terminals are POSIX")
# Where files may not grow, Python leaves .pyc files that are cut off, over which the next process stumbles.
UNCACHED = {"PYTHONDONTWRITEBYTECODE": "1"}
SIGNALS = [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)]

# What a model learns within a second.
TEXT = "the quick brown fox jumps over the lazy dog\n" * 40
TINY_NETWORK = ("--hidden-size", 8, "--num-layers", 1, "--embedding-size", 4, "--threads", 1)
TINY = (*TINY_NETWORK, "--val-fraction", 0.1)

NOWHERE = f"{os.devnull}/nowhere"  # a folder that cannot be made, not even by root
# `charrnn` where no folder can keep machine code, not even a temporary one.
UNKEPT = """
from charrnn.kernels.machine import cache
cache.SHARED = ()
from charrnn.cli import main
main()
"""


def command(*args: object) -> list[str]:
    return [sys.executable, "-m", "charrnn", *map(str, args)]


def run(
    *args: object, stdin: bytes = b"", cwd: Path | None = None, **variables: str
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        command(*args),
        input=stdin,
        capture_output=True,
        cwd=cwd,
        env=environment(**variables),
        timeout=120,
    )


def run_unkept(*args: object, **variables: str) -> subprocess.CompletedProcess[bytes]:
    """The same where each process compiles anew, since nothing can keep its machine code."""
    return subprocess.run(
        [sys.executable, "-c", UNKEPT, *map(str, args)],
        capture_output=True,
        env=environment(CHARRNN_CACHE_DIR=NOWHERE, TMPDIR="", **variables),
        timeout=250,
    )


def copy_package(folder: Path) -> None:
    """Copy charrnn and its bytecode, which stays valid for each file that is not changed afterwards."""
    being_written = shutil.ignore_patterns("*.pyc.*")
    shutil.copytree(Path(ROOT, "charrnn"), folder / "charrnn", ignore=being_written)


def failed(result: subprocess.CompletedProcess[bytes]) -> str:
    assert result.returncode == 1, result.stderr
    (line,) = result.stderr.decode().splitlines()
    assert line.startswith("charrnn: error: ")
    return line
