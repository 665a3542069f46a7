"""The loss over a text: each document in one pass from a zero state, every character counted once."""

from __future__ import annotations

import math

import naive
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from charrnn.config import ModelConfig
from charrnn.nn.network import Model, initial_tensors
from charrnn.nn.workers import Workers
from charrnn.tasks import evaluation
from charrnn.tasks.evaluation import evaluate, surprises, windows
from charrnn.text.documents import Documents

V = 6
CONFIG = ModelConfig(V, hidden_size=12, num_layers=2, embedding_size=12)


@pytest.fixture(scope="module")
def model():
    model = Model(CONFIG, workers=Workers(2))
    model.load_tensors(initial_tensors(CONFIG, 3))
    return model


def documents(lengths, seed=0, *, lines=False):
    """Documents of these lengths; as lines, each ends in the id 0, which stands nowhere else."""
    rng = np.random.default_rng(seed)
    parts = [rng.integers(1, V, n).astype(np.uint8) for n in lengths]
    if lines:
        for part in parts:
            part[-1] = 0
        starts = [0]
    else:
        starts = np.cumsum([0, *lengths[:-1]])
    return Documents(np.concatenate(parts), V, np.array(starts, np.int64), 0 if lines else -1), parts


def expected(parts):
    """Document by document with the naive reference: its losses, (N,)."""
    tensors = {n: t.astype(float) for n, t in initial_tensors(CONFIG, 3).items()}
    found = []
    for part in parts:
        x = np.concatenate([[V], part[:-1]])[:, None].astype(np.int32)
        logits, *_ = naive.forward(tensors, "lstm", "tanh", 2, True, True, x)
        found.append(-naive.log_softmax(logits[:, 0])[np.arange(len(part)), part])
    return np.concatenate(found)


@pytest.mark.parametrize(
    ("lengths", "lines"),
    [
        ([1], False),
        ([500], False),
        ([40, 1, 3, 200], False),
        ([3, 9, 1, 30, 2] * 40, True),
        ([1] * 300, True),
        ([150, 2, 2], True),
    ],
)
def test_every_character_is_scored_once_from_its_documents_start(model, lengths, lines):
    text, parts = documents(lengths, lines=lines)
    losses = expected(parts)
    np.testing.assert_allclose(surprises(model, text), losses, atol=2e-5)
    result = evaluate(model, text)
    assert result.characters == sum(lengths)
    assert result.loss == pytest.approx(losses.mean(), abs=1e-5)


def test_long_texts_are_read_in_windows_that_carry_the_state(model, monkeypatch):
    text, parts = documents([300, 20, 180])
    monkeypatch.setattr("charrnn.tasks.evaluation.WINDOW", 21)
    np.testing.assert_allclose(surprises(model, text), expected(parts), atol=2e-5)


@pytest.fixture
def short_parts(monkeypatch):
    """Parts so short that these texts are read in several, with a warm-up that suits such a network."""
    monkeypatch.setattr(evaluation, "PART", 60)
    monkeypatch.setattr(evaluation, "WARM_UP", 40)


def streams(text):
    """How many are read side by side."""
    return next(windows(text))[0].shape[1]


@pytest.mark.parametrize(("lengths", "lines"), [([700], False), ([300, 20, 180], False), ([9, 400, 3], True)])
def test_a_long_document_is_read_in_streams_that_know_what_came_before(model, short_parts, lengths, lines):
    text, parts = documents(lengths, lines=lines)
    assert streams(text) > len(lengths)
    found = np.full(len(text), np.nan)
    for positions, losses, _ in evaluation._losses(model, windows(text)):
        found[positions] = losses
    np.testing.assert_allclose(found, expected(parts), atol=2e-5)
    assert evaluate(model, text).loss == pytest.approx(expected(parts).mean(), abs=1e-6)


def test_what_is_promised_exactly_is_read_in_one_stream(model, short_parts, monkeypatch):
    monkeypatch.setattr(evaluation, "WARM_UP", 1)
    text, parts = documents([700])
    np.testing.assert_allclose(surprises(model, text), expected(parts), atol=2e-5)
    assert abs(evaluate(model, text).loss - expected(parts).mean()) > 1e-4  # such a warm-up is too short


@given(st.lists(st.integers(1, 400), min_size=1, max_size=100), st.booleans())
def test_every_position_counts_once_after_what_precedes_it(lengths, lines):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation, "PART", 60)
        patch.setattr(evaluation, "WARM_UP", 40)
        text, _ = documents(lengths, lines=lines)
        read = list(windows(text))
    positions, there = (np.concatenate(arrays) for arrays in list(zip(*read, strict=True))[:2])  # (T, B)
    assert sorted(positions[there].tolist()) == list(range(len(text)))
    starts = {0, *np.cumsum(lengths).tolist()}
    for column, counts in zip(positions.T, there.T, strict=True):
        first = int(counts.argmax())
        assert first == 40 or (first == 0 and column[0] in starts)
        assert column[first] - column[0] == first


def test_a_short_document_has_one_stream_and_none_has_too_many():
    assert streams(documents([3000])[0]) == 1
    assert [streams(documents([n])[0]) for n in (10_000, 111_000, 1_000_000)] == [3, 36, evaluation.STREAMS]


def test_units():
    from charrnn.tasks.evaluation import Evaluation

    uniform = Evaluation(math.log(8), 100)
    assert uniform.bpc == pytest.approx(3.0)
    assert uniform.perplexity == pytest.approx(8.0)
    assert Evaluation(1e9, 1).perplexity == math.inf


def test_a_stop_ends_it_without_a_result(model):
    text, _ = documents([50])
    assert evaluate(model, text, lambda: "SIGINT") is None


@pytest.mark.parametrize(("lengths", "lines"), [([3, 9, 1, 30, 2] * 40, True), ([700], False)])
def test_any_number_of_threads_gives_the_same_loss(short_parts, lengths, lines):
    text, _ = documents(lengths, lines=lines)
    losses = set()
    for threads in (1, 2, 3):
        model = Model(CONFIG, workers=Workers(threads))
        model.load_tensors(initial_tensors(CONFIG, 3))
        losses.add(evaluate(model, text).loss)
    assert len(losses) == 1
