"""Training with counts beside the network: what is set aside for the gate, runs, files, and commands."""

from __future__ import annotations

import functools
import itertools
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import counted, documents, model_files, refusals, toy_models
from support.calls import call

from charrnn import api
from charrnn.checkpoint import model_file
from charrnn.checkpoint.model_file import Checkpoint
from charrnn.config import DynamicConfig, ModelConfig, TextConfig, TrainConfig
from charrnn.errors import CompressionError
from charrnn.events import Evaluated, Finished, Step
from charrnn.tasks import counting, evaluation
from charrnn.tasks.counting import set_aside
from charrnn.tasks.next_character import NextCharacters, Texts
from charrnn.text.documents import Documents
from charrnn.text.reading import read
from charrnn.text.validation import split

SMALL = {"hidden_size": 4, "num_layers": 1, "batch_size": 4, "seq_len": 16, "dropout": 0.0, "counts": 0.2}


@pytest.fixture(autouse=True)
def short_texts_set_some_aside(monkeypatch):
    monkeypatch.setattr(counting, "LEAST", 500)
    monkeypatch.setattr("charrnn.training.run.REPORT_SECONDS", 0.0)


def text(length: int = 4000, seed: int = 0) -> str:
    """Lines of words that recur."""
    random = np.random.default_rng(seed)
    words = ["".join(random.choice([*"abcdefgh"], random.integers(2, 7))) for _ in range(40)]
    chosen = (words[i] for i in random.geometric(0.1, length) % 40)
    lines = (" ".join(itertools.islice(chosen, int(random.integers(2, 8)))) + "\n" for _ in range(length))
    return "".join(lines)[:length].rpartition("\n")[0] + "\n"


def places_of(part: Documents) -> set[int]:
    """Where its characters stand in the whole text."""
    return set(part._places(np.arange(len(part))).tolist())


# --- what is set aside -------------------------------------------------------------------------------


@pytest.mark.parametrize("val_split", ["scattered", "end"])
@pytest.mark.parametrize("lines", [False, True])
def test_what_is_set_aside_is_neither_learned_nor_validated(lines, val_split):
    corpus = documents.read_text(text(), TextConfig(lines=lines))
    whole, newline = corpus.documents, corpus.vocabulary.find("\n")
    own, held = split(whole, TrainConfig(steps=1, val_split=val_split), newline)
    rest, aside = set_aside(own, 1, newline)
    begin = len(whole) - len(held) if held.pieces is None else 0  # such a part has an array of its own
    parts = [places_of(rest), places_of(aside), {begin + place for place in places_of(held)}]
    assert all(a.isdisjoint(b) for a, b in itertools.combinations(parts, 2))
    assert set.union(*parts) == set(range(len(whole)))
    assert 0.01 * len(own) < len(aside) < 0.06 * len(own)
    if lines:
        ends = aside.ids[aside._places(np.arange(len(aside)))] == aside.end
        assert ends[-1]
        first = aside._places(aside.pieces.first) if aside.pieces else np.zeros(0, int)
        assert all(place == 0 or whole.ids[place - 1] == whole.end for place in first.tolist())


def test_it_is_scattered_by_the_seed_and_short_texts_set_nothing_aside():
    corpus = documents.read_text(text())
    one, same, other = (places_of(set_aside(corpus.documents, seed, 0)[1]) for seed in (1, 1, 2))
    assert one == same != other
    assert max(one) - min(one) > 2000
    rest, aside = set_aside(corpus.documents.head(499), 1, 0)
    assert (len(rest), len(aside)) == (499, 0)


