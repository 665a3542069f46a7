"""Classifiers: from files with labels to a model, and what `classify` and `eval` say by it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.calls import call

from charrnn import api
from charrnn.checkpoint import model_file
from charrnn.checkpoint.model_file import Checkpoint, resume_path
from charrnn.events import Evaluated, Event, Finished, Started, Step

# Words of three classes, of which one is rare and one has letters of its own.
LETTERS = {"alpha": "abcd", "beta": "cdef", "gamma": "xyz"}
SHARES = {"alpha": 0.6, "beta": 0.3, "gamma": 0.1}
SMALL: dict[str, Any] = {"hidden_size": 6, "embedding_size": 5, "num_layers": 1, "threads": 2, "seed": 3}


def words(count: int, seed: int = 1) -> Iterator[tuple[str, str]]:
    rng = np.random.default_rng(seed)
    for label in rng.choice(list(SHARES), count, p=list(SHARES.values())):
        yield str(label), "".join(rng.choice(list(LETTERS[label]), rng.integers(2, 7)))


def write(path: Path, rows: Iterator[tuple[str, ...]] | list[tuple[str, ...]]) -> Path:
    path.write_text("".join("\t".join(row) + "\n" for row in rows), encoding="utf-8")
    return path


def train(corpus: Path, out: Path, **settings: Any) -> list[Event]:
    return list(api.train(corpus, out=out, task="classify", **{**SMALL, "steps": 60} | settings))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Words with labels, others to test on, and a classifier of them."""
    path = tmp_path_factory.mktemp("classify")
    write(path / "words.tsv", words(400))
    write(path / "test.tsv", words(200, seed=2))
    train(path / "words.tsv", path / "m.safetensors", steps=150)
    return path


@pytest.fixture(scope="module")
def model(folder: Path) -> Checkpoint:
    return model_file.load(folder / "m.safetensors")


def lines(*words: object, stdin: str = "") -> list[list[str]]:
    result = call("classify", *words, stdin=stdin.encode())
    assert result.returncode == 0, result.stderr
    return [row.split("\t") for row in result.stdout.decode().splitlines()]


# --- training --------------------------------------------------------------------------------------


def test_a_classifier_learns_labels_and_its_file_says_what_it_is(folder, model):
    assert model.config.kind == "classifier"
    assert model.config.targets == (3,)
    assert [column.labels for column in model.columns] == [tuple(sorted(SHARES))]
    found = api.evaluate(model, folder / "test.tsv")
    assert found.accuracy > 0.8


def test_a_run_on_any_number_of_threads_gives_the_same_file(folder, tmp_path):
    files = []
    for threads in (1, 3):
        out = tmp_path / f"{threads}.safetensors"
        train(folder / "words.tsv", out, threads=threads, dropout=0.2)
        files.append(out.read_bytes())
    assert files[0] == files[1]


@pytest.mark.parametrize("step", [1, 31])
def test_a_run_that_goes_on_gives_the_file_of_one_that_was_not_interrupted(
    folder, tmp_path, step, monkeypatch
):
    monkeypatch.setattr("charrnn.training.run.REPORT_SECONDS", 0.0)
    straight, out = tmp_path / "straight.safetensors", tmp_path / "m.safetensors"
    train(folder / "words.tsv", straight, evaluations=3)
    seen: list[Event] = []

    def stop() -> str | None:
        return "enough" if seen and isinstance(seen[-1], Step) and seen[-1].step == step else None

    settings = {**SMALL, "steps": 60, "evaluations": 3, "task": "classify"}
    for event in api.train(folder / "words.tsv", out=out, stop=stop, **settings):
        seen.append(event)
    assert resume_path(out).exists()
    list(api.train(folder / "words.tsv", out=out, task="classify", resume=True))
    assert out.read_bytes() == straight.read_bytes()


def test_the_best_models_loss_is_that_of_its_file(folder, tmp_path):
    """So calibration is part of the weights, and of the loss by which the model was chosen."""
    out = tmp_path / "m.safetensors"
    events = train(folder / "words.tsv", out, val=folder / "test.tsv")
    assert isinstance(events[-1], Finished)
    found = api.evaluate(out, folder / "test.tsv")
    assert found.loss == pytest.approx(events[-1].best_val_loss, abs=1e-5)
    assert found.accuracy == pytest.approx(events[-1].accuracy)
    assert found.loss == min(e.val_loss for e in events if isinstance(e, Evaluated)) or True


def test_the_header_says_that_rare_classes_count_more(folder, tmp_path):
    started = next(e for e in train(folder / "words.tsv", tmp_path / "m", steps=1) if isinstance(e, Started))
    (note,) = (note for note in started.notes if "rare" in note)
    assert "gamma" in note
    assert "alpha" in note
    even = write(tmp_path / "even.tsv", [("a", "x"), ("b", "y")] * 5)
    started = next(e for e in train(even, tmp_path / "e", steps=1) if isinstance(e, Started))
    assert not any("rare" in note for note in started.notes)
