"""Kinds of models: the table in docs/models.md says which command takes which, and the others refuse it."""

from __future__ import annotations

import re
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


def table(columns: tuple[str, ...]) -> dict[str, dict[str, str]]:
    """A table in docs/models.md, found by how many columns it has: by command and column, what it does."""
    lines = Path(ROOT, "docs/models.md").read_text("utf-8").splitlines()
    rows = [line.strip("|").split("|") for line in lines if line.startswith("| `")]
    names = [row for row in rows if len(row) == 1 + len(columns)]
    cells = [[cell.strip().strip("`") for cell in row] for row in names]
    return {name: dict(zip(columns, said, strict=True)) for name, *said in cells}


# Networks that write and are no stack of layers alone, and the word by which each is refused.
NETWORKS: dict[str, dict[str, Any]] = {
    "span": {"span": 4},
    "esn": {"cell": "esn"},
    "ntm": {"cell": "ntm", "memory_rows": 3, "memory_width": 2},
}
REFUSED = {"span": "attention|Retrospection", "esn": "(?i)reservoir|esn", "ntm": "memory|Memory|ntm"}
TABLE, OTHERS = table(KINDS), table(tuple(NETWORKS))


def model(kind: Kind, **network: Any) -> Checkpoint:
    own = kind not in ("writer", "filler")
    config = ModelConfig(
        len(CHARACTERS), hidden_size=3, num_layers=1, embedding_size=2, kind=kind,
        targets=(len(LABELS),) if own else (), **network,
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
    for name, network in NETWORKS.items():
        model_file.save(model("writer", **network), path / f"{name}.safetensors")
    model_file.save(model("rewriter", **NETWORKS["ntm"]), path / "ntm-rewriter.safetensors")
    (path / "lines.txt").write_text("ab\nba\n", encoding="utf-8")
    (path / "pairs.tsv").write_text("a\tba\nb\tab\n", encoding="utf-8")
    return path


def words(command: str, kind: str) -> list[str]:
    name, file = command.split(), f"{kind}.safetensors"
    if command in UNNAMED:
        return [*name, file, *WORDS.get(command, [])]
    if command == "train --init-from":
        begun = ["--init-from", file, "--steps", "1", "-o", "begun.safetensors", "--force"]
        return ["train", "lines.txt", "--lines", *begun]
    if command == "classify" and (kind == "writer" or kind in NETWORKS):
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


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize(
    "command", [name for name in TABLE | OTHERS if TABLE.get(name, {"writer": 1})["writer"]]
)
def test_a_network_that_is_no_stack_of_layers_is_taken_or_refused_by_name_as_the_table_says(
    command: str, network: str, folder: Path
) -> None:
    if command == "export onnx":
        pytest.importorskip("onnx", reason="ONNX is not installed: pip install onnx")
    takes = OTHERS[command][network] if command in OTHERS else TABLE[command]["writer"]
    if command == "rewrite --align":
        file = "ntm-rewriter" if network == "ntm" else network
        done = call("rewrite", "-m", f"{file}.safetensors", "lines.txt", "--align", cwd=folder)
    elif command == "sample --fix":
        done = call(*words("sample", network), "--fix", "1:1=0.5", cwd=folder)
    else:
        done = call(*words(command, network), cwd=folder)
    said = done.stderr.decode()
    if takes:
        assert done.returncode == 0, said
        return
    assert (done.returncode in (1, 2), done.stdout) == (True, b"")
    named = "models? that write" if command == "rewrite --align" and network != "ntm" else REFUSED[network]
    assert re.search(named, said), said


@pytest.mark.parametrize("command", [name for name, kinds in TABLE.items() if kinds["rewriter"]])
def test_a_memory_that_rewrites_does_what_rewriters_do(command: str, folder: Path) -> None:
    given = ["--task", "rewrite"] if command == "train --init-from" else []
    said = [w.replace("lines.txt", "pairs.tsv") if given else w for w in words(command, "ntm-rewriter")]
    done = call(*said, *given, cwd=folder)
    assert done.returncode == 0, done.stderr.decode()


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
        _, _, *begun = words("train --init-from", initial)
        done = call("train", corpus, *task, *strip, *begun, cwd=folder)
        assert done.returncode == 0, done.stderr.decode()
        assert model_file.load(folder / "begun.safetensors").config.kind == kind
