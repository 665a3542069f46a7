"""Counted grams beside a classifier: what they are, how they are weighed, and when they answer alone."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import naive
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from support.calls import call

from charrnn import api
from charrnn.checkpoint import model_file
from charrnn.checkpoint.model_file import Checkpoint
from charrnn.config import TextConfig, TrainConfig
from charrnn.counts.learning import class_grams as learning
from charrnn.counts.learning.class_grams import Counted, learned, ratios
from charrnn.errors import CheckpointError
from charrnn.events import Evaluated, Started
from charrnn.kernels.loops.beside.class_grams import Texts
from charrnn.nn.reader import log_softmax
from charrnn.tasks.reading.calibration import FEWEST, LEAST, fit, surest
from charrnn.tasks.reading.classify import Classifier, LabelledFiles

V, N = 6, 3
SMALL: dict[str, Any] = {"hidden_size": 6, "embedding_size": 5, "num_layers": 1, "threads": 2, "seed": 3}


def some_texts(count: int, seed: int = 1) -> tuple[list[np.ndarray[Any, Any]], np.ndarray[Any, Any]]:
    """Texts of random ids, one of them empty, and their classes; the last class has none."""
    rng = np.random.default_rng(seed)
    texts = [rng.integers(0, V, n).astype(np.uint8) for n in [0, 1, *rng.integers(1, 9, count - 2)]]
    return texts, rng.integers(0, N - 1, count)


def side_by_side(texts: list[np.ndarray[Any, Any]]) -> Texts:
    ends = np.cumsum([len(text) for text in texts])
    return Texts(np.concatenate(texts), ends - [len(text) for text in texts], ends, V)


def counted(most_bytes: int = 10**6) -> Counted:
    texts, classes = some_texts(40)
    made = learned(side_by_side(texts), np.eye(N, dtype=np.float32)[classes], (N,), most_bytes)
    try:
        while True:
            next(made)
    except StopIteration as end:
        found: Counted = end.value
    return found


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier of words by their letters."""
    folder, rng = tmp_path_factory.mktemp("grams"), np.random.default_rng(5)
    letters = {"left": "abcd", "right": "cdef", "other": "xyz"}
    rows = [(label, "".join(rng.choice(list(letters[label]), 5))) for label in list(letters) * 100]
    (folder / "words.tsv").write_text("".join(f"{label}\t{text}\n" for label, text in rows))
    list(api.train(folder / "words.tsv", out=folder / "m.safetensors", task="classify", steps=40, **SMALL))
    return folder / "m.safetensors"


# --- counting --------------------------------------------------------------------------------------


