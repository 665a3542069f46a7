"""Dynamic evaluation: each segment is predicted before it is learnt from, as the paper's rule says."""

from __future__ import annotations

import math
from dataclasses import replace

import naive
import numpy as np
import pytest

from charrnn.config import DynamicConfig, ModelConfig
from charrnn.errors import CharrnnError
from charrnn.nn.network import Model, initial_tensors
from charrnn.nn.workers import Workers
from charrnn.tasks.dynamic_evaluation import EPSILON, DynamicEvaluation, dynamic_loss, segment_losses
from charrnn.tasks.evaluation import evaluate
from charrnn.text.documents import Documents

V = 5
CONFIG = ModelConfig(V, cell="gru", hidden_size=6, num_layers=2, embedding_size=6, dropout=0.5)
ADAPTING = DynamicConfig(segment=4, rate=0.01, decay=0.05)


def network(threads=1, **settings):
    config = replace(CONFIG, **settings)
    model = Model(config, workers=Workers(threads))
    model.load_tensors(initial_tensors(config, 3))
    return model


def text(lengths, seed=0):
    """Documents of these lengths of characters that repeat, so that there is something to adapt to."""
    rng = np.random.default_rng(seed)
    ids = np.resize(rng.integers(0, V, 7), sum(lengths)).astype(np.uint8)
    return Documents(ids, V, np.cumsum([0, *lengths[:-1]]), -1)


def losses(model, documents, config=ADAPTING):
    return [loss for loss, _ in segment_losses(model, documents, config)]


def reference(documents, config):
    """The rule of the module's docstring in float64, tensor by tensor, from the naive gradients."""
    trained = naive.as_float64(initial_tensors(CONFIG, 3))
    weights = {name: value.copy() for name, value in trained.items()}
    squares = {name: np.zeros_like(value) for name, value in trained.items()}
    number = sum(value.size for value in trained.values())
    state, found = None, []
    for count, first in enumerate(range(0, len(documents), config.segment), start=1):
        positions = np.arange(first, min(first + config.segment, len(documents)))[:, None]
        x, y, reset = documents.look_up(positions)
        args = ("gru", "tanh", 2, True, True)
        loss, gradients, _, state = naive.loss_and_gradients(weights, *args, x, y, state, reset)
        found.append(loss)
        total = 0.0
        for name, g in gradients.items():
            squares[name] += g**2
            total += squares[name].sum()
        epsilon = EPSILON * math.sqrt(total / (count * number))
        for name, g in gradients.items():
            rms = np.sqrt(squares[name] / count)
            back = config.decay * (trained[name] - weights[name])
            weights[name] += back - config.rate * g / (rms + epsilon)
    return found


def test_the_losses_are_those_of_the_rule_in_float64():
    documents = text([13, 1, 20])
    np.testing.assert_allclose(losses(network(), documents), reference(documents, ADAPTING), atol=2e-4)


def test_every_character_is_predicted_before_it_is_learnt_from():
    """What comes later changes nothing: the segments before the first changed character score the same."""
    documents = text([40])
    ids = documents.ids.copy()
    ids[22:] = (ids[22:] + 1) % V
    before, after = losses(network(), documents), losses(network(), replace(documents, ids=ids))
    assert before[:5] == after[:5]  # characters 0 to 19
    assert before[5] != after[5]


def test_a_segment_is_scored_by_weights_that_have_not_seen_it():
    """The first segment's loss is the static one, and a rate of zero changes none."""
    documents = text([40])
    model = network()
    first = replace(documents, ids=documents.ids[:4])
    assert losses(model, documents)[0] == pytest.approx(evaluate(model, first).loss, abs=1e-6)
    still = dynamic_loss(model, documents, DynamicConfig(segment=7, rate=0.0))
    assert still == pytest.approx(evaluate(model, documents).loss, abs=1e-5)


def test_a_text_that_repeats_itself_becomes_easier():
    documents, model = text([400]), network()
    static, adapted = evaluate(model, documents).loss, dynamic_loss(model, documents, ADAPTING)
    assert adapted < 0.9 * static


def test_decay_holds_the_network_near_what_it_was():
    documents, model = text([200]), network()
    free = dynamic_loss(model, documents, replace(ADAPTING, decay=0.0))
    held = dynamic_loss(model, documents, replace(ADAPTING, decay=1.0))
    assert free < held < evaluate(model, documents).loss


def test_every_character_counts_once_whatever_the_segments():
    documents = text([10, 1, 12])
    for segment in (1, 4, 23, 100):
        counts = [n for _, n in segment_losses(network(), documents, replace(ADAPTING, segment=segment))]
        assert sum(counts) == 23
        assert counts[0] == min(segment, 23)


def test_the_trained_weights_are_there_again_afterwards():
    model, documents = network(), text([40])
    before = model.parameters.flat.copy()
    dynamic_loss(model, documents, ADAPTING)
    np.testing.assert_array_equal(model.parameters.flat, before)
    next(segment_losses(model, documents, ADAPTING))  # nor does it matter when nobody reads on
    np.testing.assert_array_equal(model.parameters.flat, before)


def test_any_number_of_threads_gives_the_same_loss():
    documents = text([70, 3, 30])
    found = {dynamic_loss(network(threads, hidden_size=40), documents, ADAPTING) for threads in (1, 2, 3)}
    assert len(found) == 1


def test_a_network_that_goes_astray_is_named():
    model = network()
    losses = segment_losses(model, text([40]), ADAPTING)
    next(losses)
    model.parameters.flat[:] = np.nan
    with pytest.raises(CharrnnError, match=r"went astray .* character 4: try a --rate below 0\.01"):
        next(losses)


def test_both_figures_stand_side_by_side():
    result = DynamicEvaluation(math.log(8), 100, math.log(4))
    assert (result.bpc, result.dynamic_bpc) == (pytest.approx(3.0), pytest.approx(2.0))