@pytest.mark.parametrize("settings", [{}, {"shares": (3.0, 1.0)}])
def test_the_network_reads_none_of_what_is_set_aside_and_counts_take_it_in(settings, tmp_path, monkeypatch):
    (tmp_path / "a").write_text(text())
    (tmp_path / "b").write_text(text(2000, seed=1))
    corpus = read([tmp_path / "a", tmp_path / "b"])
    train = TrainConfig(steps=1, val_split="end", batch_size=2, seq_len=8, counts=0.2, **settings)
    task = NextCharacters(Texts(corpus, names=("a", "b")), train)
    aside = places_of(task._aside)
    read_by_network = {place for epoch in range(2) for place in places_of(task._batches.text.in_epoch(epoch))}
    assert aside
    assert aside.isdisjoint(read_by_network)
    read_by_counts: set[int] = set()
    grams_of = counting.Grams.of

    def noted(part: Documents, *how: Any) -> Any:
        read_by_counts.update(places_of(part))
        return grams_of(part, *how)

    monkeypatch.setattr(counting.Grams, "of", noted)
    for _ in task.describe(Checkpoint(ModelConfig(2), corpus.vocabulary, corpus.text, {})):
        pass
    assert read_by_counts == read_by_network | aside


def test_validation_text_changes_neither_counts_nor_gate(tmp_path):
    whole = text()
    end = len(whole) - round(0.1 * len(whole))
    found = []
    for name, tail in (("a", whole[end:]), ("b", whole[end:][::-1])):
        (tmp_path / name).write_text(whole[:end] + tail)
        out = tmp_path / f"{name}.safetensors"
        list(api.train(tmp_path / name, out=out, val_split="end", steps=3, evaluations=1, **SMALL))
        found.append(api.load(out))
    one, other = found
    assert one.counts is not None
    assert other.counts is not None
    assert one.best_val_loss != other.best_val_loss
    for name, tensor in one.counts.tensors().items():
        np.testing.assert_array_equal(tensor, other.counts.tensors()[name])


# --- runs --------------------------------------------------------------------------------------------


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text(text())
    return path


def run(corpus: Path, out: Path, **settings: Any) -> list[Any]:
    return list(api.train(corpus, out=out, **{**SMALL, "steps": 12, "evaluations": 3, **settings}))


def test_the_loss_that_is_told_is_that_of_the_model_in_the_file(corpus, tmp_path):
    out = tmp_path / "m.safetensors"
    events = run(corpus, out, val_split="end")
    model, whole = api.load(out), corpus.read_text()
    (tmp_path / "val").write_text(whole[len(whole) - round(0.1 * len(whole)) :])
    assert model.counts is not None
    assert events[-1].best_val_loss == model.best_val_loss
    found = api.evaluate(out, tmp_path / "val")
    assert found.loss == pytest.approx(model.best_val_loss, abs=1e-6)
    alone = api.evaluate(replace(model, counts=None), tmp_path / "val")
    assert model.best_val_loss < alone.loss - 0.1
    best = [event for event in events if isinstance(event, Evaluated) and event.best][-1]
    assert found.network_loss == best.network_loss == pytest.approx(alone.loss, abs=1e-6)
    assert alone.network_loss is None
    lines = call("eval", out, tmp_path / "val").stdout.decode().splitlines()
    assert lines[1] == f"network alone {alone.loss:.4f} nats/char, {alone.bpc:.4f} bits/char"


def test_any_number_of_threads_gives_the_same_bytes(corpus, tmp_path):
    contents = []
    for threads in (1, 2, 3):
        run(corpus, tmp_path / "m.safetensors", threads=threads, force=True)
        contents.append((tmp_path / "m.safetensors").read_bytes())
    assert len(set(contents)) == 1


def test_a_resumed_run_is_the_run_itself(corpus, tmp_path):
    whole, cut = tmp_path / "whole.safetensors", tmp_path / "cut.safetensors"
    run(corpus, whole)
    asked: list[bool] = []
    for event in api.train(
        corpus, out=cut, stop=lambda: "SIGINT" if asked else None, steps=12, evaluations=3, **SMALL
    ):
        if isinstance(event, Step) and event.step == 5:
            asked.append(True)
    assert isinstance(event, Finished)
    assert event.reason == "interrupted"
    list(api.train(corpus, out=cut, resume=True))
    assert cut.read_bytes() == whole.read_bytes()


