"""Gaps filled by a network that reads in both directions: what is hidden, what is found, and the run."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.calls import call

from charrnn import api
from charrnn.checkpoint.model_file import Checkpoint
from charrnn.config import ModelConfig, TextConfig
from charrnn.errors import ConfigError
from charrnn.nn.reader import Reader
from charrnn.nn.workers import Workers
from charrnn.search.gap_filling import GapFiller
from charrnn.tasks.reading.fill import MEAN_RUN, PIECE, hidden, pieces_of
from charrnn.text.reading import read
from charrnn.vocabulary import Vocabulary

CHARACTERS = "\nabc"
V = len(CHARACTERS)
TINY: dict[str, Any] = {
    "hidden_size": 8, "num_layers": 1, "embedding_size": 4, "steps": 6, "task": "fill", "batch_size": 4,
}  # fmt: skip


def model(seed: int = 1, **text: Any) -> Checkpoint:
    config = ModelConfig(V, hidden_size=5, num_layers=1, embedding_size=3, kind="filler")
    rng = np.random.default_rng(seed)
    tensors = {n: rng.normal(0, 1.0, s).astype(np.float32) for n, s in config.parameter_shapes().items()}
    return Checkpoint(config, Vocabulary(CHARACTERS), TextConfig(**text), tensors)


def log_probability(checkpoint: Checkpoint, pattern: str, filled: str) -> float:
    """The sum over the hidden characters, each told where the network is surest; no gap has a line end."""
    reader = Reader(checkpoint.config, workers=Workers(1))
    reader.load_tensors(checkpoint.tensors)
    ids = np.array([V if c == "?" else CHARACTERS.index(c) for c in pattern], np.int32)
    total = 0.0
    while (ids == V).any():
        logits = reader.forward(ids[:, None], np.array([len(ids)]))[:, 0].astype(np.float64)
        logits[:, 0] = -np.inf
        logs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        gaps = np.flatnonzero(ids == V)
        place = gaps[logs[gaps].max(axis=1).argmax()]
        ids[place] = CHARACTERS.index(filled[place])
        total += float(logs[place, ids[place]])
    return total


@pytest.mark.parametrize("pattern", ["a?b", "?b??c", "???"])
def test_a_wide_beam_finds_all_fillings_with_their_probabilities(pattern: str) -> None:
    checkpoint, gaps = model(), pattern.count("?")
    found = api.fill(checkpoint, pattern, count=3**gaps)
    expected = set()
    for chosen in itertools.product("abc", repeat=gaps):
        letters = iter(chosen)
        expected.add("".join(next(letters) if c == "?" else c for c in pattern))
    assert {one.text for one in found} == expected
    assert [one.log_probability for one in found] == sorted((o.log_probability for o in found), reverse=True)
    for one in found:
        assert one.log_probability == pytest.approx(log_probability(checkpoint, pattern, one.text), abs=1e-4)
        assert not one.certain
    assert sum(one.probability for one in found) == pytest.approx(1)


def test_fillings_do_not_depend_on_the_number_of_threads_nor_on_what_is_filled_beside_them() -> None:
    pattern = "ab????ca_b*c"
    one, three = (GapFiller(model(), threads).fill(pattern, gap=6) for threads in (1, 3))
    assert one == three
    assert len({filling.text for filling in one}) == len(one) == 10


def test_each_length_that_a_gap_may_have_is_tried() -> None:
    found = {filling.text for filling in api.fill(model(), "a_c", count=300, gap=3)}
    assert {len(text) for text in found} == {3, 4, 5}
    assert all(text[0] + text[-1] == "ac" for text in found)
    assert "\n" not in "".join(found)
    shortest = {filling.text for filling in api.fill(model(), "a*", count=300, gap=1)}
    assert shortest == {"a", "aa", "ab", "ac"}


def test_many_open_gaps_are_searched_one_after_the_other() -> None:
    found = api.fill(model(), "a_b*c_a*b", count=2, gap=8)  # 4,096 combinations of lengths
    assert len(found) == 2
    assert all(filling.text[0] == "a" and filling.text[-1] == "b" for filling in found)


def test_what_only_writers_can_do_is_refused() -> None:
    with pytest.raises(ConfigError, match="--part is for models that write"):
        api.fill(model(), "a?b", part=True)
    with pytest.raises(ConfigError, match="the pattern has no gap"):
        api.fill(model(), "ab")


def test_runs_of_all_lengths_are_hidden() -> None:
    gaps = hidden((400, 200), np.random.default_rng(3))
    assert 0.2 < gaps.mean() < 0.3
    column = gaps[:, 0]
    edges = np.flatnonzero(np.diff(np.concatenate([[0], column.astype(np.int8), [0]])))
    runs = edges[1::2] - edges[::2]
    assert runs.max() > MEAN_RUN
    assert runs.min() == 1


def test_what_is_hidden_is_another_part_in_each_epoch_and_never_read(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("abc" * 200, encoding="utf-8")
    corpus = read([path])
    whole = pieces_of(corpus, len(corpus.vocabulary))
    assert whole.texts.lengths.tolist() == [PIECE] * 4 + [600 - 4 * PIECE]
    rows = np.array([0, 2])
    first, second = (whole.batch(rows, 3, (1, epoch, 6)) for epoch in (0, 1))
    assert (first.targets == second.targets).all()
    assert (first.weights != second.weights).any()
    for batch in (first, second):
        assert ((batch.x == 3) == (batch.weights > 0)).all()
        assert (batch.x == batch.targets)[batch.weights == 0].all()
        assert not batch.weights[:, 2].any()  # a column that only fills the batch up


def test_lines_and_long_lines_are_pieces_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("abc\n" + "b" * (PIECE + 5) + "\nc\n", encoding="utf-8")
    corpus = read([path], TextConfig(lines=True))
    whole = pieces_of(corpus, len(corpus.vocabulary))
    rows = [corpus.vocabulary.decode(whole.texts.row(n)) for n in range(len(whole.texts))]
    assert rows == ["abc", "b" * PIECE, "b" * 5, "c"]


def trained(path: Path, out: Path, **settings: Any) -> bytes:
    for _ in api.train(path, out=out, force=True, **TINY | settings):
        pass
    return out.read_bytes()


def test_a_run_has_the_same_bytes_on_any_number_of_threads_and_after_an_interruption(tmp_path: Path) -> None:
    text = tmp_path / "a.txt"
    text.write_text("the cat sat on the mat\nand the dog ran\n" * 40, encoding="utf-8")
    one = trained(text, tmp_path / "1.safetensors", threads=1)
    assert trained(text, tmp_path / "3.safetensors", threads=3) == one
    out, steps = tmp_path / "r.safetensors", iter(range(4))
    for _ in api.train(text, out=out, stop=lambda: None if next(steps, None) is not None else "now", **TINY):
        pass
    for _ in api.train(text, out=out, resume=True, **TINY):
        pass
    assert out.read_bytes() == one


def test_a_run_goes_on_from_a_filler_with_other_characters(tmp_path: Path) -> None:
    for name, line in (("a", "abcd abdc "), ("b", "xbcd xbda ")):
        (tmp_path / f"{name}.txt").write_text(line * 80, encoding="utf-8")
    first = tmp_path / "a.safetensors"
    trained(tmp_path / "a.txt", first)
    words = ["--task", "fill", "--init-from", "a.safetensors", "--steps", 2, "-o", "b.safetensors"]
    done = call("train", "b.txt", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr.decode()
    before, after = api.load(first), api.load(tmp_path / "b.safetensors")
    assert after.vocabulary.characters == " abcdx"
    ids = before.vocabulary.positions_in(after.vocabulary)
    near = after.tensors["embedding.weight"][ids] - before.tensors["embedding.weight"]
    assert np.abs(near).max() < 0.1
