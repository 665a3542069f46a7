"""The examples that the help of each command ends with: each is typed, and works."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.calls import call
from support.environment import ROOT
from support.random_models import LINES, make

from charrnn import api
from charrnn.checkpoint import model_file
from charrnn.checkpoint.model_file import Checkpoint
from charrnn.cli.commands import COMMANDS
from charrnn.cli.examples import GUIDES
from charrnn.config import ModelConfig, TextConfig
from charrnn.labels import Column
from charrnn.vocabulary import Vocabulary

CHARACTERS = "\n " + "abcdefghijklmnopqrstuvwxyzOTP"
SMALL = ["--steps", "2", "--hidden-size", "4", "--num-layers", "1", "--seed", "1", "-q"]
# What an example needs to end, or to end soon.
MORE = {"charrnn train": SMALL, "charrnn serve": ["--print-llm-config"]}


def reader(kind: str, labels: tuple[str, ...], **text: object) -> Checkpoint:
    sizes = {"hidden_size": 3, "num_layers": 1, "embedding_size": 2}
    config = ModelConfig(len(CHARACTERS), kind=kind, targets=(len(labels),), **sizes)  # type: ignore[arg-type]
    rng = np.random.default_rng(1)
    tensors = {n: rng.normal(0, 0.3, s).astype(np.float32) for n, s in config.parameter_shapes().items()}
    columns = (Column("", labels, (1,) * len(labels)),)
    return Checkpoint(
        config, Vocabulary("".join(sorted(CHARACTERS))), TextConfig(**text), tensors, columns=columns
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Whatever the examples name; models lie where they are found by their names."""
    path = tmp_path_factory.mktemp("examples")
    labelled = make(characters=CHARACTERS, text=LINES, labels=(2,))
    models = {
        "tales": make(characters=CHARACTERS),
        "names": make(characters=CHARACTERS, text=LINES, seed=1),
        "origins": replace(labelled, columns=(Column("", ("Greek", "Roman"), (1, 1)),)),
        "surnames": reader("classifier", ("a", "b", "c", "d"), lines=True, label_by="column"),
        "cs": reader("restorer", ("=", "^"), strip=("case",)),
        "cuts": reader("tagger", ("a", "b"), lines=True, targets="tags"),
        "say": reader("rewriter", ("a", "b"), lines=True, targets="characters"),
    }
    models["tales"].history.append({"step": 1, "epoch": 1.0, "train_loss": 2.0, "val_loss": 2.1})
    (path / "models").mkdir()
    for name, model in models.items():
        model_file.save(model, path / "models" / f"{name}.safetensors")
    for name in ("corpus.txt", "other.txt", "names.txt", "plain.txt", "texts.txt", "words.txt"):
        (path / name).write_text("once upon a time there was a king\nand a queen\n" * 8, encoding="utf-8")
    step = {"event": "step", "step": 1, "grad_norm": 0.5}
    (path / "run.jsonl").write_text(json.dumps(step) + "\n", encoding="utf-8")
    return path


def test_every_command_has_examples_and_a_page() -> None:
    groups = {name: place for name, (place, _) in COMMANDS.items() if isinstance(place, dict)}
    named = [name for name in COMMANDS if name not in groups]
    named += [f"{group} {name}" for group, place in groups.items() for name in place]
    assert set(GUIDES) == set(named)
    for name, guide in GUIDES.items():
        assert (Path(ROOT) / "docs" / guide.page).exists()
        assert all(
            example.startswith(f"charrnn {name} ") or example == f"charrnn {name}"
            for example in guide.examples
        )
        assert all(len(example) <= 78 for example in guide.examples)
        shown = call(*name.split(), "--help").stdout.decode()
        assert shown.endswith(
            "\n".join(f"  {example}" for example in guide.examples) + f"\n\nMore: docs/{guide.page}\n"
        )


@pytest.mark.parametrize("name", GUIDES)
def test_the_examples_of_a_command_work(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if name == "export onnx":
        pytest.importorskip("onnx", reason="ONNX is not installed: pip install onnx")
    monkeypatch.setenv("CHARRNN_MODELS", str(folder / "models"))
    if name == "decompress":
        for example in GUIDES["compress"].examples:
            assert call(*shlex.split(example)[1:], cwd=folder).returncode == 0
    where = folder / "trained" if name == "train" else folder
    if name == "train":
        where.mkdir()
        for path in folder.glob("*.txt"):
            (where / path.name).write_bytes(path.read_bytes())
    for example in GUIDES[name].examples:
        words = shlex.split(example)[1:]
        if name == "train" and "--minutes" in words:
            words = [*words[: words.index("--minutes")], "--force"]
        more = MORE.get(f"charrnn {name}", [])
        done = call(*words, *(word for word in more if word not in words), cwd=where)
        assert done.returncode == 0, done.stderr.decode()
        assert done.stdout or {"-o", "--html", "--plot"} & {*words} or name == "train"


def test_a_models_name_in_an_example_is_found(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHARRNN_MODELS", str(folder / "models"))
    assert api.load("tales").config.vocab_size == len(CHARACTERS)
