"""How much of a text stands in long runs of another: by comparing all runs, and by their hashes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import documents as texts

from charrnn.counts.learning import repeats
from charrnn.counts.learning.repeats import repeated
from charrnn.text.documents import Documents, Pieces


def share(part: list[int], whole: list[int], run: int) -> float:
    runs = {tuple(whole[n : n + run]) for n in range(len(whole) - run + 1)}
    inside = np.zeros(len(part), np.bool_)
    for n in range(len(part) - run + 1):
        inside[n : n + run] |= tuple(part[n : n + run]) in runs
    return float(inside.mean())


def two(ids: list[int]) -> Documents:
    return texts.make(ids, vocab_size=2)


BITS = st.lists(st.integers(0, 1), min_size=1, max_size=60)


@given(BITS, BITS, st.integers(1, 31))
def test_it_is_the_share_of_characters_in_common_runs(part, whole, run):
    assert repeated(two(part), two(whole), run) == pytest.approx(share(part, whole, run))


@pytest.mark.parametrize("chunk", [1, 7, 100])
def test_runs_are_found_across_chunks_and_in_what_is_left_of_a_text(chunk, monkeypatch):
    monkeypatch.setattr(repeats, "CHUNK", chunk)
    ids = np.random.default_rng(0).integers(0, 2, 90)
    part = replace(two(ids.tolist()), pieces=Pieces.between(np.array([10, 50]), np.array([30, 75])))
    whole = two([1, 1, *ids[:60].tolist()])
    expected = share([*ids[10:30].tolist(), *ids[50:75].tolist()], [1, 1, *ids[:60].tolist()], 9)
    assert 0.2 < expected < 0.9
    assert repeated(part, whole, 9) == pytest.approx(expected)
