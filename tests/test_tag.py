"""Tagging: spans, training, long texts, the filter, figures."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.calls import call
from support.readers import SIZES, reader

from charrnn import api
from charrnn.checkpoint import model_file
from charrnn.checkpoint.model_file import Checkpoint
from charrnn.config import TextConfig
from charrnn.errors import ConfigError
from charrnn.tasks.reading import spans, tag
from charrnn.tasks.reading.tag import Tagger
from charrnn.text.files.lines import Lines

SMALL: dict[str, Any] = {**SIZES, "seed": 1, "batch_size": 4, "threads": 1, "steps": 6}
WORDS = ["ab", "b", "aab", "abba"]


def segmented(count: int, seed: int = 1) -> str:
    """Words without spaces between them, and their tags."""
    random, lines = np.random.default_rng(seed), []
    for _ in range(count):
        words = [WORDS[n] for n in random.integers(0, len(WORDS), random.integers(1, 5))]
        tags = ["S" if len(word) == 1 else "B" + "M" * (len(word) - 2) + "E" for word in words]
        lines.append(f"{''.join(words)}\t{''.join(tags)}\n")
    return "".join(lines)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tag") / "words.tsv"
    path.write_text(segmented(60))
    return path


@pytest.fixture(scope="module")
def model() -> Checkpoint:
    return reader("tagger", "\nab", ("B", "I", "O"))


def trained(corpus: Path, out: Path, **more: Any) -> Checkpoint:
    for _ in api.train(corpus, out=out, task="tag", **{**SMALL, **more}):
        pass
    return api.load(out)


# spans


def naive_spans(tags: list[str]) -> set[tuple[int, int, str]]:
    """By the rules one after another."""
    found, begun, kind = set(), None, ""
    for n, tag_ in enumerate([*tags, "O"]):
        letter, type_ = tag_[0], tag_[2:]
        goes_on = begun is not None and letter not in "OBSU" and type_ == kind
        if begun is not None and not goes_on:
            found.add((begun, n, kind))
            begun = None
        if letter != "O" and begun is None:
            begun, kind = n, type_
        if begun is not None and letter in "ESLU":
            found.add((begun, n + 1, kind))
            begun = None
    return found


@pytest.mark.parametrize(
    ("labels", "scheme"),
    [
        (["B-X", "I-X", "B-Y", "I-Y", "O"], "BIO"),
        (["I-X", "O", "I-Y"], "IO"),
        (["B", "M", "E", "S"], "BMES"),
        (["B-X", "I-X", "E-X", "S-X", "O"], "BIOES"),
        (["B_X", "I_X", "L_X", "U_X", "O"], "BILOU"),
        (["b", "i", "o"], "BIO"),
        (["N", "V"], None),
        (["O", "S"], None),
        (["BX", "IX", "O"], None),
        (["BOY", "I", "O"], None),
    ],
)
def test_a_scheme_is_known_by_its_letters(labels: list[str], scheme: str | None) -> None:
    assert spans.scheme_of(labels) == scheme
    ids = np.array([0, 0])
    assert (spans.compared(ids, ids, labels, np.array([0])) is None) == (scheme is None)


@pytest.mark.parametrize("labels", [["B-X", "I-X", "B-Y", "I-Y", "O"], ["B", "M", "E", "S", "O"]])
def test_spans_are_those_that_the_rules_find_one_after_another(labels: list[str]) -> None:
    for length in (1, 2, 3):
        every = list(itertools.product(range(len(labels)), repeat=length))
        ids, begins = np.array(every).reshape(-1), np.arange(len(every)) * length
        random = np.random.default_rng(length).permutation(len(every))
        other = np.array(every)[random].reshape(-1)
        expected = [naive_spans([labels[n] for n in row]) for row in every]
        found = [expected[n] for n in random]
        result = spans.compared(ids, other, labels, begins)
        assert result is not None
        both = sum(len(a & b) for a, b in zip(expected, found, strict=True))
        sizes = sum(map(len, expected)), sum(map(len, found))
        assert (result.expected, result.found, result.right) == (*sizes, both)
        assert result.precision == both / sizes[1]
        assert result.f1 == pytest.approx(2 / (1 / result.precision + 1 / result.recall))


def test_no_spans_at_all_are_found_perfectly() -> None:
    ids = np.array([2, 2])
    found = spans.compared(ids, ids, ["B", "I", "O"], np.array([0]))
    assert found is not None
    assert (found.f1, found.precision, found.recall) == (1, 1, 1)


# training


def test_a_network_learns_to_segment(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "m.safetensors"
    more = {"hidden_size": 16, "steps": 150, "learning_rate": 0.02, "batch_size": 8}
    model = trained(corpus, out, **more)
    assert model.config.kind == "tagger"
    assert model.columns[0].labels == ("B", "E", "M", "S")
    test = tmp_path / "test.tsv"
    test.write_text(segmented(30, seed=2))
    result = api.evaluate(model, test)
    assert result.accuracy > 0.9
    assert result.spans.scheme == "BMES"
    lines = [line.split("\t") for line in test.read_text().splitlines()]
    found = [line for part in api.tagged(model, _sources(tmp_path, lines)) for line in part]
    wrong = [("".join(line.tags) != tags) for line, (_, tags) in zip(found, lines, strict=True)]
    assert result.right_texts == pytest.approx(1 - np.mean(wrong))
    right = [a == b for line, (_, tags) in zip(found, lines, strict=True)
             for a, b in zip(line.tags, tags, strict=True)]  # fmt: skip
    assert result.accuracy == pytest.approx(np.mean(right))
    assert result.characters == len(right)


def _sources(folder: Path, lines: list[list[str]]) -> Path:
    path = folder / "sources.txt"
    path.write_text("".join(f"{source}\n" for source, _ in lines))
    return path


def test_any_number_of_threads_and_a_resumed_run_give_the_same_file(corpus: Path, tmp_path: Path) -> None:
    files = [tmp_path / f"{name}.safetensors" for name in ("one", "two", "resumed")]
    trained(corpus, files[0])
    trained(corpus, files[1], threads=3)
    steps = 0

    def stop() -> str | None:
        nonlocal steps
        steps += 1
        return "enough" if steps == 3 else None

    *_, last = api.train(corpus, out=files[2], task="tag", stop=stop, **SMALL)
    assert last.reason == "interrupted"
    for _ in api.train(corpus, out=files[2], task="tag", resume=True, threads=2):
        pass
    assert len({file.read_bytes() for file in files}) == 1


def test_a_run_starts_from_another_tagger_with_the_weights_of_what_both_know(
    corpus: Path, tmp_path: Path
) -> None:
    old = trained(corpus, tmp_path / "old.safetensors")
    more = tmp_path / "more.tsv"
    more.write_text("acb\tBXE\na\tS\n" * 9)
    out = tmp_path / "new.safetensors"
    for _ in api.train(more, out=out, task="tag", init_from=tmp_path / "old.safetensors", batch_size=4,
                       steps=1, learning_rate=1e-12, val_fraction=0.0):  # fmt: skip
        pass
    new = api.load(out)
    assert new.columns[0].labels == ("B", "E", "M", "S", "X")
    for name, value in old.tensors.items():
        kept = new.tensors[name]
        if name == "embedding.weight":
            kept = kept[[0, 1, 2]]
        elif name.startswith(("decoder", "crf")):
            kept = kept[:4, :4] if name == "crf.transitions" else kept[:4]
        np.testing.assert_allclose(kept, value, atol=1e-9, err_msg=name)


def test_a_separate_validation_text_may_hold_what_is_new(corpus: Path, tmp_path: Path) -> None:
    held = tmp_path / "held.tsv"
    held.write_text("abz\tBMQ\nab\tBE\n")
    model = trained(corpus, tmp_path / "m.safetensors", val=held)
    assert model.vocabulary.characters == "\nab"
    assert model.best_val_loss is not None
    notes: list[str] = []
    result = api.evaluate(model, held, note=notes.append)
    assert notes == [
        "the model has never seen 1 character of sources", "the model has never seen 1 token of targets",
    ]  # fmt: skip
    assert result.accuracy <= 4 / 5


@pytest.mark.parametrize("setting", ["seq_len", "val_split", "label_dropout", "shuffle_fields"])
def test_settings_of_models_that_write_are_refused(setting: str, corpus: Path, tmp_path: Path) -> None:
    value = {"val_split": "end", "shuffle_fields": "|", "label_dropout": 0.5}.get(setting, 8)
    with pytest.raises(ConfigError, match="is for models that write"):
        trained(corpus, tmp_path / "m", **{setting: value})


# long texts


def test_pieces_of_long_texts_are_learned_from_and_held_out_together(
    tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr(tag, "LONGEST", 3)
    path = tmp_path / "a.tsv"
    path.write_text("abababab\tBIBIBIBI\nab\tBI\n")
    corpus = tag.TaggedFiles([path]).read(TextConfig()).corpus
    examples = tag.tagged(corpus, corpus.vocabulary, corpus.columns[0])
    assert examples.texts.lengths.tolist() == examples.tags.lengths.tolist() == [3, 3, 2, 2]
    assert examples.groups().tolist() == [0, 0, 0, 1]
    assert [corpus.columns[0].labels[n] for n in examples.tags.row(1)] == list("IBI")


def test_a_long_text_is_tagged_in_pieces_with_what_is_beside_them(
    model: Checkpoint, monkeypatch: Any
) -> None:
    text = "".join(np.random.default_rng(1).choice(list("ab"), 100))
    tagger = Tagger(model, 1)
    ((whole, chances),) = tagger.tags([text], probable=True)
    monkeypatch.setattr(tag, "READ", 16)
    monkeypatch.setattr(tag, "BESIDE", 100)
    ((pieces, same),) = tagger.tags([text], probable=True)
    np.testing.assert_array_equal(pieces, whole)
    np.testing.assert_allclose(same, chances, atol=1e-6)
    monkeypatch.setattr(tag, "BESIDE", 0)
    ((alone, _),) = tagger.tags([text])
    expected = [tagger.tags([text[at : at + 16]])[0][0] for at in range(0, 100, 16)]
    np.testing.assert_array_equal(alone, np.concatenate(expected))


# the filter


@pytest.fixture(scope="module")
def file(model: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tagger") / "m.safetensors"
    model_file.save(model, path)
    return path


def test_tag_writes_the_line_and_a_tag_of_each_character(file: Path) -> None:
    result = call("tag", "-m", file, stdin="abba\n\nüa\nb\tb\nlast".encode() + b"\xff")
    assert result.returncode == 0
    lines = [line.rsplit(b"\t", 1) for line in result.stdout.splitlines()]
    assert [line[0] for line in lines] == [b"abba", b"", "üa".encode(), b"b\tb", b"last\xff"]
    assert [len(line[-1]) for line in lines] == [4, 0, 2, 3, 5]
    assert set(b"".join(line[-1] for line in lines)) <= set(b"BIO")
    assert b"standard input is not UTF-8" in result.stderr


def test_json_has_the_probabilities_of_the_tags(file: Path, model: Checkpoint) -> None:
    result = call("tag", "-m", file, "--json", stdin=b"abb\n\n")
    first, second = map(json.loads, result.stdout.splitlines())
    assert (first["line"], first["number"], second["line"]) == ("abb", 1, "")
    assert (second["tags"], second["probabilities"]) == ([], [])
    x = model.vocabulary.encode("abb").astype(np.int32)[:, None]
    shares = Tagger(model).reader.marginals(x, np.array([3]))[:, 0]
    ids = [model.columns[0].labels.index(tag_) for tag_ in first["tags"]]
    np.testing.assert_allclose(first["probabilities"], shares[np.arange(3), ids], atol=1e-6)


def test_tags_that_are_words_have_spaces_between_them(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    model_file.save(reader("tagger", "\nab", ("B-X", "I-X", "O")), path)
    text, tags = call("tag", "-m", path, stdin=b"abab\n").stdout.decode().rstrip("\n").split("\t")
    assert (text, len(tags.split(" "))) == ("abab", 4)


def test_a_line_in_another_form_is_written_as_it_was_if_it_has_as_many_characters(model: Checkpoint) -> None:
    own = Checkpoint(
        model.config, model.vocabulary, TextConfig(targets="characters", normal_form="NFC", lowercase=True),
        model.tensors, columns=model.columns,
    )  # fmt: skip
    ((first, second),) = Tagger(own).lines([Lines("ABé\nABe\u0301\n", "f", 1)], "\n")
    assert (first.text, len(first.tags)) == ("ABé", 3)
    assert (second.text, len(second.tags), second.number) == ("abé", 3, 2)


def test_of_a_very_long_line_the_beginning_is_tagged_and_that_is_said(file: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(tag, "SHOWN", 1000)
    monkeypatch.setattr("charrnn.api.reading.READ_TOGETHER", 512)
    result = call("tag", "-m", file, stdin=b"ab" * 2000 + b"\nb\n")
    first, second = result.stdout.decode().splitlines()
    text, tags = first.split("\t")
    assert (text, len(tags)) == ("ab" * 500, 1000)
    assert second.startswith("b\t")
    assert result.stderr == b"note: of 1 very long line only the beginning is tagged\n"


def test_nuls_separate_texts_as_for_xargs(file: Path) -> None:
    result = call("tag", "-m", file, "-0", stdin=b"a\nb\0b")
    texts = result.stdout.split(b"\0")
    assert [text.rsplit(b"\t", 1)[0] for text in texts] == [b"a\nb", b"b", b""]


def test_eval_prints_accuracy_and_spans(file: Path, tmp_path: Path) -> None:
    path = tmp_path / "test.tsv"
    path.write_text("ab\tBI\nbab\tOBO\n")
    text = call("eval", file, path).stdout.decode()
    assert "of 5 characters have the right tag" in text
    assert "spans (BIO): F1" in text
    values = json.loads(call("eval", file, path, "--json").stdout)
    assert (values["spans"], values["scheme"], values["texts"]) == (2, "BIO", 2)


def test_a_model_of_another_kind_is_refused_by_name(file: Path) -> None:
    for command in ("sample", "score", "rewrite"):
        result = call(command, "-m", file, stdin=b"a\n")
        assert result.returncode == 1
        assert b"charrnn tag is for it" in result.stderr
