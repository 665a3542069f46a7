"""Fields of records in another order in each epoch: what moves, what stays, and how it is asked for."""

from __future__ import annotations

import io
from collections import Counter
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.calls import call
from support.documents import all_ids

from charrnn import api
from charrnn.checkpoint import model_file
from charrnn.config import END, TextConfig, TrainConfig
from charrnn.errors import ConfigError, TrainingError
from charrnn.events import Step
from charrnn.tasks.fields import shuffled
from charrnn.tasks.next_character import NextCharacters, TextFiles
from charrnn.text.corpus import Corpus
from charrnn.text.reading import read

RECORDS = TextConfig(split="%")
SMALL: dict[str, Any] = {
    "hidden_size": 8, "num_layers": 1, "batch_size": 4, "seq_len": 10, "dropout": 0.0, "steps": 12,
}  # fmt: skip


def corpus_of(texts: list[str], text: TextConfig = RECORDS, separator: str = "\n%\n") -> Corpus:
    """Records, none of which is empty."""
    data = "".join(one + separator for one in texts).encode()
    return read(["-"], text, stdin=io.BytesIO(data))


def orders(corpus: Corpus, separator: str, epoch: int, seed: int = 1) -> list[str]:
    """The records as they are read in an epoch."""
    documents = shuffled(corpus.documents, corpus, separator, seed).in_epoch(epoch)
    return corpus.vocabulary.decode(all_ids(documents)).split(corpus.text.end)[:-1]


short_texts = st.lists(st.text("ab|\n", min_size=1, max_size=6), max_size=12)


@given(short_texts, st.sampled_from(["|", "||", "|a|", "\n"]), st.integers(0, 3))
def test_each_record_has_its_own_fields_in_some_order_and_else_nothing_changes(
    texts: list[str], separator: str, epoch: int
) -> None:
    texts = [*texts, f"a{separator}b"]
    found = orders(corpus_of(texts, TextConfig(split="nul"), "\0"), separator, epoch)
    for record, text in zip(found, texts, strict=True):
        assert record in {separator.join(order) for order in permutations(text.split(separator))}


def test_every_order_comes_about_equally_often() -> None:
    corpus = corpus_of(["one | three | five"] * 500)
    found = Counter(record for epoch in range(4) for record in orders(corpus, " | ", epoch))
    assert set(found) == {" | ".join(order) for order in permutations(["one", "three", "five"])}
    assert all(count == pytest.approx(2000 / 6, abs=70) for count in found.values())


def test_the_order_depends_on_the_seed_and_the_epoch_alone() -> None:
    corpus = corpus_of([f"{n}|b|c|d" for n in range(50)])
    assert orders(corpus, "|", 3) == orders(corpus, "|", 3)
    assert orders(corpus, "|", 3) != orders(corpus, "|", 2)
    assert orders(corpus, "|", 3) != orders(corpus, "|", 3, seed=2)


def test_the_order_is_the_same_in_chunks_of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = corpus_of([f"{n}||{'b' * (n % 9)}||c" for n in range(50)])
    whole = orders(corpus, "||", 1)
    for size in (1, 2, 7):
        monkeypatch.setattr("charrnn.tasks.fields.CHUNK", size)
        assert orders(corpus, "||", 1) == whole


@pytest.mark.parametrize(
    ("text", "separator"),
    [
        (TextConfig(lines=True, bytes=True), "é"),
        (TextConfig(lines=True, lowercase=True), "É"),
        (TextConfig(lines=True, normal_form="NFD"), "é"),
    ],
    ids=["bytes", "lowercase", "NFD"],
)
def test_the_separator_is_read_as_the_text_is(text: TextConfig, separator: str) -> None:
    corpus = corpus_of(["1é2é3"] * 30, text, "\n")
    found = set(orders(corpus, separator, 0))
    assert len(found) == 6
    assert {character for record in found for character in record if character.isdigit()} == {*"123"}


@pytest.mark.parametrize("separator", ["@", "a@", "cb", "\n", "b\n", "b" + END])
def test_a_separator_that_never_occurs_is_an_error(separator: str) -> None:
    corpus = corpus_of(["a|b", "c|b"], TextConfig(lines=True), "\n")
    with pytest.raises(TrainingError, match="so there are no fields to shuffle"):
        shuffled(corpus.documents, corpus, separator, 1)


