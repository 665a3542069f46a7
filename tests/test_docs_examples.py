"""The examples of the README and of the pages in docs/ are what the commands print."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from support.calls import call

ROOT = Path(__file__).parent.parent
PAGES = {path.name: path for path in (ROOT / "README.md", ROOT / "docs/reading.md", ROOT / "docs/search.md")}
MODEL = "checkpoints/places.safetensors"
# What takes a minute, or another model than the bundled one.
LONG = re.compile(r"charrnn (train|compress|decompress|classify)\b")


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGES[page].read_text("utf-8"), re.M | re.S)


def examples() -> list[tuple[str, str, str]]:
    """Commands with the bundled model alone, and what is printed below them."""
    found = []
    for page in PAGES:
        for block in blocks(page, "console"):
            for part in re.split(r"^\$ ", block, flags=re.M)[1:]:
                shown, _, output = part.partition("\n")
                if not LONG.search(part):
                    found.append((page, shown, output.strip("\n") + "\n"))
    return found


@pytest.mark.parametrize("page", PAGES)
def test_there_are_examples(page: str) -> None:
    assert sum(name == page for name, *_ in examples()) >= 5


@pytest.mark.parametrize(("page", "shown", "output"), examples(), ids=lambda text: text[:40])
def test_an_example_prints_what_the_page_says(page: str, shown: str, output: str) -> None:
    before, _, line = shown.rpartition(" | ")
    stdin = shlex.split(before)[1].replace("\\n", "\n").encode() if before else b""
    # In a folder without models, the default is the bundled one.
    folder = ROOT if MODEL in shown else ROOT / "docs"
    result = call(*shlex.split(line, comments=True)[1:], stdin=stdin, cwd=folder)
    assert result.returncode == 0
    numbers = r"\d+\.\d+"  # their last digit may differ from machine to machine
    text = result.stdout.decode()
    assert re.sub(numbers, "0", text) == re.sub(numbers, "0", output)
    values = [float(value) for value in re.findall(numbers, output)]
    assert [float(value) for value in re.findall(numbers, text)] == pytest.approx(values, abs=2e-3)


@pytest.mark.parametrize("page", PAGES)
def test_the_python_examples_are_valid_python(page: str) -> None:
    for block in blocks(page, "python"):
        compile(block, page, "exec")


RECORDS = {
    "poems.txt": "one\ntwo\n\nthree\n\nfour\nfive\n" * 20,
    "posts.jsonl": '{"title": "x", "body": "first\\nlines"}\n{"title": "y", "body": "more of them"}\n' * 20,
    "cards.txt": "Bear|2|beast\nOak|0|tree\n" * 20,
    "kjv.txt": "In the beginning there was light.\n" * 20,
    "moby.txt": "Call me what you like.\n" * 50,
    "surnames.tsv": "Russian\tIvanov\nGreek\tPappas\nRussian\tPetrov\n" * 20,
    "names.txt": "Petrov\nPappas\n",
}


def test_the_readmes_examples_of_records_shares_and_labels_do_what_it_says(tmp_path: Path) -> None:
    for name, text in RECORDS.items():
        (tmp_path / name).write_text(text)
    (block,) = (block for block in blocks("README.md", "sh") if "--split" in block)
    output = {}
    for line in block.splitlines():
        words = shlex.split(line, comments=True)[1:]
        small = (
            ["--steps", "2", "--hidden-size", "4", "--num-layers", "1", "--seed", "1", "-q"]
            if words[0] == "train"
            else []
        )
        result = call(*words, *small, cwd=tmp_path)
        assert result.returncode == 0, (line, result.stderr.decode())
        output[words[0]] = result.stdout.decode()
    made = {path.name for path in (tmp_path / "checkpoints").iterdir()}
    assert {f"{Path(name).stem}.safetensors" for name in RECORDS} - made == {
        "moby.safetensors",
        "names.safetensors",
    }
    assert output["sample"].count("\n") == 5
    rows = [row.split("\t") for row in output["classify"].splitlines()]
    assert [row[-1] for row in rows] == ["Petrov", "Pappas"]
    assert all(row[0] in ("Russian", "Greek") for row in rows)
