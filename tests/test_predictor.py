"""What comes next, for many texts side by side."""

from __future__ import annotations

import math

import numpy as np
import pytest
from support.compiled_loop import Ready, let_load
from support.toy_models import log_probabilities, log_probability, toy

import charrnn
from charrnn.inference import sampling
from charrnn.search.predictor import Cursor, Predictor


@pytest.fixture(autouse=True, params=[False, True], ids=["plain", "compiled"])
def path(request, monkeypatch):
    let_load(monkeypatch, Ready(0 if request.param else None))


def test_each_prediction_is_that_of_the_reference():
    checkpoint = toy(characters="\nabcd", lines=False, cell="gru")
    predictor = Predictor(checkpoint)
    found = predictor.predict([predictor.start(text) for text in ("a", "bcd", "ab\ncd")])
    for row, text in zip(found, ("a", "bcd", "ab\ncd"), strict=True):
        np.testing.assert_allclose(row, log_probabilities(checkpoint, "", text)[-1], atol=1e-5)


def test_prose_starts_as_it_is_sampled_and_a_line_of_it_after_a_line_end():
    checkpoint = toy(characters="\n.abc", lines=False)  # to which line ends are usual
    predictor = Predictor(checkpoint)
    found = predictor.predict(
        [predictor.start(), predictor.start(line=True), predictor.start("a", line=True)]
    )
    for row, text in zip(found, (".\n\n", "\n", "a"), strict=True):
        np.testing.assert_allclose(row, log_probabilities(checkpoint, "", text)[-1], atol=1e-5)
    for line in charrnn.enumerate_lines(checkpoint, count=5):
        total = log_probability(checkpoint, "\n", line.text + "\n")
        assert line.log_probability == pytest.approx(total, abs=1e-4)
    for filling in charrnn.fill(checkpoint, "a?b", count=3):
        total = log_probability(checkpoint, "\n", filling.text + "\n")
        assert filling.log_probability == pytest.approx(total, abs=1e-4)


def test_texts_side_by_side_have_the_same_bits_as_alone():
    checkpoint = toy(characters="\nabcdef")
    predictor = Predictor(checkpoint, threads=2)
    texts = ["", *("abcdef"[n:] + "fedcba"[:n] for n in range(6))] * 20
    together = predictor.predict([predictor.start(text) for text in texts])
    for row, text in zip(together, texts, strict=True):
        (alone,) = predictor.predict([predictor.start(text)])
        assert row.tobytes() == alone.tobytes()


def test_a_score_is_the_sum_and_leaves_the_starts_as_they_were():
    checkpoint = toy(characters="\nabcd")
    predictor = Predictor(checkpoint)
    starts = [predictor.start("a"), predictor.start("b"), predictor.start("")]
    texts = ["bcd\n", "", "abcab\n"]
    ids = [checkpoint.vocabulary.encode(text).astype(np.int64) for text in texts]
    for _ in range(2):
        found = predictor.score(starts, ids)
        expected = [log_probability(checkpoint, *pair) for pair in zip(("a", "b", ""), texts, strict=True)]
        np.testing.assert_allclose(found, expected, atol=1e-5)
    surprises = charrnn.score(checkpoint, "abcab\n")
    assert found[2] == pytest.approx(-float(surprises.sum(dtype=np.float64)), abs=1e-4)


def test_going_on_does_not_change_what_went_before():
    predictor = Predictor(toy())
    start = predictor.start("a")
    first = predictor.predict([start])
    children = [Cursor(c, start.state) for c in (1, 2)]
    predictor.predict(children)
    again = Cursor(start.last, predictor.start("a").state)
    assert predictor.predict([again]).tobytes() == first.tobytes()
    assert predictor.predict([Cursor(1, start.state)]).tobytes() != first.tobytes()


@pytest.mark.parametrize(
    ("logits", "expected"),
    [
        ([0.0, 0.0], [-math.log(2)] * 2),
        ([1000.0, 0.0], [0.0, -1000.0]),
        ([-math.inf, 3.0], [-math.inf, 0.0]),
        ([math.inf, 3.0], [0.0, -math.inf]),
        ([math.inf, math.inf, 0.0], [-math.log(2)] * 2 + [-math.inf]),
        ([math.nan, 3.0], [-math.inf, 0.0]),
        ([math.nan, math.nan], [-math.log(2)] * 2),
    ],
)
def test_log_probabilities_at_their_limits(logits, expected):
    out = [0.0] * len(logits)
    sampling.log_probabilities(out, logits, [0.0] * len(logits))
    assert out == pytest.approx(expected)
    assert max(out) <= 0
