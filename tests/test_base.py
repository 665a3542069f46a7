"""Starting from the base model: where it helps, where it does not, and what is said."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.calls import call

from charrnn import api
from charrnn.checkpoint.library import bundled
from charrnn.checkpoint.model_file import Checkpoint, save
from charrnn.config import TextConfig, TrainConfig
from charrnn.events import Evaluated, Started, Step
from charrnn.nn.workers import Workers
from charrnn.tasks import base
from charrnn.tasks.next_character import TextFiles, Texts
from charrnn.training.run_setup import _shape

WORDS = ["the", "old", "man", "went", "down", "to", "sea", "and", "a", "boy", "came", "with", "every", "day"]
LETTERS = "abcdefghijklmnopqrstuvwxyz \n"
SHAPE = {"hidden_size": 16, "num_layers": 2, "embedding_size": 16}


def prose(length: int, seed: int, words: list[str] = WORDS) -> str:
    random = np.random.default_rng(seed)
    chosen = (words[i] for i in random.integers(0, len(words), length))
    text = "".join(word + ("\n" if random.random() < 0.1 else " ") for word in chosen)
    return text[:length]


@pytest.fixture(scope="module")
def known(tmp_path_factory) -> Checkpoint:
    """A base model: it knows the words of `prose`."""
    folder = tmp_path_factory.mktemp("base")
    (folder / "text").write_text(prose(20_000, 1) + LETTERS)
    settings = {**SHAPE, "steps": 250, "counts": 0, "dropout": 0.0, "learning_rate": 0.02, "batch_size": 8}
    list(api.train(folder / "text", out=folder / "m.safetensors", threads=1, **settings))
    return api.load(folder / "m.safetensors")


@pytest.fixture(autouse=True)
def it_is_the_base(known, monkeypatch):
    monkeypatch.setattr(base, "model", lambda: known)


def compared(known: Checkpoint, tmp_path: Path, text: str, **reading: Any) -> base.Comparison | None:
    (tmp_path / "corpus").write_text(text, encoding="utf-8")
    corpus = TextFiles([tmp_path / "corpus"]).read(TextConfig(**reading)).corpus
    train = TrainConfig(steps=1, val_fraction=0.1, val_split="end")
    part = base.excerpt(corpus.documents, train, corpus.vocabulary.find("\n"))
    texts = Texts(replace(corpus, documents=part)).beside(known)
    return base.compared(known, texts.corpus, texts.network(_shape(known)), 1, Workers(1))


def begun(tmp_path: Path, text: str, out: str = "m", **settings: Any) -> tuple[Started, Evaluated, bytes]:
    """A run of a step: how it is planned, its loss, and its file."""
    (tmp_path / "corpus").write_text(text, encoding="utf-8")
    path = tmp_path / f"{out}.safetensors"
    settings = {"steps": 1, "learning_rate": 1e-9, "counts": 0, "threads": 1, "force": True, **settings}
    events = list(api.train(tmp_path / "corpus", out=path, **settings))
    (started,) = (event for event in events if isinstance(event, Started))
    loss = next(event for event in events if isinstance(event, Evaluated))
    return started, loss, path.read_bytes()


def test_a_text_in_its_language_is_learned_from_it_and_the_plan_says_so(known, tmp_path):
    started, evaluated, _ = begun(tmp_path, prose(3000, 2))
    assert "from the base model of English" in started.planned
    assert (started.model.hidden_size, started.model.num_layers) == (16, 2)
    assert evaluated.val_loss < known.best_val_loss + 0.2
    _, other, _ = begun(tmp_path, prose(3000, 2), from_scratch=True)
    assert other.val_loss > 3.0


def test_from_scratch_it_has_no_part_in_the_bytes(known, tmp_path, monkeypatch):
    *_, file = begun(tmp_path, prose(3000, 2), from_scratch=True, hidden_size=16)
    monkeypatch.setattr(base, "model", lambda: None)
    *_, without = begun(tmp_path, prose(3000, 2), "n", hidden_size=16)
    assert file == without


@pytest.mark.parametrize(
    "words", [["zyx", "wvu", "qqj", "xkx"], ["été", "où", "ça", "né"]], ids=["words", "letters"]
)
def test_a_text_in_another_language_is_not(words, known, tmp_path):
    text = prose(3000, 2, words)
    found = compared(known, tmp_path, text)
    assert found is None or not found.helps
    assert "base model" not in begun(tmp_path, text)[0].planned


def test_another_network_starts_from_scratch_and_that_is_said(tmp_path):
    for settings, option in (({"hidden_size": 8}, "--hidden-size"), ({"cell": "gru"}, "--cell")):
        started, evaluated, _ = begun(tmp_path, prose(3000, 2), **settings)
        assert f"from scratch, as {option} is given" in started.planned
        assert evaluated.val_loss > 2.5


def test_held_out_text_has_no_part_in_the_choice(known, tmp_path):
    text = prose(6000, 3)
    one, other = (
        compared(known, tmp_path, text[:5400] + held) for held in (text[5400:], text[:4799:-1][:600])
    )
    assert one == other is not None


def test_it_serves_records_and_what_the_base_lacks_is_learned_anew(known, tmp_path):
    text = prose(4000, 4).replace(" ", " ", 1) + "Q\n"
    found = compared(known, tmp_path, text, split="line")
    assert found is not None
    assert found.base < 3.0
    (tmp_path / "corpus").write_text(text)
    for _ in api.train(
        tmp_path / "corpus", out=tmp_path / "r.safetensors", steps=1, text=TextConfig(split="line"), threads=1
    ):
        pass
    assert "Q" in api.load(tmp_path / "r.safetensors").characters


def test_a_short_text_is_not_compared(known, tmp_path):
    assert compared(known, tmp_path, prose(900, 1)) is None


def test_the_same_command_gives_the_same_bytes_and_an_interrupted_run_goes_on(tmp_path, monkeypatch):
    text, whole = prose(3000, 2), {"steps": 6, "learning_rate": 0.002}
    *_, one = begun(tmp_path, text, **whole)
    *_, same = begun(tmp_path, text, "n", **whole)
    assert one == same
    monkeypatch.setattr("charrnn.training.run.REPORT_SECONDS", 0.0)
    seen: list[Step] = []
    settings = {**whole, "counts": 0, "threads": 1, "stop": lambda: "enough" if len(seen) == 3 else None}
    for event in api.train(tmp_path / "corpus", out=tmp_path / "k.safetensors", **settings):
        seen += [event] if isinstance(event, Step) else []
    assert seen[-1].step == 3
    list(api.train(tmp_path / "corpus", out=tmp_path / "k.safetensors", threads=1, resume=True))
    assert (tmp_path / "k.safetensors").read_bytes() == one


def test_from_scratch_contradicts_another_start(known, tmp_path):
    save(known, tmp_path / "m.safetensors")
    (tmp_path / "text").write_text(prose(3000, 2))
    done = call("train", tmp_path / "text", "--from-scratch", "--init-from", tmp_path / "m.safetensors")
    assert done.returncode == 2
    assert b"--from-scratch and --init-from contradict each other" in done.stderr


def test_the_base_that_comes_with_the_program_writes_english():
    path = bundled(base.NAME)
    assert path is not None
    assert path.stat().st_size < 6_000_000
    model = api.load(path)
    assert model.novelty is None
    assert model.counts is None
    assert api.score(model, "It was the best of times, it was the worst of times.\n").mean() < 1.75  # nats


def test_the_command_says_where_it_starts(tmp_path):
    (tmp_path / "text").write_text(prose(3000, 2))
    done = call("train", tmp_path / "text", "-o", tmp_path / "m.safetensors", "--steps", 1)
    assert b"from the base model of English, whose loss begins at" in done.stderr
