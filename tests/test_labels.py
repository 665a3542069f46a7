"""Labels of texts: how they are read, learnt and given, and what is written and classified with them."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from support.calls import call
from support.compiled_loop import AlwaysTogether, Ready, compiled_only, let_load
from support.documents import all_ids, content, read_text
from support.model_files import checkpoint, with_record
from support.refusals import refusal
from support.toy_models import toy

from charrnn import api
from charrnn.checkpoint import model_file
from charrnn.checkpoint.model_file import Checkpoint
from charrnn.cli.models import choices
from charrnn.config import ModelConfig, SampleConfig, TextConfig, TrainConfig
from charrnn.errors import ConfigError, CorpusError, SamplingError, VocabularyError
from charrnn.events import Finished, Step
from charrnn.inference import writing_loop as kernels
from charrnn.inference.engines import CompiledPath, Cursor, PlainPath
from charrnn.inference.mixture import Blend, MixedNetwork
from charrnn.labels import Column, ids_of
from charrnn.text.batches import Batches
from charrnn.text.reading import read
from charrnn.text.records.labels import Cutter
from charrnn.text.validation import split

BEFORE = TextConfig(lines=True, label_by="column")
COLUMNS = (Column("origin", ("Greek", "Russian"), (1, 3)), Column("era", ("1800", "1900"), (2, 2)))


def labels_of(corpus) -> list[tuple[str, ...]]:
    """The labels of each character of a text; "": unknown."""
    ids = corpus.documents.labels_at(np.arange(len(corpus.documents)))
    return [
        tuple((*column.labels, "")[n] for column, n in zip(corpus.columns, row, strict=True)) for row in ids
    ]


def labelled_lines(corpus) -> list[tuple[Any, ...]]:
    """(labels.., line) of each line."""
    found, rows = [], labels_of(corpus)
    start = 0
    for line in content(corpus).splitlines():
        here = set(rows[start : start + len(line) + 1])
        assert len(here) == 1
        found.append((*here.pop(), line))
        start += len(line) + 1
    return found


# --- reading ---------------------------------------------------------------------------------------


def test_a_line_follows_its_label_and_a_tab_and_the_vocabulary_knows_the_text_alone():
    corpus = read_text("Russian\tIvanov\nGreek\tPapas\tx\n\tnobody\nRussian\tOrlov", BEFORE)
    assert labelled_lines(corpus) == [
        ("Russian", "Ivanov"), ("Greek", "Papas\tx"), ("", "nobody"), ("Russian", "Orlov"),
    ]  # fmt: skip
    assert corpus.columns == (Column("", ("Greek", "Russian"), (1, 2)),)
    assert "R" not in corpus.vocabulary
    assert "G" not in corpus.vocabulary


def test_lines_without_text_are_left_out_with_their_labels():
    corpus = read_text("A\tx\nB\t\n\nC\ty\nD\t", BEFORE)
    assert labelled_lines(corpus) == [("A", "x"), ("C", "y")]
    assert [column.labels for column in corpus.columns] == [("A", "B", "C", "D")]
    assert corpus.columns[0].counts == (1, 0, 1, 0)


def test_a_header_names_several_columns():
    corpus = read_text("origin\tera\ttext\nGreek\t1900\tPapas\n\t1800\tIvanov\tx\nGreek\t\tKosta\n", BEFORE)
    assert [column.name for column in corpus.columns] == ["origin", "era"]
    assert labelled_lines(corpus) == [
        ("Greek", "1900", "Papas"), ("", "1800", "Ivanov\tx"), ("Greek", "", "Kosta"),
    ]  # fmt: skip


@pytest.mark.parametrize("header", ["origin\torigin\ttext\n", "origin\t\ttext\n"])
def test_a_header_that_names_no_columns_is_an_error(header):
    with pytest.raises(CorpusError, match="does not name its columns"):
        read_text(header + "a\tb\tc\n", BEFORE)


def test_known_columns_need_no_header_but_may_have_one():
    for header in ("", "origin\tera\ttext\n"):
        corpus = read_text(header + "Greek\t1900\tPapas\n", BEFORE, columns=COLUMNS)
        assert corpus.columns == COLUMNS
        assert labelled_lines(corpus) == [("Greek", "1900", "Papas")]


@pytest.mark.parametrize(
    ("text", "place"),
    [("A\tx\ny\nA\tz\n", 2), ("y\nA\tz\n", 1), ("A\tx\nA\ty\nz", 3), ("o\te\ttext\nA\tB\tx\nA\ty\n", 3)],
)
def test_a_line_without_a_label_is_an_error_with_its_place(text, place):
    with pytest.raises(CorpusError, match=rf"has no .*label.*, in line {place} of standard input"):
        read_text(text, BEFORE)


def test_an_unknown_label_is_an_error_that_names_the_near_ones():
    with pytest.raises(VocabularyError) as caught:
        read_text("Greek\t1900\tPapas\nRusian\t1900\tIvanov\n", BEFORE, columns=COLUMNS)
    assert str(caught.value) == (
        "the model has never seen the label 'Rusian' of origin, in line 2 of standard input: "
        "did you mean Russian?"
    )
    kept = read_text("Rusian\t1900\tIvanov\n", BEFORE, columns=COLUMNS, on_unknown="skip")
    assert labelled_lines(kept) == [("", "1900", "Ivanov")]
    assert kept.notes == ("1 label was left out that the model has never seen",)


def test_texts_of_which_no_character_is_known_take_their_labels_with_them():
    """Else all labels after them would be those of other lines."""
    known = read_text("A\tab\nB\tba\n", BEFORE)
    corpus = read_text(
        "A\tzz\nB\tab\nA\tz\nA\tba\nB\tz", BEFORE, vocabulary=known.vocabulary, columns=known.columns,
        on_unknown="skip",
    )  # fmt: skip
    assert labelled_lines(corpus) == [("B", "ab"), ("A", "ba")]


@pytest.mark.parametrize("width", [1, 2])
def test_pieces_of_any_size_give_the_same_texts_and_labels(width):
    rng = np.random.default_rng(width)
    for _ in range(150):
        names = ["", "a", "bb", "é\u2028"]
        records = [
            (*rng.choice(names, width), "".join(rng.choice(list("xy\té"), rng.integers(1, 6))))
            for _ in range(5)
        ]
        lines = ["\t".join(record) for record in records]
        text = "\n".join(["one\ttwo\ttext"] * (width == 2) + lines) + "\n" * int(rng.integers(0, 2))
        if width == 1 and lines[0].count("\t") > 1:
            continue  # a header
        points = np.frombuffer(text.encode("utf-32-le"), np.uint32)
        cutter = Cutter(BEFORE, None, skips=False)
        found, low = [], 0
        while low < len(points):
            high = low + int(rng.integers(1, 9))
            found.append(cutter.add(points[low:high], lambda n: ""))
            low = high
        found.append(cutter.finish(lambda n: ""))
        joined = np.concatenate(found).astype("<u4").tobytes().decode("utf-32-le").removesuffix("\n")
        assert joined.split("\n") == [record[-1] for record in records]
        rows = np.concatenate(cutter.rows)
        for column, numbers in enumerate(cutter.numbers):
            by_number = {n: label for label, n in numbers.items()} | {-1: ""}
            assert [by_number[n] for n in rows[:, column].tolist()] == [record[column] for record in records]


@pytest.mark.parametrize("lines", [False, True])
@pytest.mark.parametrize("by", ["file", "folder"])
def test_the_names_of_files_and_folders_may_be_labels(tmp_path, lines, by):
    for folder, name, text in [
        ("poe", "a.txt", "one\ntwo\n"),
        ("poe", "b.md", "x\n"),
        ("twain", "c", "y\nz\n"),
    ]:
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / name).write_text(text)
    corpus = read([tmp_path], TextConfig(lines=lines, label_by=by))
    rows = [(*labels, c) for labels, c in zip(labels_of(corpus), content(corpus), strict=True)]
    by_text = {"one\ntwo\n": "a", "x\n": "b", "y\nz\n": "c"}
    if by == "folder":
        by_text = {"one\ntwo\n": "poe", "x\n": "poe", "y\nz\n": "twain"}
    assert rows == [(label, c) for text, label in by_text.items() for c in text]
    counts = dict.fromkeys(by_text.values(), 0)
    for text, label in by_text.items():
        counts[label] += text.count("\n") if lines else 1
    assert corpus.columns == (Column("", tuple(counts), tuple(counts.values())),)


def test_standard_input_has_no_name():
    with pytest.raises(CorpusError, match="standard input has no name"):
        read(["-"], TextConfig(label_by="file"), stdin=io.BytesIO(b"abc"))


def test_labels_of_bytes_are_utf_8():
    text = TextConfig(lines=True, bytes=True, label_by="column")
    corpus = read(["-"], text, stdin=io.BytesIO("é\tx\nb\ty\n".encode()))
    assert corpus.columns[0].labels == ("b", "é")
    assert content(corpus) == "x\ny\n"


def test_each_part_of_a_split_text_has_its_labels():
    text = "".join(f"L{n % 7}\tw{n}\n" for n in range(200))
    corpus = read_text(text, BEFORE)
    expected = {(f"w{n}", f"L{n % 7}") for n in range(200)}
    for how in ("scattered", "end"):
        train = TrainConfig(steps=1, val_split=how, seed=3)
        found = set()
        for part in split(corpus.documents, train, corpus.vocabulary.characters.index("\n")):
            line = ""
            rows = part.labels_at(np.arange(len(part)))[:, 0]
            for character, row in zip(corpus.vocabulary.decode(all_ids(part)), rows, strict=True):
                if character == "\n":
                    found.add((line, corpus.columns[0].labels[row]))
                line = "" if character == "\n" else line + character
        assert found == expected


@pytest.mark.parametrize("val_split", ["scattered", "end"])
def test_a_text_in_another_order_has_the_same_records_and_labels(val_split):
    corpus = read_text("".join(f"L{n % 7}\tw{n}\n" for n in range(200)), BEFORE)
    train = TrainConfig(steps=1, val_split=val_split, seed=3, val_fraction=0.3)

    def lines(part) -> list[tuple[str, str]]:
        text = corpus.vocabulary.decode(all_ids(part))
        ends = [n for n, character in enumerate(text) if character == "\n"]
        labels = [corpus.columns[0].labels[n] for n in part.labels_at(np.array(ends))[:, 0]]
        return list(zip(text.split("\n"), labels, strict=False))

    for part in split(corpus.documents, train, corpus.vocabulary.characters.index("\n")):
        shuffled = part.shuffled(1)
        assert len(shuffled) == len(part)
        assert lines(shuffled) != lines(part)
        assert sorted(lines(shuffled)) == sorted(lines(part))
        x, y, reset = shuffled.look_up(np.arange(len(part)))
        assert (x[reset] == len(corpus.vocabulary)).all()
        assert (x[1:][~reset[1:]] == y[:-1][~reset[1:]]).all()
        assert np.count_nonzero(reset) == len(lines(part))


def test_a_corpus_in_other_columns_keeps_its_labels():
    corpus = read_text("B\tx\nC\ty\n\tz\n", BEFORE)
    wider = corpus.with_columns((Column("other", ("q",), (1,)), Column("", ("A", "B"), (0, 1))))
    assert labels_of(wider) == [("", "B")] * 2 + [("", "")] * 4


# --- hiding ----------------------------------------------------------------------------------------


def batches(text: str, **config: Any) -> tuple[Any, Batches]:
    corpus = read_text(text, BEFORE, **config)
    return corpus, Batches(corpus.documents, 4, 16, seed=5)


def test_labels_are_hidden_for_whole_texts_and_anew_in_each_epoch():
    corpus, windows = batches("".join(f"L{n % 3}\tname{n}\n" for n in range(400)))
    share, epochs = [], []
    for epoch in range(3):
        seen = []
        for k in range(windows.windows_per_epoch):
            _, _, reset = windows.window(epoch, k)
            labels = windows.labels(epoch, k, 0.25)[..., 0]
            inside = ~reset[1:]
            assert (labels[1:] == labels[:-1])[inside].all()  # within a name
            seen.append(labels[reset] >= len(corpus.columns[0].labels))
        epochs.append(np.concatenate(seen))
        share.append(epochs[-1].mean())
    assert 0.2 < np.mean(share) < 0.3
    again = Batches(corpus.documents, 4, 16, seed=5)
    np.testing.assert_array_equal(again.labels(2, 3, 0.25), windows.labels(2, 3, 0.25))
    assert (again.labels(0, 3, 0.25) != again.labels(1, 3, 0.25)).any()
    np.testing.assert_array_equal(
        again.labels(0, 3, 0.0), again.documents(0).labels_at(again._positions(0, 0))[3]
    )


def test_of_several_columns_each_is_hidden_by_itself_and_all_together():
    lines = "".join(f"A\tB\tname{n}\n" for n in range(500))
    _, windows = batches("one\ttwo\ttext\n" + lines)
    rows = np.concatenate(
        [windows.labels(0, k, 0.2).reshape(-1, 2) for k in range(windows.windows_per_epoch)]
    )
    first, second = (rows > 0).T
    assert 0.1 < (first & ~second).mean() < 0.2  # 0.128
    assert 0.1 < (~first & second).mean() < 0.2
    assert 0.17 < (first & second).mean() < 0.3  # 0.232


def test_the_labels_of_a_long_text_are_hidden_in_some_places(tmp_path):
    (tmp_path / "a.txt").write_text("abcdefgh" * 8000)
    corpus = read([tmp_path], TextConfig(label_by="file"))
    hidden = corpus.documents.labels_at(np.arange(len(corpus.documents)), 0.3, 9)[:, 0] > 0
    blocks = hidden[: len(hidden) // 2048 * 2048].reshape(-1, 2048)
    assert (blocks.all(axis=1) | ~blocks.any(axis=1)).all()
    assert 0 < blocks[:, 0].mean() < 1


# --- training --------------------------------------------------------------------------------------

SMALL: dict[str, Any] = {
    "hidden_size": 24, "num_layers": 2, "embedding_size": 24, "batch_size": 4, "seq_len": 16, "threads": 2,
    "learning_rate": 0.02,
}  # fmt: skip


@pytest.fixture(scope="module")
def corpus_file(tmp_path_factory):
    """Texts of a's and b's, and texts of c's and d's."""
    rng = np.random.default_rng(3)
    path = tmp_path_factory.mktemp("labels") / "words.tsv"
    words = [("ab", "first") if n % 2 else ("cd", "second") for n in range(400)]
    lines = [f"{label}\t{''.join(rng.choice(list(letters), 6))}" for letters, label in words]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def trained(corpus_file, tmp_path_factory) -> Checkpoint:
    out = tmp_path_factory.mktemp("model") / "m.safetensors"
    for _ in api.train(corpus_file, out=out, text=BEFORE, steps=150, counts=0.0, **SMALL):
        pass
    return api.load(out)


def test_a_network_learns_what_labels_mean_and_to_do_without(trained):
    assert trained.columns == (Column("", ("first", "second"), (200, 200)),)
    assert trained.config.labels == (2,)
    for label, letters in (("first", "ab"), ("second", "cd")):
        texts = ["".join(t) for t in api.sample(api.given(trained, label), count=20, seed=1)]
        assert set("".join(texts)) == {*letters, "\n"}
    assert len(set("".join("".join(t) for t in api.sample(trained, count=20, seed=1)))) == 5


def test_evaluation_reads_the_labels_of_a_text(trained, corpus_file, tmp_path):
    given = api.evaluate(trained, corpus_file)
    bare = tmp_path / "bare.txt"
    bare.write_text("".join(line.split("\t")[1] + "\n" for line in corpus_file.read_text().splitlines()))
    without = api.evaluate(trained.given(()), bare)
    assert given.characters == without.characters == 2800
    assert given.loss_without_labels == without.loss
    assert without.loss_without_labels is None
    assert 0.05 < without.loss - given.loss < 0.15  # a bit a word: ln(2) / 7 = 0.099 a character
    swapped = tmp_path / "swapped.tsv"
    swapped.write_text(
        corpus_file.read_text().replace("first", "x").replace("second", "first").replace("x", "second")
    )
    assert api.evaluate(trained, swapped).loss > given.loss + 1
    with pytest.raises(VocabularyError, match="never seen the label 'x'"):
        api.evaluate(trained, _file(tmp_path, "x\tabab\n"))


def test_the_command_shows_the_loss_with_and_without_labels(file, trained, corpus_file):
    found = api.evaluate(trained, corpus_file)
    as_json = json.loads(run("eval", file, corpus_file, "--json"))
    assert as_json["loss_without_labels"] == pytest.approx(found.loss_without_labels)
    assert as_json["bpc_without_labels"] == pytest.approx(found.bpc_without_labels)
    _, line = run("eval", file, corpus_file).splitlines()
    assert line.startswith(f"without labels {found.loss_without_labels:.4f} nats/char, ")
    dynamic = json.loads(run("eval", file, corpus_file, "--json", "--dynamic"))
    assert as_json.items() <= dynamic.items()
    adaptive = json.loads(run("eval", file, corpus_file, "--json", "--adaptive"))
    assert as_json.items() <= adaptive.items()
    assert as_json["loss"] / 2 < adaptive["adaptive_loss"] < as_json["loss_without_labels"]


def _file(folder, text):
    path = folder / "other.tsv"
    path.write_text(text)
    return path


def test_a_resumed_run_is_bit_for_bit_the_uninterrupted_one(corpus_file, tmp_path, monkeypatch):
    monkeypatch.setattr("charrnn.training.run.REPORT_SECONDS", 0.0)
    settings = {**SMALL, "steps": 24, "evaluations": 3, "label_dropout": 0.3, "text": BEFORE}
    straight = tmp_path / "straight.safetensors"
    for _ in api.train(corpus_file, out=straight, **settings):
        pass
    for step in (1, 8, 17):
        out, seen = tmp_path / f"{step}.safetensors", []
        for event in api.train(corpus_file, out=out, stop=lambda: "enough" if seen else None, **settings):  # noqa: B023
            if isinstance(event, Step) and event.step == step:
                seen.append(event)
        assert isinstance(event, Finished)
        assert (event.reason, event.step) == ("interrupted", step)
        events = list(api.train(corpus_file, out=out, text=BEFORE, resume=True, threads=1))
        assert (events[0].resumed_step, events[-1].reason) == (step, "budget")
        assert out.read_bytes() == straight.read_bytes()


def test_fine_tuning_keeps_what_labels_mean_and_learns_new_ones(trained, corpus_file, tmp_path):
    base, out = tmp_path / "base.safetensors", tmp_path / "tuned.safetensors"
    model_file.save(trained, base)
    text = "".join("Third\tadad\n" if n % 2 else "first\taabb\n" for n in range(100))
    for _ in api.train(
        _file(tmp_path, text), out=out, text=BEFORE, init_from=base, steps=1, learning_rate=1e-9, threads=1
    ):
        pass
    tuned = api.load(out)
    assert tuned.columns == (Column("", ("Third", "first", "second"), (50, 50, 0)),)
    for k in range(2):
        old, new = (model.tensors[f"label.0.weight_l{k}"] for model in (trained, tuned))
        np.testing.assert_allclose(new[1:], old, atol=1e-6)
        assert np.abs(new[0]).max() < 1e-6


def test_a_model_without_labels_may_learn_some_later(corpus_file, tmp_path):
    base, out = tmp_path / "base.safetensors", tmp_path / "tuned.safetensors"
    bare = tmp_path / "bare.txt"
    bare.write_text("".join(line.split("\t")[1] + "\n" for line in corpus_file.read_text().splitlines()))
    for _ in api.train(bare, out=base, text=TextConfig(lines=True), steps=5, **SMALL):
        pass
    for _ in api.train(corpus_file, out=out, text=BEFORE, init_from=base, steps=5, threads=1):
        pass
    assert api.load(out).columns[0].labels == ("first", "second")


def test_a_label_that_only_the_validation_text_has_is_unknown_to_the_model(corpus_file, tmp_path):
    out = tmp_path / "m.safetensors"
    other = _file(tmp_path, "first\tabab\nThird\tcdcd\n")
    for _ in api.train(corpus_file, out=out, val=other, text=BEFORE, steps=3, **SMALL):
        pass
    assert api.load(out).columns[0].labels == ("first", "second")


# --- the file --------------------------------------------------------------------------------------


def labelled(seed: int = 0, columns: tuple[Column, ...] = COLUMNS, **settings: Any) -> Checkpoint:
    model = toy(seed, labels=tuple(len(column.labels) for column in columns), **settings)
    return replace(model, columns=columns, text=replace(model.text, label_by="column"))


def test_a_model_file_keeps_labels_and_their_counts(tmp_path):
    model, path = labelled(), tmp_path / "m.safetensors"
    model_file.save(model, path)
    loaded = model_file.load(path)
    assert (loaded.columns, loaded.config, loaded.text) == (COLUMNS, model.config, model.text)
    for name, tensor in model.tensors.items():
        np.testing.assert_array_equal(loaded.tensors[name], tensor)
    plain = tmp_path / "plain.safetensors"
    model_file.save(model.given(()), plain)
    assert b'"labels"' not in plain.read_bytes()
    assert b"label_by" not in plain.read_bytes()


def _column(**changes: Any) -> list[dict[str, Any]]:
    return [COLUMNS[0].to_dict() | changes, COLUMNS[1].to_dict()]


@pytest.mark.parametrize(
    ("labels", "what"),
    [
        (None, "disagree on the labels"),
        ([], "disagree on the labels"),
        ({}, "no list of columns"),
        ([1, 2], "no table"),
        (_column(labels=["Russian", "Greek"]), "not distinct and sorted"),
        (_column(labels=["Greek", "Greek"]), "not distinct and sorted"),
        (_column(labels=["", "Greek"]), "no texts"),
        (_column(labels=["Greek", 1]), "no texts"),
        (_column(labels=["Greek"], counts=[1]), "disagree on the labels"),
        (_column(counts=[1]), "no counts"),
        (_column(counts=[1, -1]), "no counts"),
        (_column(counts=[1, True]), "no counts"),
        (_column(name="era"), "the same name"),
        (_column(more=1), "no table"),
    ],
)
def test_a_file_with_damaged_labels_is_refused(tmp_path, labels, what):
    whole = tmp_path / "whole.safetensors"
    model_file.save(labelled(), whole)

    def change(record: dict[str, Any]) -> None:
        if labels is None:
            del record["labels"]
        else:
            record["labels"] = labels

    damaged = with_record(whole.read_bytes(), change)
    assert what in refusal(model_file.load, tmp_path, damaged).message


@pytest.mark.parametrize("sizes", [[0], [2**16 + 1], ["a"], 3, [1.5], [1] * 17])
def test_impossible_numbers_of_labels_are_refused(sizes):
    with pytest.raises(ConfigError, match="labels"):
        ModelConfig(5, labels=sizes)


# --- giving labels ---------------------------------------------------------------------------------


def test_a_model_given_labels_is_a_plain_one_with_other_biases():
    model = labelled(num_layers=3)
    given = model.given(ids_of(COLUMNS, {"origin": "Russian", "era": "1800"}))
    assert given.config == replace(model.config, labels=())
    assert given.columns == ()
    assert given.text.label_by is None
    for k in range(3):
        rows = model.tensors[f"label.0.weight_l{k}"][1], model.tensors[f"label.1.weight_l{k}"][0]
        expected = (model.tensors[f"rnn.bias_ih_l{k}"] + rows[0]) + rows[1]
        np.testing.assert_array_equal(given.tensors[f"rnn.bias_ih_l{k}"], expected)
    assert given.tensors["decoder.weight"] is model.tensors["decoder.weight"]
    unknown = model.given(ids_of(COLUMNS, {}))
    np.testing.assert_array_equal(unknown.tensors["rnn.bias_ih_l0"], model.tensors["rnn.bias_ih_l0"])


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["origin=Russian"], [({"origin": "Russian"}, 1.0)]),
        (["origin=Russian", "era=1900"], [({"origin": "Russian", "era": "1900"}, 1.0)]),
        (
            ["origin=Russian:0.7,Greek:0.3"],
            [({"origin": "Russian"}, 0.7), ({"origin": "Greek"}, 0.3)],
        ),
        (
            ["origin=Russian:3,Greek", "era=1900:0.5,1800:2"],
            [
                ({"origin": "Russian", "era": "1900"}, 1.5), ({"origin": "Russian", "era": "1800"}, 6.0),
                ({"origin": "Greek", "era": "1900"}, 0.5), ({"origin": "Greek", "era": "1800"}, 2.0),
            ],
        ),
        (['"origin"="Russian":2'], [({"origin": "Russian"}, 2.0)]),
        (['origin="a:b,c=\\"d\\""'], [({"origin": 'a:b,c="d"'}, 1.0)]),
    ],
)  # fmt: skip
def test_label_options_are_read(values, expected):
    assert choices(values, labelled()) == expected


def test_a_label_with_marks_is_taken_as_it_is_or_as_a_json_string():
    names = ("12:30", "a", "a,b", "a:b", "a=b")
    model = labelled(columns=(Column("", names, (1,) * 5),))
    for name in names:
        for written in (name, json.dumps(name)):
            assert choices([written], model) == [({"": name}, 1.0)]
    assert choices(['"a,b":2,a:1,"12:30"'], model) == [
        ({"": "a,b"}, 2.0),
        ({"": "a"}, 1.0),
        ({"": "12:30"}, 1.0),
    ]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["Russian"], "does not say of which column"),
        (["origin=Russian", "origin=Greek"], "given twice"),
        (["origin=Russian:x"], "the weight of 'Russian' is x"),
        (["origin=Russian:0"], "the weight of 'Russian' is 0"),
        (["origin=Russian:-1"], "the weight of 'Russian' is -1"),
        (["origin=Russian:1:2"], "a : in the wrong place"),
        (['origin="Russian'], "no JSON string"),
        (['origin="Russian"x'], "after a JSON string"),
    ],
)
def test_label_options_that_cannot_be_read_are_errors(values, message):
    with pytest.raises(ConfigError, match=message):
        api.given([(labelled(), 1.0)], lambda model: choices(values, model))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"origin": "Rusian"}, "did you mean Russian?"),
        ({"orgin": "Russian"}, "no labels named 'orgin': it has origin, era"),
        ("Russian", "no labels named ''"),
    ],
)
def test_what_the_model_has_never_seen_is_an_error(labels, message):
    with pytest.raises(VocabularyError) as caught:
        api.given(labelled(), labels)
    assert message in str(caught.value)
    with pytest.raises(VocabularyError, match="the model has no labels"):
        api.given(toy(), labels)


def test_models_of_no_labels_stay_as_they_are_in_a_mixture():
    model, plain = labelled(columns=(Column("", ("a", "b"), (1, 1)),)), toy(5)
    found = api.given([(model, 2.0), (plain, 1.0)], lambda m: [({"": "a"}, 0.75), ({"": "b"}, 0.25)])
    assert isinstance(found, Blend)
    assert found.parts[2] is plain
    assert found.weights == (1.5, 0.5, 1.0)


# --- strength --------------------------------------------------------------------------------------


def log_p(network: Any, text: str, characters: str) -> np.ndarray:
    state, read = network.initial_state(), network.vocab_size
    for character in [None, *text]:
        read = network.vocab_size if character is None else characters.index(character)
        logits, state = network.step(read, state)
    shifted = logits.astype(np.float64) - logits.max()
    return shifted - np.log(np.exp(shifted).sum())


@pytest.mark.parametrize("strength", [0.0, 0.5, 2.0, 7.0])
def test_strength_leads_away_from_the_model_without_the_label(strength):
    model = labelled(columns=(Column("", ("a", "b"), (1, 1)),))
    mix = [({"": "a"}, 0.75), ({"": "b"}, 0.25)]
    found = api.given([(model, 1.0)], lambda m: mix, strength)
    assert isinstance(found, Blend)
    for text in ("", "a", "bab"):
        parts = [MixedNetwork(Blend((model.given((n,)),), (1.0,))) for n in (0, 1, 2)]
        first, second, without = (log_p(part, text, "\nab") for part in parts)
        mixed = np.log(0.75 * np.exp(first) + 0.25 * np.exp(second))
        expected = without + strength * (mixed - without)
        expected -= np.log(np.exp(expected).sum())
        np.testing.assert_allclose(log_p(MixedNetwork(found), text, "\nab"), expected, atol=1e-5)


@compiled_only
@pytest.mark.parametrize("strength", [0.5, 3.0])
def test_both_engines_write_the_same_with_strength(strength, monkeypatch):
    model = labelled(2, characters="\nabcde", columns=(Column("", ("a", "b"), (1, 1)),), hidden_size=12)
    found = api.given(model, "b", strength)
    network, uniforms = MixedNetwork(found), np.random.default_rng(2).random((6, 60))
    written = []
    for path in (PlainPath(network, SampleConfig()), CompiledPath(network, SampleConfig(), kernels, 2)):
        cursors = [Cursor(network.vocab_size, network.initial_state()) for _ in uniforms]
        if isinstance(path, CompiledPath):
            path._pace = AlwaysTogether(1)  # type: ignore[assignment]
        predicted = path.predict([replace(cursor) for cursor in cursors])
        written.append(
            ([ids.tolist() for ids in path.write(cursors, list(uniforms), -1)], predicted.tobytes())
        )
    assert written[0] == written[1]
    let_load(monkeypatch, Ready(after=None))


def test_what_is_written_is_led_by_its_label_unless_strength_says_otherwise(file):
    words = ("sample", "-m", file, "--label", "first", "--count", 20, "--seed", 1)
    written = {
        strength: run(*words, *(("--strength", strength) if strength else ())) for strength in ("", 1, 2)
    }
    assert written[""] == written[2] != written[1]
    for mixture in (("--label", "first:0.5,second:0.5"), ("--label", "first", "-m", file)):
        words = ("sample", "-m", file, *mixture, "--count", 20, "--seed", 1)
        assert run(*words) == run(*words, "--strength", 1)


@pytest.mark.parametrize("option", ["--prompts", "--prompts-json"])
def test_labels_of_prompts_lead_as_far_as_those_of_the_option(file, option):
    prompts = {"--prompts": "second\tcd\n", "--prompts-json": '{"prompt": "cd", "label": "second"}\n'}[option]
    for strength in ((), ("--strength", 1), ("--strength", 9)):
        words = ("-m", file, "--count", 30, "--seed", 4, *strength)
        by_option = run("sample", *words, "--label", "second", "--prompt", "cd")
        assert run("sample", *words, option, "-", stdin=prompts) == by_option
    bare = {"--prompts": "cd\n", "--prompts-json": '"cd"\n'}[option]
    words = ("-m", file, "--count", 30, "--seed", 4)
    assert run("sample", *words, option, "-", stdin=bare) == run("sample", *words, "--prompt", "cd")


def test_no_text_is_written_twice_whatever_the_labels_of_its_prompts(trained):
    """Of three letters after the prompt, there are eight."""
    prompts = ["first\tab", "second\tab", "first\tab", "\tab"] * 2
    settings: dict[str, Any] = {"count": 1, "seed": 1, "length": 3, "echo": True, "only": "ab"}
    plain = ["".join(text) for text in api.sample_each(trained, prompts, **settings)]
    assert len(set(plain)) < len(plain)
    found = list(api.sample_each(trained, prompts, unique=True, **settings))
    texts = ["".join(text) for text in reversed(found)]
    assert len(set(texts)) == 8
    assert [text.label and text.label[""] for text in found] == ["first", "second", "first", None] * 2
    with pytest.raises(SamplingError, match="had been written before"):
        list(api.sample_each(trained, [*prompts, "second\tab"], unique=True, **settings))


def test_strength_of_prompts_needs_a_model_that_knows_labels(tmp_path):
    model_file.save(toy(), tmp_path / "m.safetensors")
    words = ("sample", "-m", tmp_path / "m.safetensors", "--strength", 2, "--prompts", "-")
    result = call(*words, stdin=b"a\n")
    assert result.returncode == 2
    assert b"--strength says how far --label leads" in result.stderr


def test_strength_out_of_range_or_without_a_label_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match="strength is -1"):
        api.given(labelled(), {"origin": "Greek"}, -1)
    with pytest.raises(ConfigError, match="several"):
        api.given([(labelled(), 1.0), (labelled(1), 1.0)], lambda m: [({"era": "1900"}, 1.0)], 2)
    path = tmp_path / "m.safetensors"
    model_file.save(labelled(), path)
    result = call("sample", "-m", path, "--strength", "2")
    assert result.returncode == 2
    assert b"--strength says how far --label leads" in result.stderr


# --- commands --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def file(trained, tmp_path_factory):
    path = tmp_path_factory.mktemp("file") / "m.safetensors"
    model_file.save(trained, path)
    return path


def run(*words: object, stdin: str = "") -> str:
    result = call(*words, stdin=stdin.encode())
    assert result.returncode == 0, result.stderr
    return result.stdout.decode()


def test_classify_says_each_lines_most_probable_label_by_bayes(file, trained):
    lines = ["abba", "cdcd", "abcd", "zzz"]
    found = run("classify", "-m", file, "-", stdin="".join(line + "\n" for line in lines))
    rows = [row.split("\t") for row in found.splitlines()]
    assert [row[2] for row in rows] == lines
    assert [row[0] for row in rows][:2] == ["first", "second"]
    models = [api.given(trained, label) for label in ("first", "second")]
    expected = list(api.classify(models, [_lines(file, lines)], prior=[1, 1]))
    for row, line in zip(rows, expected[0], strict=True):
        assert float(row[1]) == pytest.approx(max(line.posterior), abs=1e-4)


def _lines(file, lines):
    path = file.parent / "lines.txt"
    path.write_text("".join(line + "\n" for line in lines))
    return path


def test_classify_weighs_labels_by_their_counts_unless_a_prior_is_given(file, trained, tmp_path):
    uneven = replace(trained, columns=(replace(trained.columns[0], counts=(999, 1)),))
    path, lines = tmp_path / "m.safetensors", _lines(file, ["abcd"])
    model_file.save(uneven, path)
    ((line,),) = api.classify([uneven], lines)
    ((even,),) = api.classify([uneven], lines, prior=[1, 1])
    assert line.bits == even.bits
    odds = [p.posterior[0] / p.posterior[1] for p in (line, even)]
    assert odds[0] == pytest.approx(999 * odds[1], rel=1e-9)
    as_json = json.loads(run("classify", "-m", path, "--json", "--prior", "1,1", lines))
    assert as_json["posterior"].keys() == {"first", "second"}
    assert as_json["posterior"]["first"] == pytest.approx(even.posterior[0])


def test_classify_by_another_column_and_its_errors(file, tmp_path):
    path = tmp_path / "two.safetensors"
    model_file.save(labelled(), path)
    eras = run("classify", "-m", path, "--by", "era", "-", stdin="ab\n")
    assert eras.split("\t")[0] in COLUMNS[1].labels
    assert run("classify", "-m", path, "-", stdin="ab\n").split("\t")[0] in COLUMNS[0].labels
    result = call("classify", "-m", path, "--by", "eras", "-", stdin=b"ab\n")
    assert (result.returncode, b"no labels named 'eras'" in result.stderr) == (1, True)
    plain = tmp_path / "plain.safetensors"
    model_file.save(toy(), plain)
    assert call("classify", "-m", plain, "-", stdin=b"ab\n").returncode == 2
    assert call("classify", "-m", plain, "-m", plain, "--by", "era", "-", stdin=b"ab\n").returncode == 2


def test_labels_that_share_a_network_score_as_if_each_had_one_of_its_own(trained, file):
    from charrnn.scoring.surprisal import Scorer

    models = api.by_label(trained)
    first = Scorer(models[0])
    shared = [first, first.of(models[1])]
    text = "abab\ncdcdcd\nacbd\n"
    for _ in range(2):
        for scorer, model in zip(shared, models, strict=True):
            np.testing.assert_array_equal(scorer.lines(text)[0], Scorer(model).lines(text)[0])


@pytest.mark.parametrize("command", ["sample", "next", "enumerate", "score", "fill"])
def test_commands_take_a_label(file, trained, command):
    words = {
        "sample": ["--count", 3, "--seed", 1, "--strength", 1], "next": ["a"], "enumerate": ["-n", 3],
        "score": ["-"], "fill": ["a?b", "-n", 3],
    }[command]  # fmt: skip
    plain = file.parent / "given.safetensors"
    model_file.save(api.given(trained, "second"), plain)
    found = run(command, *words, "-m", file, "--label", "second", stdin="cdcd\n")
    assert found == run(command, *words, "-m", plain, stdin="cdcd\n")
    assert found != run(command, *words, "-m", file, stdin="cdcd\n")


def test_a_mixture_writes_with_either_label(file):
    text = run("sample", "-m", file, "--label", "first:0.5,second:0.5", "--count", 40, "--seed", 1)
    words = text.split()
    assert any(set(word) <= set("ab") for word in words)
    assert any(set(word) <= set("cd") for word in words)
    result = call("score", "-m", file, "--label", "first:0.5,second:0.5", "-", stdin=b"ab\n")
    assert result.returncode == 2
    assert b"mixture" in result.stderr


def test_what_is_compressed_with_a_label_is_decompressed_with_it(file, tmp_path):
    text, packed = b"ababab\nbabab\n" * 30, tmp_path / "packed.crnn"
    assert call("compress", "-m", file, "--label", "first", "-o", packed, stdin=text).returncode == 0
    assert call("decompress", "-m", file, "--label", "first", packed).stdout == text
    assert call("decompress", "-m", file, packed).returncode == 1
    other = tmp_path / "other.crnn"
    call("compress", "-m", file, "--label", "second", "-o", other, stdin=text)
    assert packed.stat().st_size < other.stat().st_size


def test_prompts_may_have_labels(file):
    prompts = "first\ta\nfirst\tb\nsecond\tc\nd\n\tab\n"
    found = run("sample", "-m", file, "--prompts", "-", "--echo", "--seed", 4, stdin=prompts).splitlines()
    assert [line[0] for line in found] == ["a", "b", "c", "d", "a"]
    assert set(found[0] + found[1]) <= set("ab")
    assert set(found[2]) <= set("cd")
    # Each text is the one of its number, whatever the labels of the others.
    alone = run(
        "sample", "-m", file, "--label", "first", "--prompts", "-", "--echo", "--seed", 4, stdin="x\nb\n"[2:]
    )
    assert (
        alone.splitlines()[0]
        == run(
            "sample", "-m", file, "--prompts", "-", "--echo", "--seed", 4, stdin="first\tb\n"
        ).splitlines()[0]
    )
    result = call("sample", "-m", file, "--prompts", "-", "--seed", 1, stdin=b"first\ta\nthird\tb\n")
    assert result.returncode == 1
    assert result.stdout.count(b"\n") == 1
    assert b"line 2 of the prompts: the model has never seen the label 'third'" in result.stderr


def test_numbers_of_texts_run_through_all_labels(trained):
    prompts = ["first\ta", "second\tc", "second\td", "first\tb"]
    found = ["".join(text) for text in api.sample_each(trained, prompts, seed=3, count=2)]
    model = api.given(trained, "second")
    expected = ["".join(text) for text in api.sample_each(model, ["a", "c", "d", "b"], seed=3, count=2)]
    assert found[2:6] == expected[2:6]


def test_info_lists_labels_with_their_counts(file, tmp_path):
    assert "labels        2: first 200, second 200\n" in run("info", file)
    assert json.loads(run("info", file, "--json"))["labels"] == [
        {"name": "", "labels": ["first", "second"], "counts": [200, 200]}
    ]
    two = tmp_path / "two.safetensors"
    model_file.save(labelled(), two)
    assert "labels      origin, 2: Greek 1, Russian 3\n            era, 2: 1800 2, 1900 2\n" in run(
        "info", two
    )


def test_training_says_which_labels_it_read(corpus_file, tmp_path):
    result = call(
        "train", corpus_file, "--labels", "--steps", 2, "--hidden-size", 8, "-o", tmp_path / "m.safetensors"
    )
    assert b"labels    2 different, of 400 texts: first 200, second 200\n" in result.stderr
    both = call("train", corpus_file, "--labels", "--label-by", "file")
    assert both.returncode == 2


def test_labels_may_stand_in_a_field_of_a_table(corpus_file, tmp_path):
    table, out = tmp_path / "words.csv", tmp_path / "m.safetensors"
    rows = [line.split("\t") for line in corpus_file.read_text().splitlines()]
    table.write_text("word,kind\n" + "".join(f"{word},{kind}\n" for kind, word in rows))
    options = ("--hidden-size", 8, "--steps", 20, "--threads", 2, "-o", out)
    run("train", table, "--lines", "--field", "word", "--label-field", "kind", *options)
    model = api.load(out)
    assert model.columns == (Column("kind", ("first", "second"), (200, 200)),)
    assert "the field 'word' of tables, labels in 'kind'" in run("info", out)
    assert api.evaluate(model, table).characters == 2800
    one, named = (
        run("sample", "-m", out, "--label", label, "--seed", 1) for label in ("first", "kind=first")
    )
    assert one == named != ""
    assert api.given(model, "first").tensors.keys() == api.given(model, {"kind": "first"}).tensors.keys()
    for filter_ in ("score", "classify"):
        found = run(filter_, "-m", out, table)
        assert [row.split("\t")[-1] for row in found.splitlines()] == [word for _, word in rows]
    both = call("train", table, "--labels", "--field", "word", "-o", tmp_path / "n.safetensors")
    assert both.returncode == 2
    assert b"give --label-field NAME" in both.stderr


def test_a_damaged_or_plain_model_has_no_labels_to_give(tmp_path):
    path = tmp_path / "m.safetensors"
    model_file.save(checkpoint(), path)
    result = call("sample", "-m", path, "--label", "Russian")
    assert result.returncode == 1
    assert b"the model has no labels: train one with --labels" in result.stderr