def test_weights_are_those_of_the_naive_reference():
    texts, classes = some_texts(40)
    pairs = list(zip(texts, classes, strict=True))
    begun, expected = (f(pairs, N, V) for f in (naive.class_gram_weights, naive.regressed_grams))
    found = counted()
    assert found.grams.numbers.tolist() == sorted(expected)
    logs = ratios(found.counts, *(a.astype(np.float64) for a in (found.totals, found.shares)), (N,))
    for number, own, codes in zip(found.grams.numbers.tolist(), logs, found.grams.weights, strict=True):
        np.testing.assert_allclose(own, begun[number], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose((codes - 128.0) / 10, expected[number], atol=0.0501)
    assert not logs[:, N - 1].any()  # of a class without texts nothing is counted
    moved = [expected[number] - begun[number] / 2 for number in expected]
    assert np.abs(moved).max() > 0.2


def test_a_regression_reads_so_many_texts_that_it_takes_seconds(monkeypatch):
    read = []
    monkeypatch.setattr(learning, "MOST_REGRESSED", 60)
    monkeypatch.setattr(learning.kernels, "regress", lambda w, q, texts, *more: read.append(texts))
    counted()
    texts, _ = some_texts(40)
    fraction = 60 / sum(map(len, texts))
    assert [len(some.begins) for some in read] == [int(40 * fraction)] * 4
    assert len({tuple(some.begins) for some in read}) == 4


def test_what_grams_tell_is_that_of_the_naive_reference():
    grams, (texts, _) = counted().grams, some_texts(20, seed=2)
    asked = side_by_side(texts)
    found = grams.tell(asked.values, asked.begins, asked.ends)
    for text, told in zip(texts, found, strict=True):
        np.testing.assert_allclose(told, naive.told_by_grams(grams.tensors(), text, V), atol=1e-12)


def test_what_grams_tell_of_a_text_that_they_counted_is_what_the_others_do():
    known, (texts, classes) = counted(), some_texts(40)
    before, pairs = known.counts.copy(), list(zip(texts, classes, strict=True))
    found = known.tell_others(side_by_side(texts), np.eye(N, dtype=np.float32)[classes])
    for r, (text, told) in enumerate(zip(texts, found, strict=True)):
        weights = naive.class_gram_weights(pairs, N, V, without=r)
        own = [weights[number] for number in naive.class_grams(text, V)]
        np.testing.assert_allclose(told, np.sum(own, axis=0) / np.sqrt(len(own)), atol=1e-4)
    np.testing.assert_array_equal(known.counts, before)


def test_the_most_frequent_grams_take_no_more_bytes_than_allowed():
    grams = counted(most_bytes=50 * (4 + N)).grams
    assert len(grams.numbers) == 50
    start, _, end = naive.class_grams([], V)
    assert {start, end} <= set(grams.numbers.tolist())


# --- weighing --------------------------------------------------------------------------------------


def test_the_weight_of_grams_is_found_and_is_never_negative():
    rng = np.random.default_rng(4)
    logits, told = 2 * rng.standard_normal((2, 3000, 4))
    chosen = (np.exp(log_softmax(logits + 0.7 * told)).cumsum(axis=1) > rng.random((3000, 1))).argmax(axis=1)
    found = fit(logits, np.eye(4)[chosen], np.ones(4), told)
    assert (found.scale, found.grams) == pytest.approx((1, 0.7), rel=0.1)
    wrong, alone = (fit(logits, np.eye(4)[chosen], np.ones(4), *more) for more in ((-told,), ()))
    assert (wrong.scale, wrong.grams) == (alone.scale, 0)


def test_grams_answer_alone_where_that_loses_nothing():
    n = 3 * FEWEST
    sure, right, loss = np.linspace(0.999, LEAST - 0.1, n), np.ones(n), np.full(n, 0.1)
    mixed = right, loss
    assert surest(sure, mixed, mixed) == sure[sure >= LEAST][-1]
    wrong = np.where(np.arange(n) == FEWEST + 5, 0.0, 1.0)
    assert surest(sure, (wrong, loss), mixed) == sure[FEWEST + 4]  # all that are surer than the wrong one
    assert surest(sure, (right, loss + 1), mixed) == np.inf
    assert surest(sure[:50], (right[:50], loss[:50]), (right[:50], loss[:50])) == np.inf
    assert surest(np.full(n, 0.95), mixed, mixed) == 0.95
    assert surest(np.full(n, 0.95), (wrong, loss), mixed) == np.inf  # all of equal ones, or none


# --- a model ---------------------------------------------------------------------------------------


def test_a_text_is_answered_by_grams_alone_or_beside_the_network_as_it_stands_alone(model):
    loaded = model_file.load(model)
    assert loaded.grams is not None
    texts = ["abcd", "cd", "dc", "xyzzy", "feed", "cddc", "q", "abab"]
    alone = replace(loaded, grams=None)
    ids = [loaded.vocabulary.encode(text, "skip") for text in texts]
    told = np.array([naive.told_by_grams(loaded.grams.tensors(), i, loaded.config.vocab_size) for i in ids])
    own = loaded.grams.alone_scales * told + loaded.grams.alone_bias
    sure = np.exp(log_softmax(own)).max(axis=1)
    threshold = float(np.median(sure))
    cascade = replace(loaded, grams=replace(loaded.grams, sure=np.full(1, threshold, np.float32)))
    network = np.log(Classifier(alone, 1).probabilities(texts))
    expected = np.where((sure >= threshold)[:, None], own, network + loaded.grams.scales * told)
    together = Classifier(cascade, 2).probabilities(texts)
    known = np.array([len(i) > 0 for i in ids])
    np.testing.assert_allclose(together[known], np.exp(log_softmax(expected))[known], atol=1e-5)
    for n, text in enumerate(texts):
        np.testing.assert_array_equal(Classifier(cascade, 1).probabilities([text])[0], together[n])


def test_the_loss_that_a_run_tells_is_that_of_its_file_and_of_the_network_alone(model, tmp_path):
    words = model.parent / "words.tsv"
    events = list(
        api.train(words, out=tmp_path / "m.safetensors", task="classify", val=words, steps=20, **SMALL)
    )
    best = min((e for e in events if isinstance(e, Evaluated)), key=lambda e: e.val_loss)
    assert api.evaluate(tmp_path / "m.safetensors", words).loss == pytest.approx(best.val_loss, abs=1e-5)
    assert best.network_loss is not None
    assert best.network_loss > best.val_loss


def test_the_file_has_the_grams_of_all_texts_those_held_out_among_them_but_not_of_val(tmp_path):
    rows = "".join(f"{'ab'[n % 2]}\t{chr(97 + n % 26)}{chr(97 + n // 26)}\n" for n in range(400))
    (tmp_path / "t.tsv").write_text(rows)
    (tmp_path / "v.tsv").write_text("a\tzzzz\nb\tyyyy\n")
    for val in ((), (tmp_path / "v.tsv",)):
        out = tmp_path / f"{len(val)}.safetensors"
        more = {"val": val} if val else {"val_fraction": 0.5}
        list(api.train(tmp_path / "t.tsv", out=out, task="classify", steps=1, **more, **SMALL))
        found = model_file.load(out)
        assert found.grams is not None
        ids = [found.vocabulary.encode(line.split("\t")[1]) for line in rows.splitlines()]
        expected = {number for own in ids for number in naive.class_grams(own, found.config.vocab_size)}
        assert found.grams.numbers.tolist() == sorted(expected)


def test_while_it_learns_half_of_what_others_tell_is_added_to_its_logits(model):
    material = LabelledFiles((model.parent / "words.tsv",), ()).read(TextConfig())
    train = TrainConfig(steps=1, counts=1.0, val_fraction=0.1)
    task = material.task(material.network({}), train)
    assert task.batch(0, 0).beside is None
    empty = Checkpoint(material.network({}), material.corpus.vocabulary, material.corpus.text, {})
    read = list(task.describe(empty))
    assert read[-1] == (task.characters * 4 + task.val_characters * 2,) * 2
    some = task.own.take(task._batches.rows(0, 0))
    told = task._counted.tell_others(some.grams_of(empty.config.vocab_size), some.counts)
    np.testing.assert_array_equal(task.batch(0, 0).beside, told / 2)
    assert np.abs(told).max() > 1


def test_without_counts_a_file_is_as_it_was_before_there_were_any(model, tmp_path):
    for n, counts in enumerate((0, 0.0)):
        out = tmp_path / f"{n}.safetensors"
        list(api.train(model.parent / "words.tsv", out=out, task="classify", steps=2, counts=counts, **SMALL))
        found = model_file.load(out)
        assert found.grams is None
        assert "counts" not in found.settings
        assert b'"format_version": 5' in out.read_bytes().replace(b"\\", b"")


def test_without_held_out_texts_there_are_no_counts_and_a_note_says_so(model, tmp_path):
    for counts, notes in (({}, 0), ({"counts": 2.0}, 1)):
        out = tmp_path / "m.safetensors"
        settings = {**SMALL, **counts, "val_fraction": 0.0, "steps": 1, "force": True}
        events = list(api.train(model.parent / "words.tsv", out=out, task="classify", **settings))
        (started,) = (e for e in events if isinstance(e, Started))
        assert sum("weight of counts" in note for note in started.notes) == notes
        assert model_file.load(out).grams is None


def test_info_says_what_is_counted(model):
    said = call("info", model).stdout.decode()
    grams = model_file.load(model).grams
    assert grams is not None
    assert f"{len(grams.numbers):,} grams" in said


# --- what is no such file --------------------------------------------------------------------------


def changed(name: str, change: Any) -> Any:
    def apply(tensors: dict[str, np.ndarray[Any, Any]]) -> None:
        tensors[f"grams.{name}"] = change(tensors[f"grams.{name}"])

    return apply


ATTACKS: dict[str, tuple[Any, str]] = {
    "missing": (lambda t: t.pop("grams.sure"), "lack 'grams.sure'"),
    "unknown": (lambda t: t.update({"grams.more": np.zeros(1, np.float32)}), "have 'grams.more'"),
    "not ascending": (changed("numbers", lambda a: a[::-1].copy()), "do not ascend"),
    "twice": (changed("numbers", lambda a: np.where(np.arange(len(a)) == 1, a[0], a)), "do not ascend"),
    "too large": (changed("numbers", lambda a: np.append(a[:-1], np.uint32(2**20))), "of 20 bits"),
    "a number": (changed("numbers", lambda a: a[None].copy()), "has the shape"),
    "fewer rows": (changed("weights", lambda a: a[1:].copy()), "grams.weights is uint8 of shape"),
    "more classes": (changed("weights", lambda a: np.hstack([a, a])), "grams.weights is uint8 of shape"),
    "other weights": (changed("weights", lambda a: a.astype(np.float32)), "grams.weights is float32"),
    "infinite": (changed("scales", lambda a: a * np.float32(np.inf)), "grams.scales holds NaN or infinity"),
    "not a number": (changed("sure", lambda a: a * np.float32(np.nan)), "grams.sure holds NaN or infinity"),
    "many columns": (changed("alone_scales", lambda a: np.append(a, a)), "grams.alone_scales is float32"),
    "biased": (changed("alone_bias", lambda a: a[1:].copy()), "grams.alone_bias is float32 of shape"),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_what_does_not_fit_is_refused_by_name(model, tmp_path, name):
    attack, said = ATTACKS[name]
    tensors = load_file(model)
    attack(tensors)
    path = rewritten(model, tmp_path / "m.safetensors", tensors)
    with pytest.raises(CheckpointError, match=said.replace("(", r"\(")):
        model_file.load(path)


def test_an_older_format_and_other_kinds_have_no_grams(model, tmp_path):
    old = rewritten(model, tmp_path / "old.safetensors", load_file(model), b'"format_version": 6')
    with pytest.raises(CheckpointError, match="its format has no counts, but it has the tensor 'grams"):
        model_file.load(old)
    loaded = model_file.load(model)
    writer = tmp_path / "w.safetensors"
    list(api.train(model.parent / "words.tsv", out=writer, steps=1, counts=0, **SMALL))
    other: Checkpoint = replace(model_file.load(writer), grams=loaded.grams)
    with pytest.raises(CheckpointError, match="it is a writer, which has no grams"):
        model_file.save(other, tmp_path / "x.safetensors")


def rewritten(model: Path, path: Path, tensors: dict[str, Any], version: bytes = b"") -> Path:
    """The model file with other tensors, or as of another version."""
    data = model.read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    text = header["__metadata__"]["charrnn"]
    if version:
        text = text.replace('"format_version": 7', version.decode())
    save_file(tensors, path, {"charrnn": text})
    return path
