"""A short, seeded slice of each campaign of docs/reliability.md, as somebody runs the whole."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support import mpirun
from support.environment import environment

ROOT = Path(__file__).parent.parent
SLICES = {
    "crashes": ("--kills", 2, "--faults", 2),
    "disks": ("--runs", 4),
    "races": ("--rounds", 1),
    "models": ("--mutations", 20),
    "texts": ("--texts", 4, "--size", 100_000, "--line-size", 0),
    "commands": ("--calls", 15, "--seed", 4),  # of which the last is a process
    "signals": ("--ends", 2, "--seconds", 60),  # on a machine that others use
    "numbers": ("--runs", 1),
    "serving": ("--clients", 40, "--seconds", 60),  # likewise
    "ranks": ("--kills", 1, "--disks", 0),
    "long": ("--minutes", 0.01, "--characters", 20_000),
}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the campaigns fork their runs")
@pytest.mark.timeout(660)
@pytest.mark.parametrize("name", SLICES)
def test_no_promise_is_broken(name: str) -> None:
    if name == "serving":
        pytest.importorskip("uvicorn", reason="the extra charrnn[serve] is not installed")
    if name == "ranks" and (why := mpirun.missing()):
        pytest.skip(why)
    words = [sys.executable, "-m", f"tests.campaigns.{name}", *map(str, SLICES[name])]
    result = subprocess.run(words, capture_output=True, text=True, cwd=ROOT, env=environment(), timeout=600)
    assert result.returncode == 0, result.stderr[-3000:]
    rows = [line for line in result.stdout.splitlines() if line.startswith("| ")]
    assert rows
    assert all(" 0 broken " in row for row in rows)


def test_every_campaign_has_a_slice_and_a_command_in_the_document() -> None:
    modules = {path.stem for path in (ROOT / "tests" / "campaigns").glob("*.py")}
    campaigns = modules - {"__init__", "harness", "fuzz"}
    assert campaigns == set(SLICES)
    document = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    assert set(re.findall(r"python -m tests\.campaigns\.(\w+)", document)) == campaigns | {"fuzz"}


def test_every_test_that_the_document_names_is_there() -> None:
    document = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    named = re.findall(r"`(test_\w+)\.py::(\w+)`", document)
    assert named
    for module, function in named:
        assert f"def {function}(" in (ROOT / "tests" / f"{module}.py").read_text(encoding="utf-8"), function