@pytest.mark.parametrize(("again", "most"), [(0, 0.2), (40, 0.7)])
def test_where_a_text_repeats_itself_the_gate_may_leave_more_to_counts(again, most, tmp_path, monkeypatch):
    monkeypatch.setattr(counting, "SHARE", 0.1)
    random = np.random.default_rng(3)
    passage = "".join(random.choice([*"abcdefgh "], 60)) + "\n"
    lines = "".join("".join(random.choice([*"abcdefgh "], 50)) + "\n" for _ in range(80))
    (tmp_path / "text").write_text(lines + passage * again)
    list(api.train(tmp_path / "text", out=tmp_path / "m.safetensors", steps=3, evaluations=1, **SMALL))
    model = api.load(tmp_path / "m.safetensors")
    assert model.counts is not None
    assert model.counts.gate.long_most == pytest.approx(most)
    with model_file.container.opened(tmp_path / "m.safetensors") as file:
        assert file.record["format_version"] == (6 if again else 5)


def test_without_counts_the_file_is_as_before(corpus, tmp_path):
    out = tmp_path / "m.safetensors"
    run(corpus, out, counts=0)
    content = out.read_bytes()
    assert b"counts" not in content
    assert b"gate." not in content
    run(corpus, out, counts=None, force=True)
    assert api.load(out).counts is not None  # as suits the text


def test_where_nothing_is_held_out_the_loss_is_that_of_the_network(corpus, tmp_path):
    out = tmp_path / "m.safetensors"
    events = run(corpus, out, val_fraction=0.0)
    told = [event.val_loss for event in events if isinstance(event, Evaluated)][-1]
    model = api.load(out)
    assert model.counts is not None
    assert api.evaluate(model, corpus).loss < told - 0.1


def test_a_run_that_starts_from_a_model_has_counts_of_its_own_text(corpus, tmp_path):
    first, second = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    run(corpus, first)
    (tmp_path / "new.txt").write_text(text(3000, seed=5))
    list(api.train(tmp_path / "new.txt", out=second, init_from=first, steps=3, counts=0.2))
    model = api.load(second)
    assert model.counts is not None
    assert model.counts.counts.vocab_size == len(model.vocabulary)


# --- files -------------------------------------------------------------------------------------------


