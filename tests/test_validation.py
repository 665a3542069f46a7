"""Which part of a text is kept for validation."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.documents import LINES, all_ids, make, make_lines, read_text, start_positions

from charrnn.config import TextConfig, TrainConfig, ValSplit, canonical, split_of
from charrnn.tasks.evaluation import _streams
from charrnn.text import validation
from charrnn.text.batches import Batches
from charrnn.text.documents import Documents
from charrnn.text.validation import BLOCK, unseen

NEWLINE = 0  # of the texts that are made of ids


def split(
    documents: Documents, fraction: float, seed: int = 1, where: ValSplit | None = None
) -> tuple[Documents, Documents]:
    train = TrainConfig(steps=1, val_fraction=fraction, seed=seed, val_split=where)
    return validation.split(documents, train, NEWLINE)


def places(part: Documents) -> np.ndarray[Any, Any]:
    """Where each character of a part stands in the whole text."""
    positions = np.arange(len(part))
    return positions if part.pieces is None else part.pieces.places(positions)


def text_of(paragraphs: int, seed: int = 0) -> np.ndarray[Any, Any]:
    """Ids: paragraphs of a few lines of letters, an empty line between them."""
    random = np.random.default_rng(seed)
    parts = []
    for _ in range(paragraphs):
        for _ in range(random.integers(1, 8)):
            parts += [*random.integers(1, 27, random.integers(10, 80)).tolist(), NEWLINE]
        parts.append(NEWLINE)
    return np.array(parts)


# Lines, and the end of prose


@given(st.integers(2, 400), st.floats(0.001, 0.9))
def test_validation_is_the_last_characters(total: int, fraction: float) -> None:
    documents = make(np.arange(total))
    train, val = split(documents, fraction, seed=1)
    assert np.array_equal(np.concatenate((train.ids, val.ids)), documents.ids)
    assert len(val) == min(max(round(fraction * total), 1), total - 1)
    assert np.shares_memory(train.ids, documents.ids)
    assert np.shares_memory(val.ids, documents.ids)
    assert start_positions(train) == start_positions(val) == [0]


@pytest.mark.parametrize(
    ("starts", "train_starts", "val_starts"),
    [([0], [0], [0]), ([0, 3, 8], [0, 3], [0, 2]), ([0, 6], [0], [0]), ([0, 5, 7, 9], [0, 5], [0, 1, 3])],
)
def test_documents_go_on_starting_where_they_did(
    starts: list[int], train_starts: list[int], val_starts: list[int]
) -> None:
    train, val = split(make(range(10), starts), 0.4, seed=1)
    assert train.starts.tolist() == train_starts
    assert val.starts.tolist() == val_starts


def test_no_validation_when_none_is_wanted() -> None:
    for documents in (make(range(10)), make_lines("a\nb\nc\n")[0]):
        train, val = split(documents, 0.0, seed=1)
        assert np.array_equal(all_ids(train), documents.ids)
        assert len(val) == len(val.starts) == 0


@given(st.lists(st.text("abc", min_size=1), min_size=2, max_size=60), st.floats(0.01, 0.9))
def test_validation_is_that_part_of_the_lines(lines: list[str], fraction: float) -> None:
    lines = [f"{number}{line}\n" for number, line in enumerate(lines)]
    documents, vocabulary = make_lines("".join(lines))
    train, val = split(documents, fraction, seed=3)
    parts = [vocabulary.decode(all_ids(part)).splitlines(keepends=True) for part in (train, val)]
    assert sorted(parts[0] + parts[1]) == sorted(lines)
    for part in parts:
        assert part == sorted(part, key=lambda line: lines.index(line))
        assert part
    assert len(parts[1]) == min(max(round(fraction * len(lines)), 1), len(lines) - 1)
    assert len(start_positions(val)) == len(parts[1])
    assert (train.end, train.vocab_size) == (documents.end, documents.vocab_size)


def test_the_seed_chooses_the_lines() -> None:
    documents, vocabulary = make_lines("".join(f"{number}\n" for number in range(500)))
    choices = [vocabulary.decode(all_ids(split(documents, 0.1, seed)[1])) for seed in (1, 1, 2)]
    assert choices[0] == choices[1] != choices[2]
    numbers = [int(line) for line in choices[0].splitlines()]
    assert len(numbers) == 50
    assert min(numbers) < 100  # not a block of them
    assert max(numbers) > 400


def test_lines_that_cross_chunks_stay_whole() -> None:
    lines = [f"{number}{'x' * 5000}\n" for number in range(300)]
    documents, vocabulary = make_lines("".join(lines))
    train, val = split(documents, 0.3, seed=1)
    both = [vocabulary.decode(all_ids(part)).splitlines(keepends=True) for part in (train, val)]
    assert len(both[1]) == 90
    assert sorted(both[0] + both[1]) == sorted(lines)


@given(st.lists(st.integers(1, 5), min_size=2, max_size=40), st.floats(0.01, 0.9), st.booleans())
def test_parts_of_lines_read_like_copies_of_them(lengths: list[int], fraction: float, ended: bool) -> None:
    ids = np.concatenate([[*[n % 3 + 1] * n, 0] for n in lengths])[: None if ended else -1]
    for part in split(make(ids, end=0), fraction, seed=2):
        copy = make(all_ids(part), end=0, vocab_size=part.vocab_size)
        positions = np.arange(len(part)).reshape(-1, 1)
        for own, copied in zip(part.look_up(positions), copy.look_up(positions), strict=True):
            assert np.array_equal(own, copied)


def test_the_split_copies_no_text() -> None:
    documents = make_lines("".join(f"line {number}\n" for number in range(200)))[0]
    for part in split(documents, 0.3, seed=1):
        assert np.shares_memory(part.ids, documents.ids)


def test_a_single_line_is_all_training() -> None:
    train, val = split(make_lines("abc\n")[0], 0.5, seed=1)
    assert (len(train), len(val)) == (4, 0)


def test_a_last_line_without_an_end_is_a_line() -> None:
    documents = make([1, 0, 1, 0, 2, 2], end=0)
    for seed in range(5):
        train, val = split(documents, 0.34, seed)
        assert len(train) == 4
        assert len(val) == 2


@pytest.mark.parametrize("config", [TextConfig(), LINES], ids=["prose", "lines"])
@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_validation_text_never_reaches_training(config: TextConfig, batch_size: int) -> None:
    text = "".join(f"line {number}\n" for number in range(200))
    plain = read_text(text, config)
    val_text = plain.vocabulary.decode(all_ids(split(plain.documents, 0.2, seed=4)[1]))
    if config.lines:
        chosen = val_text.splitlines()
        marked = "".join(("Ω" * len(line) if line in chosen else line) + "\n" for line in text.splitlines())
    else:
        marked = text.removesuffix(val_text) + "Ω" * len(val_text)
    corpus = read_text(marked, config)
    sentinel = int(corpus.vocabulary.encode("Ω")[0])
    train, val = split(corpus.documents, 0.2, seed=4)
    assert np.count_nonzero(all_ids(val) == sentinel) == marked.count("Ω") > 0
    batches = Batches(train, batch_size, 16, seed=5)
    for epoch in range(6):
        for k in range(batches.windows_per_epoch):
            x, y, _ = batches.window(epoch, k)
            assert sentinel not in x
            assert sentinel not in y


# Blocks of prose


@given(
    st.lists(st.integers(1, 30_000), min_size=1, max_size=6),
    st.floats(0.001, 0.9),
    st.integers(0, 3),
    st.integers(1, 200),
)
def test_blocks_cut_a_text_in_two_and_lose_nothing(
    lengths: list[int], fraction: float, seed: int, every: int
) -> None:
    total = sum(lengths)
    ids = np.where(np.arange(total) % every == every - 1, NEWLINE, 1 + np.arange(total) % 7)
    starts = np.cumsum([0, *lengths[:-1]])
    documents = make(ids, starts)
    train, val = split(documents, fraction, seed, "scattered")
    both = np.concatenate((places(train), places(val)))
    assert np.array_equal(np.sort(both), np.arange(total))
    assert np.all(np.diff(places(train)) > 0)
    assert len(train) > 0
    assert len(val) <= 1.6 * fraction * total + 2
    for part in (train, val):
        positions = np.arange(len(part))
        at = places(part)
        x, y, reset = part.look_up(positions)
        is_start = np.isin(at, starts)
        goes_on = np.concatenate(([False], np.diff(at) == 1)) & ~is_start
        assert np.array_equal(y, ids[at])
        assert np.array_equal(x[is_start], np.full(is_start.sum(), part.vocab_size))  # START
        assert np.array_equal(x[~is_start], ids[at - 1][~is_start])  # at a cut, the character before it
        assert np.array_equal(reset, ~goes_on)


def test_blocks_are_scattered_over_the_text_and_chosen_by_the_seed() -> None:
    documents = make(text_of(3_000))
    found = [places(split(documents, 0.1, seed, "scattered")[1]) for seed in (1, 1, 2)]
    assert np.array_equal(found[0], found[1])
    assert not np.array_equal(found[0], found[2])
    total = len(documents)
    shares = np.histogram(found[0], bins=5, range=(0, total))[0] / (total / 5)
    assert np.all(np.abs(shares - 0.1) < 0.03)


def test_blocks_begin_and_end_where_paragraphs_do_and_are_long() -> None:
    ids = text_of(3_000)
    _, val = split(make(ids), 0.1, 1, "scattered")
    at = places(val)
    first = np.flatnonzero(np.diff(at, prepend=-2) != 1)
    begins, ends = at[first], at[np.append(first[1:], len(at)) - 1] + 1
    assert len(begins) > 20
    for place in (*begins.tolist(), *ends.tolist()):
        assert place in (0, len(ids)) or (ids[place - 1] == ids[place - 2] == NEWLINE != ids[place])
    assert np.all(ends - begins >= BLOCK)


def test_blocks_of_text_without_paragraphs_begin_at_lines() -> None:
    ids = np.where(np.arange(100_000) % 61 == 60, NEWLINE, 1)
    at = places(split(make(ids), 0.1, 1, "scattered")[1])
    begins = at[np.diff(at, prepend=-2) != 1]
    assert np.all((begins == 0) | (ids[begins - 1] == NEWLINE))


def test_each_file_gives_its_share() -> None:
    lengths = [200_000, 100_000, 40_000, *[1_000] * 200, 300_000]
    starts = np.cumsum([0, *lengths[:-1]])
    documents = make(np.ones(sum(lengths), int), starts)
    at = places(split(documents, 0.1, 1, "scattered")[1])
    bounds = [0, 200_000, 300_000, 340_000, 540_000, 840_000]
    for low, high in itertools.pairwise(bounds):
        share = np.count_nonzero((at >= low) & (at < high)) / (high - low)
        assert 0.08 < share < 0.13, (low, high)


def test_many_small_files_give_whole_blocks_between_them() -> None:
    lengths = [500] * 1_000
    documents = make(np.ones(sum(lengths), int), np.cumsum([0, *lengths[:-1]]))
    _, val = split(documents, 0.05, 1, "scattered")
    at = places(val)
    assert np.count_nonzero(np.diff(at) != 1) + 1 <= len(val) // BLOCK + 1


def test_a_large_share_comes_in_no_more_than_so_many_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validation, "MOST_BLOCKS", 10)
    at = places(split(make(np.ones(200_000, int)), 0.5, 1, "scattered")[1])
    assert np.count_nonzero(np.diff(at) != 1) + 1 <= 10


def test_blocks_are_evaluated_side_by_side_each_from_zero() -> None:
    _, val = split(make(text_of(3_000)), 0.1, 1, "scattered")
    streams = _streams(val)
    assert len(streams) > 20
    assert set(streams.tolist()) <= {*val.starts.tolist(), *val.cuts.tolist()}


def test_lines_may_be_kept_from_the_end() -> None:
    documents, vocabulary = make_lines("".join(f"{number}\n" for number in range(100, 120)))
    train, val = split(documents, 0.2, 1, "end")
    assert vocabulary.decode(all_ids(val)) == "116\n117\n118\n119\n"
    assert len(train) == 16 * 4


def test_scattered_is_what_lines_had_before_there_was_a_choice() -> None:
    documents, _ = make_lines("".join(f"{number}\n" for number in range(300)))
    old, new = split(documents, 0.1), split(documents, 0.1, where="scattered")
    assert [all_ids(part).tolist() for part in old] == [all_ids(part).tolist() for part in new]


@pytest.mark.parametrize(
    ("val_split", "lines", "means", "written"),
    [
        (None, False, "end", None),
        ("end", False, "end", None),
        ("scattered", False, "scattered", "scattered"),
        (None, True, "scattered", None),
        ("end", True, "end", "end"),
        ("scattered", True, "scattered", None),
    ],
)
def test_a_split_is_written_only_where_the_first_version_had_another(
    val_split: Any, lines: bool, means: str, written: str | None
) -> None:
    assert split_of(val_split, lines=lines) == means
    assert canonical(val_split, lines=lines) == written


def test_characters_that_training_does_not_show_are_found() -> None:
    corpus, other = make([0, 1, 2, 2], vocab_size=6), make([2, 4, 5, 5, 0], vocab_size=6)
    assert unseen(corpus, other, apart=True) == ([4, 5], 0.6)
    assert unseen(corpus, corpus, apart=True) == ([], 0.0)
    whole = make([*range(20), *range(5), 7, 7, 25, 25, 26], vocab_size=30)
    _, end = split(whole, 0.2)
    assert all_ids(end).tolist() == [4, 7, 7, 25, 25, 26]
    assert unseen(whole, end, apart=False) == ([25, 26], 0.5)
