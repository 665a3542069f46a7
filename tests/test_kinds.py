"""Kinds of models: the table in docs/models.md says which command takes which, and the others refuse it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.calls import call
from support.environment import ROOT

from charrnn.checkpoint import kinds, model_file
from charrnn.checkpoint.model_file import Checkpoint
from charrnn.cli.commands import COMMANDS
from charrnn.config import COMMANDS as COMMAND_OF
from charrnn.config import KINDS, Kind, ModelConfig, TextConfig
from charrnn.labels import Column
from charrnn.vocabulary import Vocabulary

CHARACTERS, LABELS = "\t\nabe", ("a", "b")
# By command: what follows its name and `-m MODEL`.
WORDS: dict[str, list[str]] = {
    "sample": ["-n", "5", "--seed", "1"],
    "serve": ["--print-llm-config"],
    "enumerate": ["-n", "1"],
    "next": ["a"],
    "score": ["lines.txt"],
    "compress": ["lines.txt", "-o", "lines.crnn"],
    "fill": ["a?b"],
    "classify": ["lines.txt"],
    "eval": ["pairs.tsv"],
    "restore": ["lines.txt"],
    "diagnose": ["lines.txt"],
    "neurons": ["lines.txt"],
    "tag": ["lines.txt"],
    "rewrite": ["lines.txt"],
    "export page": ["-o", "page.html"],
    "export torch": ["-o", "script.py"],
    "export onnx": ["-o", "graph.onnx"],
    "train --init-from": [],
}
UNNAMED = ("eval", "info")  # the model is an argument
WITHOUT_MODEL = {"train", "models", "decompress"}  # decompress takes what compress does


def table() -> dict[str, dict[Kind, str]]:
    """The table in docs/models.md: by command and kind, what the command does."""
    lines = Path(ROOT, "docs/models.md").read_text("utf-8").splitlines()
    rows = [line.strip("|").split("|") for line in lines if line.startswith("| `")]
    names = [row for row in rows if len(row) == 1 + len(KINDS)]
    cells = [[cell.strip().strip("`") for cell in row] for row in names]
    return {name: dict(zip(KINDS, said, strict=True)) for name, *said in cells}


TABLE = table()


def model(kind: Kind) -> Checkpoint:
    own = kind not in ("writer", "filler")
    config = ModelConfig(
        len(CHARACTERS), hidden_size=3, num_layers=1, embedding_size=2, kind=kind,
        targets=(len(LABELS),) if own else (),
    )  # fmt: skip
    rng = np.random.default_rng(1)
    tensors = {n: rng.normal(0, 0.3, s).astype(np.float32) for n, s in config.parameter_shapes().items()}
    settings: dict[str, Any] = {"lines": True}
    if kind == "classifier":
        settings["label_by"] = "column"
    columns = (Column("", LABELS, (1, 1)),) if own else ()
    return Checkpoint(config, Vocabulary(CHARACTERS), TextConfig(**settings), tensors, columns=columns)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of each kind, and texts."""
    path = tmp_path_factory.mktemp("kinds")
    for kind in KINDS:
        model_file.save(model(kind), path / f"{kind}.safetensors")
    (path / "lines.txt").write_text("ab\nba\n", encoding="utf-8")
    (path / "pairs.tsv").write_text("a\tba\nb\tab\n", encoding="utf-8")
    return path


def words(command: str, kind: Kind) -> list[str]:
    name, file = command.split(), f"{kind}.safetensors"
    if command in UNNAMED:
        return [*name, file, *WORDS.get(command, [])]
    if command == "classify" and kind == "writer":
        return [*name, "-m", file, "-m", file, *WORDS[command]]
    return [*name, "-m", file, *WORDS[command]]


def test_the_table_has_every_command_and_every_kind() -> None:
    assert {name.split()[0] for name in TABLE} | WITHOUT_MODEL == set(COMMANDS)
    assert set(kinds.NAMES) == set(COMMAND_OF) == set(KINDS)
    for kind in KINDS:
        if COMMAND_OF[kind] in TABLE:
            assert TABLE[COMMAND_OF[kind]][kind], "the command of a kind takes models of that kind"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("command", [name for name in TABLE if name != "train --init-from"])