def test_a_model_comes_back_with_its_counts(tmp_path):
    model = counted.beside(model_files.checkpoint())
    assert model.counts is not None
    model_file.save(model, tmp_path / "m.safetensors")
    back = model_file.load(tmp_path / "m.safetensors")
    assert back.counts is not None
    assert back.tensors.keys() == model.tensors.keys()
    for name, tensor in model.counts.tensors().items():
        np.testing.assert_array_equal(back.counts.tensors()[name], tensor)
    content = (tmp_path / "m.safetensors").read_bytes()
    model_file.save(back, tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == content


def _without(name: str) -> Any:
    return lambda tensors: tensors.pop(name)


def _changed(name: str, value: float) -> Any:
    def change(tensors: dict[str, Any]) -> None:
        tensors[name] = tensors[name].copy()
        tensors[name].flat[-1] = value

    return change


HOSTILE = {
    "no gate": (_without("gate.output.bias"), "gate.output.bias is missing"),
    "no counts": (_without("counts.codes"), "lack 'counts.codes'"),
    "a gate of NaN": (_changed("gate.hidden.weight", math.nan), "gate.hidden.weight holds NaN"),
    "an id that is none": (_changed("counts.following", 200), "following has a 200"),
    "a foreign tensor": (lambda t: t.update({"gate.more": np.zeros(1, np.float32)}), "no such tensor"),
    "nodes without end": (_changed("counts.children", 250), "do not make a tree"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_counts_in_a_file_are_refused_by_name(name, tmp_path):
    change, reason = HOSTILE[name]
    model = counted.beside(model_files.checkpoint())
    assert model.counts is not None
    model_file.save(model, tmp_path / "m.safetensors")
    with model_file.container.opened(tmp_path / "m.safetensors") as file:
        record, tensors = file.record, file.tensors()
    change(tensors)
    model_file.container.write(tmp_path / "m.safetensors", tensors, record)
    error = refusals.refusal(model_file.load, tmp_path, (tmp_path / "m.safetensors").read_bytes())
    assert reason in error.message


def test_counts_in_a_file_of_an_earlier_version_are_refused(tmp_path):
    model = counted.beside(model_files.checkpoint())
    model_file.save(model, tmp_path / "m.safetensors")
    content = model_files.with_record(
        (tmp_path / "m.safetensors").read_bytes(), lambda record: record.update(format_version=4)
    )
    assert "its format has no counts" in refusals.refusal(model_file.load, tmp_path, content).message


# --- commands ----------------------------------------------------------------------------------------


@functools.cache
def toy() -> Checkpoint:
    return counted.beside(toy_models.toy(), order=4)


def test_enumeration_is_exact():
    lines = [line for line in toy_models.texts("ab", 7) if line]
    best = sorted(((counted.log_probability(toy(), line + "\n"), line) for line in lines), reverse=True)[:12]
    found = list(api.enumerate_lines(toy(), count=12, length=7))
    assert [line.text.rstrip("\n") for line in found] == [line for _, line in best]
    np.testing.assert_allclose([line.log_probability for line in found], [p for p, _ in best], atol=1e-5)


def test_lines_are_scored_by_the_probability_with_which_they_are_written(tmp_path):
    (tmp_path / "lines").write_text("abba\nb\nabab\n")
    for score in itertools.chain.from_iterable(api.score_lines(toy(), tmp_path / "lines")):
        bits = -counted.log_probability(toy(), score.text + "\n") / math.log(2)
        assert score.bits == pytest.approx(bits, abs=1e-4)


def test_compression_is_undone_and_knows_the_counts():
    data = b"abba\nab\n" * 30
    packed = b"".join(api.compress(toy(), [data]))
    assert b"".join(api.decompress(toy(), [packed])) == data
    for model in (replace(toy(), counts=None), counted.beside(toy_models.toy(), order=4, seed=1)):
        with pytest.raises(CompressionError, match="another model"):
            list(api.decompress(model, [packed]))


def test_texts_are_told_apart_by_the_counts_of_models(tmp_path):
    (tmp_path / "lines").write_text("ab\nba\n")
    models = [counted.beside(toy_models.toy(), order=4, seed=seed) for seed in (0, 1)]
    (rows,) = api.classify(models, [tmp_path / "lines"])
    for row in rows:
        bits = [next(iter(api.score_lines(model, [tmp_path / "lines"]))) for model in models]
        assert row.bits[0] != row.bits[1]
        assert row.bits[0] == pytest.approx(bits[0][row.number - 1].bits, abs=1e-5)


def test_an_adapting_network_keeps_its_counts(tmp_path):
    (tmp_path / "t").write_text("abba\nab\n" * 40)
    found = api.evaluate(toy(), tmp_path / "t", dynamic=DynamicConfig(rate=0.0, decay=0.0))
    assert found.dynamic_loss == pytest.approx(found.loss, abs=1e-5)
    adapting = api.evaluate(toy(), tmp_path / "t", dynamic=DynamicConfig(rate=0.01))
    assert adapting.dynamic_loss < found.loss


def test_a_text_read_in_streams_is_measured_by_counts_that_know_what_came_before(tmp_path, monkeypatch):
    whole = "".join(np.random.default_rng(3).choice([*"ab"], 500).tolist())
    (tmp_path / "t").write_text(whole)
    loss = api.evaluate(toy(), tmp_path / "t").loss
    monkeypatch.setattr(evaluation, "PART", 60)
    monkeypatch.setattr(evaluation, "WARM_UP", 30)
    found = api.evaluate(toy(), tmp_path / "t").loss
    assert found != loss
    assert found == pytest.approx(loss, abs=1e-5)
    monkeypatch.setattr(evaluation, "WARM_UP", 1)
    assert api.evaluate(toy(), tmp_path / "t").loss != pytest.approx(loss, abs=1e-4)


def test_info_says_that_counts_hold_pieces_of_the_text(tmp_path):
    model_file.save(toy(), tmp_path / "m.safetensors")
    said = call("info", tmp_path / "m.safetensors").stdout.decode()
    assert "up to 4 characters in a row: they hold pieces of the training text" in said
