"""The changes on docs/extending.md are applied to a copy of the package, and its commands typed."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from support.environment import ROOT, environment
from support.processes import copy_package

PAGE = (Path(ROOT) / "docs" / "extending.md").read_text(encoding="utf-8")


class Block(NamedTuple):
    """A fenced block, and the line before it."""

    above: str
    language: str
    text: str


def sections() -> dict[str, list[Block]]:
    """The blocks under each heading that has some."""
    found: dict[str, list[Block]] = {}
    for section in re.split(r"^(?=## )", PAGE, flags=re.M)[1:]:
        # What stands between two fences is text, or code with its language: in turns.
        parts = re.split(r"^```(\w*)\n", section, flags=re.M)
        for text, language, code in zip(parts[::4], parts[1::4], parts[2::4], strict=False):
            above = text.strip().rpartition("\n")[2]
            found.setdefault(section.splitlines()[0].removeprefix("## "), []).append(
                Block(above, language, code)
            )
    return found


def change(folder: Path, diff: str) -> None:
    """Apply a unified diff without line numbers: what is old in each hunk stands once in the file."""
    before, after, *lines = diff.splitlines(keepends=True)
    assert before.startswith("--- a/")
    assert after.startswith("+++ b/")
    path = folder / after[6:].strip()
    text = path.read_text(encoding="utf-8")
    for hunk in re.split(r"^@@.*\n", "".join(lines), flags=re.M):
        rows = [row or " \n" for row in hunk.splitlines(keepends=True)]
        old, new = ("".join(row[1:] for row in rows if row[0] in kinds) for kinds in (" -", " +"))
        assert text.count(old) == 1, f"{path.name} does not have, or has several times:\n{old}"
        text = text.replace(old, new)
    path.write_text(text, encoding="utf-8")


@pytest.mark.parametrize("title", sections())
def test_what_the_page_adds_works_as_it_says(title: str, tmp_path: Path) -> None:
    root = Path(ROOT)
    copy_package(tmp_path)
    shutil.copytree(root / "corpora", tmp_path / "corpora")
    (tmp_path / "checkpoints").mkdir()
    shutil.copy(root / "checkpoints" / "places.safetensors", tmp_path / "checkpoints")
    program = tmp_path / "bin" / "charrnn"
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable}\nfrom charrnn.cli import main\nmain()\n", encoding="utf-8")
    program.chmod(0o755)
    path = f"{program.parent}:{Path(sys.executable).parent}:{environment()['PATH']}"
    changed = typed = 0
    for block in sections()[title]:
        if block.language == "diff":
            change(tmp_path, block.text)
            changed += 1
        elif block.language == "python":
            (tmp_path / block.above.strip("`")).write_text(block.text, encoding="utf-8")
            changed += 1
        elif block.language == "console":
            for command, expected in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block.text, re.M):
                done = subprocess.run(
                    ["/bin/sh", "-c", command], cwd=tmp_path, capture_output=True, text=True, timeout=120,
                    env=environment(PYTHONPATH=str(tmp_path), PATH=path),
                )  # fmt: skip
                assert done.returncode == 0, f"{command}\n{done.stderr}"
                assert done.stdout == expected, command
                typed += 1
    assert changed
    assert typed


def test_every_row_of_the_table_has_its_section() -> None:
    rows = re.findall(r"^\| a ([a-z]+) \|", PAGE, re.M)
    assert [f"A {row}" for row in rows] == list(sections())
