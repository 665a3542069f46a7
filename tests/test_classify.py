"""Classifiers: from files with labels to a model, and what `classify` and `eval` say by it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import naive
import numpy as np
import pytest
from support.calls import call

from charrnn import api
from charrnn.checkpoint import model_file
from charrnn.checkpoint.model_file import Checkpoint, resume_path
from charrnn.config import TextConfig
from charrnn.errors import CheckpointError, VocabularyError
from charrnn.events import Event, Finished, Started, Step
from charrnn.nn.reader import log_softmax
from charrnn.tasks.reading.calibration import fit
from charrnn.tasks.reading.classify import Classifier, balance
from charrnn.tasks.reading.confusion import Confusion
from charrnn.training.planning import reading

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


def test_what_is_planned_for_a_classifier_depends_on_its_texts_and_where_it_begins(folder, tmp_path):
    few, many = (reading.plan("classifier", n, 2_000, {}).settings for n in (40_000, 60_000))
    assert (few["learning_rate"], many["learning_rate"]) == (4e-3, 8e-3)
    assert "average" not in few
    assert many["average"] == 0.2
    lines = tmp_path / "lines.txt"
    lines.write_text("left\nright\nother\n" * 20)
    writer, out = tmp_path / "w.safetensors", tmp_path / "m.safetensors"
    list(api.train(lines, out=writer, text=TextConfig(lines=True), steps=1, **SMALL))
    settings = {"task": "classify", "init_from": writer, "threads": 2, "out": out}
    for _ in range(2):  # the second time, all is as it was
        started = next(api.train(folder / "words.tsv", **settings))
        assert isinstance(started, Started)
        assert started.train.learning_rate == 1e-3
        list(api.train(folder / "words.tsv", **settings))


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


def test_the_header_says_that_rare_classes_count_more(folder, tmp_path):
    started = next(e for e in train(folder / "words.tsv", tmp_path / "m", steps=1) if isinstance(e, Started))
    (note,) = (note for note in started.notes if "rare" in note)
    assert "gamma" in note
    assert "alpha" in note
    even = write(tmp_path / "even.tsv", [("a", "x"), ("b", "y")] * 5)
    started = next(e for e in train(even, tmp_path / "e", steps=1) if isinstance(e, Started))
    assert not any("rare" in note for note in started.notes)


def test_labels_by_file_are_those_of_lines_and_by_folder_those_of_files(tmp_path):
    for folder, letters in (("left", "ab"), ("right", "xy")):
        (tmp_path / folder).mkdir()
        for n, letter in enumerate(letters):
            (tmp_path / folder / f"{n}.txt").write_text(f"{letter}\nz{letter}\n" * 3)
    for by, labels, texts in (("file", ("0", "1"), 24), ("folder", ("left", "right"), 4)):
        out = tmp_path / f"{by}.safetensors"
        paths = [tmp_path / "left", tmp_path / "right"]
        list(api.train(paths, out=out, task="classify", text=TextConfig(label_by=by), steps=1, **SMALL))
        (column,) = model_file.load(out).columns
        assert (column.labels, sum(column.counts)) == (labels, texts)


# --- calibration and imbalance ---------------------------------------------------------------------


def test_calibration_finds_the_temperature_and_the_power_that_were_applied():
    rng = np.random.default_rng(4)
    frequent = np.array([60, 30, 7, 3.0])
    logits = 2 * rng.standard_normal((4000, 4)) + np.log(frequent)
    chosen = (np.exp(log_softmax(logits)).cumsum(axis=1) > rng.random((4000, 1))).argmax(axis=1)
    seen = 2.5 * logits - 0.5 * np.log(frequent)
    found = fit(seen, np.eye(4)[chosen], frequent)
    assert found.scale == pytest.approx(1 / 2.5, rel=0.05)
    again = log_softmax(found.apply(seen))
    assert np.abs(np.exp(again) - np.exp(log_softmax(logits))).max() < 0.05
    least = -log_softmax(found.apply(seen))[np.arange(4000), chosen].sum()
    for scale in (0.9, 1.1):
        other = log_softmax(scale * found.scale * seen + found.shift)
        assert -other[np.arange(4000), chosen].sum() > least


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_calibration_of_logits_of_any_size_is_finite_and_no_worse(scale):
    rng = np.random.default_rng(5)
    logits, targets = scale * rng.standard_normal((50, 3)), np.eye(3)[rng.integers(0, 3, 50)]
    found = fit(logits, targets, np.ones(3))
    after = -(targets * log_softmax(found.apply(logits))).sum()
    assert np.isfinite(after)
    assert after <= -(targets * log_softmax(logits)).sum() + 1e-6


def test_few_texts_change_little():
    sure, wrong = np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([[0.0, 1.0], [1.0, 0.0]])
    scales = [fit(np.tile(sure, (n, 1)), np.tile(wrong, (n, 1)), np.ones(2)).scale for n in (0, 1, 2, 100)]
    assert scales[0] == 1 > scales[1] > scales[2] > scales[3] > 0


def test_an_example_of_a_rare_class_counts_more_and_all_as_much_as_before():
    weights = balance(np.array([1000, 100, 10, 0]))
    assert weights[0] < weights[1] < weights[2] <= weights[3]
    assert (weights[:3] * [1000, 100, 10]).sum() == pytest.approx(1110, rel=1e-5)
    assert balance(np.array([5, 5])) == pytest.approx([1, 1])


# --- what is judged --------------------------------------------------------------------------------


def test_the_figures_of_a_confusion_are_those_of_their_definitions(model):
    column = model.columns[0]
    probabilities = np.array([[0.7, 0.2, 0.1], [0.4, 0.5, 0.1], [0.1, 0.8, 0.1], [0.3, 0.3, 0.4]])
    counts = np.array([[1, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0.0]])
    found = Confusion.of(column, probabilities, counts)
    assert found.counts.tolist() == [[1, 1, 1], [0, 1, 1], [0, 0, 0]]
    assert found.accuracy == pytest.approx(2 / 5)
    assert found.recall == pytest.approx([1 / 3, 1 / 2, np.nan], nan_ok=True)
    assert found.precision == pytest.approx([1, 1 / 2, 0])
    assert found.f1 == pytest.approx([1 / 2, 1 / 2, 0])
    assert found.macro_f1 == pytest.approx(1 / 3)
    # Each probability is in a bin of its own; the last text has two classes, and counts twice.
    assert found.calibration_error == pytest.approx((0.3 + 0.5 + 0.2 + 2 * 0.4) / 5)


def test_eval_prints_the_figures_and_what_classes_are_taken_for(folder):
    shown = call("eval", folder / "m.safetensors", folder / "test.tsv").stdout.decode().splitlines()
    figures = json.loads(call("eval", folder / "m.safetensors", folder / "test.tsv", "--json").stdout)
    assert shown[0].endswith("nats/text, 200 texts")
    assert shown[1].startswith(f"{figures['accuracy']:.1%} right, macro-F1 {figures['macro_f1']:.3f}")
    assert [row.split()[1] for row in shown[4:]] == ["alpha", "beta", "gamma"]
    for n, row in enumerate(shown[4:]):
        assert [0 if cell == "." else int(cell) for cell in row.split()[5:]] == figures["confusion"][n]
    assert sum(map(sum, figures["confusion"])) == figures["texts"] == 200


def test_many_classes_are_shown_with_their_most_frequent_mistakes(folder, tmp_path):
    rng = np.random.default_rng(6)
    rows = [(f"class {n:02}", "".join(rng.choice(list("abcd"), 3))) for n in rng.integers(0, 40, 200)]
    corpus = write(tmp_path / "many.tsv", rows)
    train(corpus, tmp_path / "m.safetensors", steps=3)
    shown = call("eval", tmp_path / "m.safetensors", corpus).stdout.decode().splitlines()
    assert len(shown) == 4 + len({label for label, _ in rows})
    assert max(map(len, shown)) < 120
    assert shown[3].split()[-2:] == ["taken", "for"]
    assert "class" in shown[4][30:]


# --- what is said of lines -------------------------------------------------------------------------


def test_classify_says_label_probability_and_line(folder, model):
    found = lines("-m", folder / "m.safetensors", stdin="abba\nzyx\n")
    expected = Classifier(model).probabilities(["abba", "zyx"])
    assert [row[2] for row in found] == ["abba", "zyx"]
    assert [row[0] for row in found] == ["alpha", "gamma"]
    assert [float(row[1]) for row in found] == pytest.approx(expected.max(axis=1), abs=6e-5)
    assert expected.sum(axis=1) == pytest.approx([1, 1])


def test_probabilities_are_those_of_the_naive_reference(model):
    (found,) = Classifier(replace(model, grams=None), 1).probabilities(["abcdz"])
    c, ids = model.config, model.vocabulary.encode("abcdz")
    read = naive.read_both_ways(model.tensors, c.cell, c.nonlinearity, 1, c.norm, c.residual, ids)
    expected = naive.softmax(naive.decode(model.tensors, naive.pool(model.tensors, read)))
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_line_is_classified_alike_alone_and_among_others_on_any_number_of_threads(model):
    texts = [text for _, text in words(60, seed=7)]
    together = Classifier(model, 3).probabilities(texts)
    for n in (0, 17, 59):
        np.testing.assert_array_equal(Classifier(model, 1).probabilities([texts[n]])[0], together[n])


def test_top_says_several_and_threshold_a_question_mark(folder):
    m = folder / "m.safetensors"
    ((first, p, second, q, text),) = lines("-m", m, "--top", 2, stdin="cd\n")
    assert {first, second} == {"alpha", "beta"}
    assert float(p) >= float(q)
    assert text == "cd"
    assert len(lines("-m", m, "--top", 9, stdin="cd\n")[0]) == 7  # there are three labels
    ((label, again, _),) = lines("-m", m, "--threshold", 0.9999, stdin="cd\n")
    assert (label, again) == ("?", p)
    answer = json.loads(
        call("classify", "-m", m, "--threshold", 1, "--top", 1, "--json", stdin=b"cd\n").stdout
    )
    assert answer["label"] is None
    assert answer["probabilities"] == {first: answer["probability"]}


def test_a_prior_moves_the_odds_from_those_of_training(folder, model):
    m, (p,) = folder / "m.safetensors", Classifier(model).probabilities(["cd"])
    answer = json.loads(call("classify", "-m", m, "--prior", "1,2,3", "--json", stdin=b"cd\n").stdout)
    counts = np.array(model.columns[0].counts)
    wanted = p * [1, 2, 3] / counts
    assert list(answer["probabilities"].values()) == pytest.approx(wanted / wanted.sum(), rel=1e-5)


def test_empty_lines_have_empty_figures_and_odd_lines_are_classified(folder, model):
    m = folder / "m.safetensors"
    data = "ab\n\n" + "漢字\n" + "ab" * 30_000 + "\n"
    rows = lines("-m", m, stdin=data)
    assert rows[1] == ["", "", ""]
    counts = np.array(model.columns[0].counts)
    assert rows[2] == ["alpha", f"{max(counts) / counts.sum():.4f}", "漢字"]  # nothing of it is known
    assert rows[3][0] == "alpha"
    assert rows[3][2] == ("ab" * 30_000)[: len(rows[3][2])]
    assert lines("-m", m, "--top", 2, stdin="\n") == [[""] * 5]
    result = call("classify", "-m", m, stdin=b"ab\xff\nab\n")
    assert result.stdout.splitlines()[0].endswith(b"ab\xff")
    assert b"not UTF-8" in result.stderr
    nulls = call("classify", "-m", m, "-0", stdin=b"ab\0cd").stdout
    assert nulls.count(b"\0") == 2
    latin = call("classify", "-m", m, "--encoding", "latin-1", stdin="ab é\n".encode("latin-1"))
    assert latin.stdout.decode().endswith("ab é\n")


def test_equal_texts_with_several_labels_have_several_probable_ones(tmp_path):
    corpus = write(tmp_path / "w.tsv", [("a", "xy"), ("b", "xy"), ("b", "yy"), ("a", "xx")] * 20)
    train(corpus, tmp_path / "m.safetensors", steps=80, val_fraction=0.0, learning_rate=0.02)
    (p,) = Classifier(model_file.load(tmp_path / "m.safetensors")).probabilities(["xy"])
    assert p == pytest.approx([0.5, 0.5], abs=0.1)


# --- several columns -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def columns(folder: Path) -> Path:
    """A classifier of two columns, of which one tells the class and the other whether there is a `c`."""
    rows = [("class", "c", "text")]
    rows += [(label, "with" if "c" in text else "without", text) for label, text in words(400)]
    rows += [("", "without", "ab"), ("alpha", "", "abcdab")] * 3
    train(write(folder / "columns.tsv", rows), folder / "c.safetensors", steps=200, learning_rate=0.02)
    return folder / "c.safetensors"


def test_each_column_has_answers_of_its_own(folder, columns):
    model = model_file.load(columns)
    assert model.config.targets == (3, 2)
    found = api.evaluate(model, folder / "columns.tsv")
    for figures in found.figures()["columns"].values():
        assert figures["accuracy"] > 0.8
    text = json.loads(call("classify", "-m", columns, "--json", stdin=b"abcabc\n").stdout)["columns"]
    assert list(text) == ["class", "c"]
    assert sum(text["c"]["probabilities"].values()) == pytest.approx(1)
    assert lines("-m", columns, stdin="abcabc\n")[0][0] == text["class"]["label"]
    ((label, p, _),) = lines("-m", columns, "--by", "c", "--prior", "1,1", stdin="abcabc\n")
    assert label == "with"
    assert float(p) > 0.5
    shown = call("eval", columns, folder / "columns.tsv").stdout.decode()
    assert "class: " in shown
    assert "c: " in shown


# --- starting from another model -------------------------------------------------------------------


def test_a_classifier_begins_with_what_a_writer_knows(folder, tmp_path):
    names = tmp_path / "names.txt"
    names.write_text("".join(f"{text}q\n" for _, text in words(300, seed=9)))
    sizes = {**SMALL, "num_layers": 2, "hidden_size": 5}
    list(api.train(names, out=tmp_path / "w.safetensors", text=TextConfig(lines=True), steps=5, **sizes))
    writer = model_file.load(tmp_path / "w.safetensors")
    out = tmp_path / "m.safetensors"
    settings = {"init_from": tmp_path / "w.safetensors", "learning_rate": 1e-12, "weight_decay": 0.0}
    events = list(
        api.train(folder / "words.tsv", out=out, task="classify", steps=1, threads=2, seed=1, **settings)
    )
    assert isinstance(events[-1], Finished)
    made = model_file.load(out)
    assert "q" in made.vocabulary  # which only the writer has seen
    old, new = writer.tensors, made.tensors
    np.testing.assert_allclose(
        new["embedding.weight"][made.vocabulary.encode("abq")],
        old["embedding.weight"][writer.vocabulary.encode("abq")],
        atol=1e-6,
    )
    H = 5
    for way in ("", "_reverse"):
        for name in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l1"):
            np.testing.assert_allclose(new[f"rnn.{name}{way}"], old[f"rnn.{name}"], atol=1e-6)
        upper = new[f"rnn.weight_ih_l1{way}"]
        own, other = (upper[:, H:], upper[:, :H]) if way else (upper[:, :H], upper[:, H:])
        np.testing.assert_allclose(own, old["rnn.weight_ih_l1"], atol=1e-6)
        np.testing.assert_allclose(other, 0, atol=1e-6)
    np.testing.assert_allclose(new["norm_l1.weight"], np.tile(old["norm_l1.weight"], 2), atol=1e-6)


def test_a_classifier_begins_with_another_whose_classes_it_may_share(folder, model, tmp_path):
    rows = [("alpha", "abab"), ("new", "zzq")] * 20
    corpus, out = write(tmp_path / "other.tsv", rows), tmp_path / "o.safetensors"
    settings = {"init_from": folder / "m.safetensors", "learning_rate": 1e-12, "val_fraction": 0.0}
    list(api.train(corpus, out=out, task="classify", steps=1, threads=2, weight_decay=0.0, **settings))
    made = model_file.load(out)
    assert made.columns[0].labels == ("alpha", "new")
    np.testing.assert_allclose(
        made.tensors["decoder.weight"][0], model.tensors["decoder.weight"][0], atol=1e-6
    )
    np.testing.assert_allclose(made.tensors["pooling.vector"], model.tensors["pooling.vector"], atol=1e-6)


def test_a_one_hot_classifier_grows_by_columns_for_new_characters(folder, tmp_path):
    first, second = tmp_path / "1.safetensors", tmp_path / "2.safetensors"
    train(folder / "words.tsv", first, embedding_size=0, steps=2)
    corpus = write(tmp_path / "more.tsv", [("alpha", "aéb"), ("gamma", "zéx")] * 9)
    settings = {"init_from": first, "learning_rate": 1e-12, "weight_decay": 0.0, "steps": 1}
    list(api.train(corpus, out=second, task="classify", threads=1, **settings))
    old, new = model_file.load(first), model_file.load(second)
    for way in ("", "_reverse"):
        name = f"rnn.weight_ih_l0{way}"
        np.testing.assert_allclose(
            new.tensors[name][:, new.vocabulary.encode("abz")],
            old.tensors[name][:, old.vocabulary.encode("abz")],
            atol=1e-6,
        )


# --- what makes no sense ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a\tx\nb\ty\nno tab\n", "a text has no label, in line 3 of {}"),
        ("a\tx\na\ty\na\tz\n", "all texts of {} have the same label, 'a'"),
        ("kind\tage\ttext\na\told\tx\nb\told\ty\n", "the same label of age, 'old'"),
    ],
)
def test_files_that_teach_nothing_are_refused_in_one_line(tmp_path, text, words):
    path = tmp_path / "w.tsv"
    path.write_text(text)
    result = call("train", path, "--task", "classify", "-o", tmp_path / "m.safetensors", "--steps", 1)
    said = result.stderr.decode()
    assert result.returncode == 1, said
    assert words.format(path) in said
    assert said.count("\n") == 1
    assert not (tmp_path / "m.safetensors").exists()


def test_a_label_of_the_validation_text_alone_is_named_with_its_line(folder, tmp_path):
    val = write(tmp_path / "val.tsv", [("alpha", "ab"), ("delta", "cd")])
    with pytest.raises(VocabularyError, match=r"'delta', in line 2 of .*val.tsv"):
        train(folder / "words.tsv", tmp_path / "m.safetensors", val=val)
    with pytest.raises(VocabularyError, match=r"'delta', in line 2 of .*val.tsv"):
        api.evaluate(folder / "m.safetensors", val)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--unknown-bits", 3), "--unknown-bits is for models that write"),
        (("--by", "era"), "no labels named 'era'"),
        (("--prior", "1,2"), "the prior has 2 numbers for 3 labels"),
        (("--prior", "1,2,0"), "not above 0"),
        (("--top", 0), "top is 0"),
        (("--threshold", 1.5), "threshold is 1.5"),
        (("--threads", 0), "threads is 0"),
        (("-m", "{}"), "the model is a classifier, and this takes a model that writes"),
    ],
)
def test_options_that_make_no_sense_for_a_classifier_are_refused_in_one_line(folder, options, said):
    m = str(folder / "m.safetensors")
    result = call("classify", "-m", m, *(str(word).format(m) for word in options), stdin=b"ab\n")
    assert result.returncode in (1, 2)
    message, *hint = result.stderr.decode().splitlines()
    assert said in message
    assert hint in ([], ["try 'charrnn classify --help'"])


def test_a_classifier_neither_adapts_nor_begins_a_writer(folder, tmp_path):
    m = folder / "m.safetensors"
    for option in ("--dynamic", "--adaptive"):
        result = call("eval", m, folder / "test.tsv", option)
        assert result.returncode == 2
        assert f"{option} is for models that write".encode() in result.stderr
    with pytest.raises(CheckpointError, match="the model is a classifier"):
        list(api.train(folder / "words.tsv", out=tmp_path / "w.safetensors", init_from=m, steps=1))