# Runs


@pytest.fixture
def cards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("charrnn.training.run.REPORT_SECONDS", 0.0)
    path = Path("cards.txt")
    path.write_text("".join(f"name {n}|cost {n % 7}|type {'ab'[n % 2]}\n" for n in range(99)))
    return path


LINES = TextConfig(lines=True)
OPTIONS = (
    "--lines", "--hidden-size", 8, "--num-layers", 1, "--batch-size", 4, "--seq-len", 10, "--dropout", 0,
    "--steps", 12, "-q",
)  # fmt: skip


def test_training_reads_other_orders_and_validation_that_of_the_file(cards: Path) -> None:
    texts = TextFiles([cards]).read(LINES)
    task = NextCharacters(texts, TrainConfig(steps=1, shuffle_fields="|"))
    lines = set(cards.read_text().splitlines())
    decode = texts.corpus.vocabulary.decode
    [(_, _, measured)] = task.measured
    assert set(decode(all_ids(measured)).splitlines()) <= lines
    read_lines = decode(all_ids(task._batches.documents(1))).splitlines()
    assert set(read_lines) - lines
    held = set(decode(all_ids(measured)).splitlines())
    as_sets = {frozenset(line.split("|")) for line in read_lines}
    assert as_sets == {frozenset(line.split("|")) for line in lines - held}


def test_orders_change_what_is_learned_and_are_said_by_info(cards: Path) -> None:
    for n, how in enumerate([(), ("--shuffle-fields", "|"), ("--shuffle-fields", "|", "--seed", 2)]):
        assert call("train", cards, *OPTIONS, *how, "-o", f"{n}.safetensors").returncode == 0
    models = [model_file.load(f"{n}.safetensors") for n in range(3)]
    assert len({model.run for model in models}) == 3
    assert len({model.tensors["decoder.weight"].tobytes() for model in models}) == 3
    assert "shuffle_fields" not in models[0].settings
    assert ", shuffle_fields '|', " in call("info", "1.safetensors").stdout.decode()
    assert call("sample", "-m", "1.safetensors", "--seed", 1, "--count", 2).returncode == 0


def test_a_resumed_run_is_bit_for_bit_the_uninterrupted_one(cards: Path) -> None:
    settings = SMALL | {"steps": 120, "text": LINES, "shuffle_fields": "|"}
    list(api.train(cards, out="a.safetensors", **settings))
    asked: list[int] = []
    for event in api.train(cards, out="b.safetensors", stop=lambda: "SIGINT" if asked else None, **settings):
        if isinstance(event, Step) and event.step >= 80:
            assert event.epoch > 1
            asked.append(1)
    with pytest.raises(ConfigError, match="shuffle-fields , is not what the interrupted run has"):
        list(api.train(cards, out="b.safetensors", resume=True, shuffle_fields=","))
    list(api.train(cards, out="b.safetensors", resume=True, shuffle_fields="|"))
    assert Path("a.safetensors").read_bytes() == Path("b.safetensors").read_bytes()


def test_shares_and_orders_go_together(cards: Path) -> None:
    Path("few.txt").write_text("x|yy|zzz\n" * 5)
    texts = TextFiles([cards, "few.txt"]).read(LINES)
    train = TrainConfig(steps=1, val_fraction=0.0, shuffle_fields="|", shares=(1.0, 1.0))
    task = NextCharacters(texts, train)
    lines = texts.corpus.vocabulary.decode(all_ids(task._batches.documents(0))).splitlines()
    few = Counter(line for line in lines if "x" in line)
    assert 9 * few.total() == pytest.approx(task.characters / 2, abs=9)
    assert {frozenset(line.split("|")) for line in few} == {frozenset(["x", "yy", "zzz"])}
    assert len(few) > 1


def test_fields_need_records(cards: Path) -> None:
    result = call("train", cards, "--shuffle-fields", "|")
    assert result.returncode == 2
    assert result.stderr.startswith(
        b"charrnn: error: --shuffle-fields is for fields of records, and this is one text: give --lines, "
    )
    for how in (("--lines",), ("--split", "%")):
        result = call("train", cards, *how, "--shuffle-fields", "")
        assert result.stderr.startswith(
            b"charrnn: error: shuffle-fields is '': give what stands between fields"
        )