def test_a_command_takes_the_kinds_that_the_table_says_and_refuses_others_by_name(command, kind, folder):
    if command == "export onnx" and TABLE[command][kind]:
        pytest.importorskip("onnx", reason="ONNX is not installed: pip install onnx")
    done = call(*words(command, kind), cwd=folder)
    if TABLE[command][kind]:
        assert done.returncode == 0, done.stderr.decode()
        if command == "info" and kind != "writer":
            assert f"{kind}, for charrnn {COMMAND_OF[kind]}\n" in done.stdout.decode()
        return
    assert (done.returncode, done.stdout) == (1, b"")
    said = done.stderr.decode()
    assert kinds.NAMES[kind] in said
    assert f"charrnn {COMMAND_OF[kind]} is for it" in said
    assert said.count("\n") == 1


def options() -> dict[str, list[str]]:
    """The second table there: the commands that have an option for models that write."""
    lines = Path(ROOT, "docs/models.md").read_text("utf-8").splitlines()
    rows = [line.strip("| ").split(" | ") for line in lines if line.startswith("| [`--")]
    return {name.split("`")[1]: [word.strip("`") for word in said.split(", ")] for name, said in rows}


@pytest.mark.parametrize("option", ["--cache", "--adaptive", "--fix"])
@pytest.mark.parametrize("command", [name for name in TABLE if name != "train --init-from"])
def test_a_command_has_the_options_for_models_that_write_that_the_table_says(option, command):
    assert (command in options()[option]) == (f"{option} " in call(command, "--help").stdout.decode())


@pytest.mark.parametrize("command", options()["--cache"])
def test_a_command_that_looks_back_does_so_with_a_model_that_writes_and_refuses_others(command, folder):
    done = call(*words(command, "writer"), "--cache", "5", cwd=folder)
    assert done.returncode == 0, done.stderr.decode()
    for kind in KINDS[1:]:
        done = call(*words(command, kind), "--cache", "5", cwd=folder)
        assert done.returncode in (1, 2)
        assert done.stdout == b""
        said = done.stderr.decode()
        assert "--cache is for models that write" in said or kinds.NAMES[kind] in said


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("answer", ["error", "skip"])
def test_eval_obeys_on_unknown_or_refuses_it_by_name(kind: Kind, answer: str, folder: Path) -> None:
    (folder / "new.tsv").write_text("a\tbxa\nb\taxb\n", encoding="utf-8")
    done = call("eval", f"{kind}.safetensors", "new.tsv", "--on-unknown", answer, cwd=folder)
    said = done.stderr.decode()
    if kind in ("restorer", "tagger", "rewriter"):
        assert (done.returncode, done.stdout) == (2, b"")
        assert f"--on-unknown means nothing to {kinds.NAMES[kind]}" in said
    elif kind in ("writer", "filler") and answer == "error":
        assert done.returncode == 1
        assert "'x'" in said
    else:
        assert done.returncode == 0, said


@pytest.mark.parametrize("kind", [kind for kind in KINDS if TABLE["train --init-from"][kind]])
def test_a_run_begins_from_a_model_of_its_kind_or_from_one_that_writes(kind: Kind, folder: Path) -> None:
    corpus = "pairs.tsv" if kind in ("classifier", "tagger", "rewriter") else "lines.txt"
    if kind == "tagger":
        corpus = "tags.tsv"
        (folder / corpus).write_text("ab\tba\nb\ta\n", encoding="utf-8")
    if kind == "restorer":
        corpus = "upper.txt"
        (folder / corpus).write_text("Ab aB\nBa\n", encoding="utf-8")
    task = [] if kind == "writer" else ["--task", COMMAND_OF[kind]]
    strip = ["--strip", "case"] if kind == "restorer" else []
    for initial in dict.fromkeys((kind, "writer")):
        begun = [
            "--init-from",
            f"{initial}.safetensors",
            "--steps",
            "1",
            "-o",
            "begun.safetensors",
            "--force",
        ]
        done = call("train", corpus, "--lines", *task, *strip, *begun, cwd=folder)
        assert done.returncode == 0, done.stderr.decode()
        assert model_file.load(folder / "begun.safetensors").config.kind == kind
