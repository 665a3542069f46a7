"""The loss over a text: each document in one pass from a zero state, every character counted once."""

from __future__ import annotations

import math

import naive
import numpy as np
import pytest

from charrnn.config import ModelConfig
from charrnn.nn.network import Model, initial_tensors
from charrnn.nn.workers import Workers
from charrnn.tasks.evaluation import evaluate, surprises
from charrnn.text.corpus import Documents

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


def test_units():
    from charrnn.tasks.evaluation import Evaluation

    uniform = Evaluation(math.log(8), 100)
    assert uniform.bpc == pytest.approx(3.0)
    assert uniform.perplexity == pytest.approx(8.0)
    assert Evaluation(1e9, 1).perplexity == math.inf


def test_a_stop_ends_it_without_a_result(model):
    text, _ = documents([50])
    assert evaluate(model, text, lambda: "SIGINT") is None


def test_any_number_of_threads_gives_the_same_loss():
    text, _ = documents([3, 9, 1, 30, 2] * 40, lines=True)
    losses = set()
    for threads in (1, 2, 3):
        model = Model(CONFIG, workers=Workers(threads))
        model.load_tensors(initial_tensors(CONFIG, 3))
        losses.add(evaluate(model, text).loss)
    assert len(losses) == 1
