"""The index of a training text: what it finds, what it takes for old, its size, and its file."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import model_files as files
from support.novelty_index import result

from charrnn import api
from charrnn.checkpoint import model_file
from charrnn.config import TextConfig
from charrnn.errors import CheckpointError
from charrnn.events import Finished
from charrnn.inference.constrained_step import BASES, contains, hash_begun
from charrnn.text import novelty
from charrnn.text.novelty import BloomBuilder, Novelty
from charrnn.text.reading import read


def build(text: str, *, by_line: bool = False, cut: int = 10**9) -> Novelty:
    pieces = [text[n : n + cut] for n in range(0, len(text), cut)]
    return result(Novelty.build(lambda: pieces, end="\n" if by_line else ""))


def has_run(index: Novelty, run: str) -> bool:
    """As the loop finds it: the hash is begun with all but the last character."""
    ids, points = list(range(len(run))), [ord(c) for c in run]
    hashes = (
        (hash_begun(ids, len(run) - 1, len(run) - 1, points, base) * base + points[-1] + 1) % novelty.PRIME
        for base in BASES
    )
    bloom = index.runs[len(run)]
    return contains(bloom.bits, bloom.probes, *hashes)


@given(st.text("ab\né語🙂", max_size=60), st.integers(1, 40))
def test_every_line_and_run_is_found_however_the_text_comes(text, cut):
    index = build(text, cut=cut)
    assert index == build(text)
    assert all(map(index.has_line, text.removesuffix("\n").split("\n") if text else []))
    for length in novelty.GRAMS:
        assert all(has_run(index, text[n : n + length]) for n in range(len(text) - length + 1))


def test_few_others_are_found():
    random = np.random.default_rng(1)
    texts = ["".join(random.choice(list("abcdefgh"), 24)) for _ in range(6000)]
    index = build("\n".join(texts[:3000]) + "\n", by_line=True)
    others = texts[3000:]
    assert np.mean([index.has_line(line) for line in others]) < 0.002
    for length in novelty.GRAMS:
        found = np.mean([has_run(index, line[:length]) for line in others])
        assert found < 0.04
        assert found == pytest.approx(index.runs[length].false_rate, abs=0.01)
    assert index.false_rate(20) == pytest.approx(index.runs[16].false_rate ** 5)


def test_runs_of_lines_end_with_their_line():
    index = build("abcdefg\nhijklmnop\n", by_line=True)
    assert has_run(index, "abcdefg\n")
    assert has_run(index, "ijklmnop")
    assert not has_run(index, "efg\nhijk")
    assert has_run(build("abcdefg\nhijklmnop\n"), "efg\nhijk")


@pytest.mark.parametrize(
    ("most_bits", "by_line", "digest"),
    [
        (8388608, False, "61449e926fadfc0b"),
        (8388608, True, "948a615c79614be0"),
        (65536, False, "c926b5350886d4f1"),
        (65536, True, "5503edd3c338e9ac"),
        (1000, False, "ef454cc2be597796"),
        (1000, True, "5d320f2ca998e911"),
    ],
)
def test_an_index_has_the_bytes_it_always_had(monkeypatch, most_bits, by_line, digest):
    monkeypatch.setattr(novelty, "MOST_BITS", most_bits)
    random = np.random.default_rng(1)
    text = "".join(random.choice(list("abcdefgh é語🙂\n"), 20_000))
    record = json.dumps(build(text, by_line=by_line, cut=700).to_dict())
    assert hashlib.sha256(record.encode()).hexdigest()[:16] == digest


def test_its_size_is_bounded(monkeypatch):
    monkeypatch.setattr(novelty, "MOST_BITS", 1024)
    random = np.random.default_rng(1)
    index = build("".join(random.choice(list("abcd\n"), 20_000)))
    blooms = [index.lines, *index.runs.values()]
    assert [len(bloom.bits) for bloom in blooms] == [128] * 3
    assert all(bloom.probes == 1 for bloom in blooms)


def test_a_training_run_writes_an_index_and_files_say_the_same_again(tmp_path):
    lines = [f"{a}{b}{a}" for a in "abcdefgh" for b in "ijklmnop"]
    corpus = tmp_path / "names.txt"
    corpus.write_text("\n".join(lines))
    out = tmp_path / "m.safetensors"
    settings = {"text": TextConfig(lines=True), "steps": 2, "hidden_size": 4, "embedding_size": 4}
    events = list(api.train(corpus, out=out, threads=1, **settings))
    assert isinstance(events[-1], Finished)
    model = api.load(out)
    assert model.novelty is not None
    assert all(map(model.novelty.has_line, lines))  # those of validation, too
    assert not model.novelty.has_line("nothing like it")
    before = out.read_bytes()
    model_file.save(model, out)
    assert out.read_bytes() == before
    texts = ["".join(text) for text in api.sample(out, count=20, novel=True, temperature=2.0, seed=1)]
    assert not {text.removesuffix("\n") for text in texts} & set(lines)


def test_lines_of_several_files_are_kept_apart(tmp_path):
    (tmp_path / "a.txt").write_text("one\ntwo")
    (tmp_path / "b.txt").write_text("three\nfour\n")
    index = result(read([tmp_path / "a.txt", tmp_path / "b.txt"]).novelty())
    assert all(map(index.has_line, ["one", "two", "three", "four"]))
    assert not index.has_line("twothree")


def test_a_model_without_an_index_has_the_bytes_it_always_had(tmp_path):
    path = tmp_path / "m.safetensors"
    model_file.save(files.checkpoint(), path)
    record = json.loads(files.unpack(path.read_bytes())[0]["__metadata__"]["charrnn"])
    assert record["format_version"] == 1
    assert "novelty" not in record
    assert model_file.load(path).novelty is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda index: index.clear(), "no lines and runs"),
        (lambda index: index.update(lines=7), "no bits and probes"),
        (lambda index: index["lines"].update(bits="?"), "no base64"),
        (lambda index: index["lines"].update(bits=3), "no base64"),
        (lambda index: index["lines"].update(bits=""), "1 to 1048576 bytes"),
        (lambda index: index["lines"].update(probes=0), "1 to 16 probes"),
        (lambda index: index["lines"].update(probes=True), "1 to 16 probes"),
        (lambda index: index["runs"].pop("8"), "the runs of 8 and 16 characters"),
    ],
)
def test_a_damaged_index_is_named(change, words, tmp_path):
    path = tmp_path / "m.safetensors"
    model = files.checkpoint()
    index = build("some text\n")
    model_file.save(model_file.replace(model, novelty=index), path)
    path.write_bytes(files.with_record(path.read_bytes(), lambda record: change(record["novelty"])))
    with pytest.raises(CheckpointError, match=words):
        model_file.load(path)


def test_a_filter_of_nothing_holds_nothing():
    empty = BloomBuilder(8, 0).bloom()
    assert empty.false_rate == 0.0
    assert not contains(empty.bits, empty.probes, 5, 7)
