"""Grams that are divided among parts and ranks: the counts are those of the whole text, byte for byte."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
from support.threaded_ranks import ThreadedRanks, led

from charrnn.counts.learning import divided, levels
from charrnn.counts.learning.building import build
from charrnn.counts.learning.divided import DividedGrams, built, gathered
from charrnn.counts.learning.grams import Grams
from charrnn.ranks import arrays
from charrnn.ranks.ranks import ALONE
from charrnn.text.documents import Documents, Pieces


@pytest.fixture(autouse=True)
def short_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name, value in (
        (arrays, "BLOCK", 512), (arrays, "LEAST", 1024), (divided, "PART", 1000), (divided, "TOGETHER", 700),
        (divided, "SAMPLE", 100),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, value)


def text(V: int, *, lines: bool, N: int = 6000) -> Documents:
    """Words of few letters in several documents, of which some pieces are left out."""
    random = np.random.default_rng(V)
    words = [random.integers(0, V, n) for n in random.integers(1, 6, 40)]
    ids = np.concatenate([words[n] for n in random.zipf(1.3, N) % 40])[:N].astype(np.min_scalar_type(V - 1))
    bounds = np.unique([0, *random.integers(1, N, 30), N])
    pieces = Pieces.between(bounds[:-1:2], bounds[1::2])
    if lines:
        return Documents(ids, V, np.zeros(1, np.int64), 1, pieces)
    starts = np.unique([0, *random.integers(1, pieces.total, 6)])
    return Documents(ids, V, starts, -1, pieces, np.setdiff1d(pieces.first, starts))


def same(found: Any, wanted: Any) -> None:
    for field in fields(wanted):
        own, other = getattr(found, field.name), getattr(wanted, field.name)
        np.testing.assert_array_equal(own, other, field.name)
        assert getattr(own, "dtype", None) == getattr(other, "dtype", None)


def both(documents: Documents, order: int, most_bytes: int | None, ranks: Any = None, **how: Any) -> None:
    shared = of_ranks(documents, ranks)
    aside = Documents(documents.ids[:3000], documents.vocab_size, np.zeros(1, np.int64), documents.end)
    found, whole = gathered(shared, order), Grams.of(documents, order)
    assert isinstance(found, DividedGrams)
    assert found.division.parts > 2
    same(built(found, most_bytes, **how), build(whole, most_bytes, **how))
    more = Grams.of(of_ranks(aside, ranks), order)
    same(built(found.merged(more), most_bytes), build(whole.merged(more), most_bytes))


def of_ranks(documents: Documents, ranks: Any) -> Documents:
    if ranks is None:
        return documents
    buffer = arrays.SharedBuffer(documents.ids.dtype, ranks)
    buffer.append(documents.array)
    return replace(documents, ids=buffer.finish())


@pytest.mark.parametrize(("V", "order"), [(7, 9), (7, 3), (30, 14), (30, 2), (300, 6), (300, 7)])
@pytest.mark.parametrize("lines", [False, True])
def test_divided_counts_are_those_of_the_whole(V: int, order: int, lines: bool) -> None:
    documents = text(V, lines=lines)
    for most_bytes in (None, 4000):
        both(documents, order, most_bytes, once=2)
    both(documents, order, 20_000, exact=True)


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("lines", [False, True])
def test_ranks_count_what_one_process_counts(size: int, lines: bool) -> None:
    documents = text(12, lines=lines)

    def lead(ranks: ThreadedRanks) -> None:
        for most_bytes in (None, 4000):
            both(documents, 6, most_bytes, ranks)

    led(size, lead)


def test_ranks_may_be_more_than_the_parts_of_a_text() -> None:
    documents = Documents(np.zeros(2000, np.uint8), 1, np.zeros(1, np.int64))
    found = led(10, lambda ranks: gathered(of_ranks(documents, ranks), 5))
    assert found.division.parts < 10
    same(led(10, lambda ranks: built(gathered(of_ranks(documents, ranks), 5))), build(Grams.of(documents, 5)))


def test_parts_are_dealt_by_their_sizes() -> None:
    held = divided._balanced([5, 1, 9, 2, 4, 4, 3], 3)
    assert held == [[2], [0, 6, 3], [4, 5, 1]]


def test_large_counts_are_tallied_as_small_ones_are(monkeypatch: pytest.MonkeyPatch) -> None:
    found = levels.levels_of(Grams.of(text(7, lines=False), 4))
    tables = [levels.table(level, is_root=k == 0) for k, level in enumerate(found)]
    monkeypatch.setattr(levels, "_TALLIED", 3)
    for k, (level, wanted) in enumerate(zip(found, tables, strict=True)):
        np.testing.assert_array_equal(levels.table(level, is_root=k == 0), wanted)


def test_a_short_text_is_counted_at_once() -> None:
    documents = text(7, lines=False, N=900)
    assert isinstance(gathered(documents, 5), Grams)
    assert not ALONE.arrays
