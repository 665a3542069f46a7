"""The examples of docs/reading.md are what the commands print."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from test_cli import run

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "reading.md").read_text(encoding="utf-8")
MODEL = "checkpoints/places.safetensors"


def examples() -> list[tuple[str, str]]:
    """Commands with the bundled model alone, and what is printed below them."""
    found = []
    for block in re.findall(r"^```console\n(.*?)^```$", PAGE, re.M | re.S):
        for part in re.split(r"^\$ ", block, flags=re.M)[1:]:
            shown, _, output = part.partition("\n")
            if MODEL in shown and "tales" not in shown and not re.search(r"(de)?compress", shown):
                found.append((shown, output))
    return found


def test_there_are_examples() -> None:
    assert len(examples()) == 5


@pytest.mark.parametrize(("shown", "output"), examples(), ids=lambda text: text[:40])
def test_an_example_prints_what_the_page_says(shown: str, output: str) -> None:
    before, _, line = shown.rpartition(" | ")
    stdin = shlex.split(before)[1].replace("\\n", "\n").encode() if before else b""
    result = run(*shlex.split(line)[1:], stdin=stdin, cwd=ROOT)
    assert result.returncode == 0
    numbers = r"\d+\.\d+"  # their last digit may differ from machine to machine
    text = result.stdout.decode()
    assert re.sub(numbers, "0", text) == re.sub(numbers, "0", output)
    values = [float(value) for value in re.findall(numbers, output)]
    assert [float(value) for value in re.findall(numbers, text)] == pytest.approx(values, abs=2e-3)


def test_the_python_example_is_valid_python() -> None:
    for block in re.findall(r"^```python\n(.*?)^```$", PAGE, re.M | re.S):
        compile(block, "reading.md", "exec")
