"""Counts that go on counting: they are those of the naive reference, sum to one, and learn what they read."""

from __future__ import annotations

import math

import naive
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from charrnn.config import TextConfig
from charrnn.counts.growing import GrowingCounts
from charrnn.vocabulary import Vocabulary

CHARACTERS = "\n abcd"
V = len(CHARACTERS)
MANY = "".join(map(chr, range(300, 600)))

pytestmark = pytest.mark.compiled


def growing(characters=CHARACTERS, slots=1 << 16, **text):
    return GrowingCounts(Vocabulary(characters), TextConfig(**text), slots)


def text_of(ids, V, starts=()):
    """x, y and reset of ids, in documents that begin at 0 and at `starts`."""
    y = np.asarray(ids, np.int32)
    x = np.concatenate([[V], y[:-1]]).astype(np.int32)
    reset = np.zeros(len(y), np.bool_)
    reset[[0, *starts]] = True
    x[reset] = V
    return x, y, reset


def read(counts, logits, ids, starts=()):
    return counts.read(logits, *text_of(ids, logits.shape[1], starts), counts.nothing())


def some_text(seed, T, V, scale=1.0):
    """Characters that repeat themselves, now and then with an error, and a model's logits."""
    rng = np.random.default_rng(seed)
    ids = np.resize(rng.integers(0, V, 23), T)
    errors = rng.random(T) < 0.1
    ids[errors] = rng.integers(0, V, errors.sum())
    return ids.astype(np.int32), rng.normal(scale=scale, size=(T, V)).astype(np.float32)


@pytest.mark.parametrize(
    ("characters", "T"), [(CHARACTERS, 500), ("ab", 200), ("".join(map(chr, range(300, 600))), 12)]
)
def test_they_are_those_of_the_naive_reference(characters, T):
    """Also beyond the decisions of a large vocabulary, and in a document that begins in between."""
    V = len(characters)
    ids, logits = some_text(1, T, V)
    counts = growing(characters, slots=1 << 20)  # so that none is given away
    reference = naive.GrowingCounts(V, counts.grown.letters)
    starts = (T // 3,)
    found = read(counts, logits, ids, starts)
    expected, document = [], [V]
    for t, character in enumerate(ids.tolist()):
        if t in starts:
            document = [V]
        expected.append(-math.log(reference.probabilities(logits[t], document)[character]))
        reference.learn(logits[t], document, character)
        document.append(character)
    np.testing.assert_allclose(found, expected, atol=2e-6)
    past = counts.after(counts.nothing(), np.array([V, *ids[starts[0] :]], np.int32))
    np.testing.assert_allclose(
        counts.predict(logits[0], past), reference.probabilities(logits[0], document), rtol=2e-5, atol=1e-9
    )


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 80), st.sampled_from([0.1, 3.0, 100.0]))
def test_the_probabilities_of_all_characters_sum_to_one_and_are_those_that_are_read(seed, T, scale):
    ids, logits = some_text(seed, T + 1, V, scale)
    counts = growing()
    x, y, reset = text_of(ids, V)
    past = counts.nothing()
    counts.read(logits[:T], x[:T], y[:T], reset[:T], past)
    before = counts.grown.slots.copy(), counts.grown.weights.copy()
    p = counts.predict(logits[T], counts.after(past if T else counts.nothing(), x[T:]))
    np.testing.assert_array_equal(before[0], counts.grown.slots)  # to predict is not to learn
    np.testing.assert_array_equal(before[1], counts.grown.weights)
    assert p.min() > 0
    assert p.sum() == pytest.approx(1, abs=1e-12)
    (nats,) = counts.read(logits[T:], x[T:], y[T:], reset[T:], past)
    assert nats == pytest.approx(-math.log(p[y[T]]), abs=1e-12)


@pytest.mark.parametrize(
    "row", [[np.nan] * V, [np.inf] * V, [-np.inf] * V, [np.inf, 0, -np.inf, np.nan, 1, 2]]
)
def test_logits_that_are_not_finite_still_give_probabilities(row):
    counts = growing()
    logits = np.array([row], np.float32)
    p = counts.predict(logits[0], counts.nothing())
    assert p.sum() == pytest.approx(1, abs=1e-9)
    assert np.isfinite(read(counts, logits, [1])).all()


def test_a_text_that_repeats_itself_becomes_easy():
    ids, logits = some_text(3, 2000, V)
    nats = read(growing(), logits, ids)
    alone = -np.log(np.exp(logits) / np.exp(logits).sum(1, keepdims=True))[np.arange(2000), ids]
    assert nats[-500:].mean() < 0.6 * alone[-500:].mean()


def test_what_comes_later_changes_nothing_before():
    ids, logits = some_text(4, 100, V)
    other = ids.copy()
    other[60:] = (other[60:] + 1) % V
    before, after = read(growing(), logits, ids), read(growing(), logits, other)
    np.testing.assert_array_equal(before[:60], after[:60])
    assert before[60] != after[60]


def test_memory_is_bounded_and_new_things_are_still_learned_in_little_of_it():
    """Of 256 slots, those that were asked least are given away."""
    counts = growing(slots=256)
    ids, logits = some_text(5, 3000, V)
    assert np.isfinite(read(counts, logits, ids)).all()
    again = np.resize(np.array([2, 3], np.int32), 400)
    nats = read(counts, np.zeros((400, V), np.float32), again)
    assert nats[-100:].mean() < 0.7 * math.log(V)
    assert counts.predict(logits[0], counts.nothing()).sum() == pytest.approx(1, abs=1e-12)


def test_a_character_that_is_given_is_followed_but_not_learned():
    ids, logits = some_text(6, 2, V)
    counts = growing()
    x, _, reset = text_of(ids, V)
    past = counts.nothing()
    nats = counts.read(logits, x, np.full(2, -1, np.int32), reset, past)
    assert nats.tolist() == [0, 0]
    assert not counts.grown.slots.any()
    np.testing.assert_array_equal(past, counts.after(counts.nothing(), x))


def test_words_are_of_letters_with_their_marks_and_of_bytes_above_127():
    counts = growing("\n 1aé\u0301\u093f中")
    assert counts.grown.letters.tolist() == [False, False, False, True, True, True, True, True]
    assert growing(" a\x80ÿ", bytes=True).grown.letters.tolist() == [False, True, True, True]
