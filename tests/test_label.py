"""The biases of labels: against the reference, central differences, and a network whose biases they are."""

from __future__ import annotations

import naive
import numpy as np
import pytest
from naive import CELLS
from support.central_differences import check_gradients, own_places, random_state

from charrnn.config import ModelConfig
from charrnn.kernels.products.tile import HAS_BFLOAT16
from charrnn.nn.modules.writing.label import UNKNOWN
from charrnn.nn.network import Model, initial_tensors
from charrnn.nn.workers import Workers

LABELS = (3, 2)
needs_bfloat16 = pytest.mark.skipif(not HAS_BFLOAT16, reason="this CPU has no AVX512_BF16")


def random_tensors(rng, config):
    return {n: rng.standard_normal(s) * min(0.4, s[-1] ** -0.5) for n, s in config.parameter_shapes().items()}


def make(config, threads=2, dtype=np.float64, **options):
    model = Model(config, workers=Workers(threads), dtype=dtype, **options)
    model.load_tensors(random_tensors(np.random.default_rng(5), config))
    return model


def window(rng, V, T, B):
    """x, y, reset and labels, of which some are unknown; a text has the same ones at all its positions."""
    reset = rng.random((T, B)) < 0.3
    x = np.where(reset, V, rng.integers(0, V, (T, B))).astype(np.int32)
    labels = np.zeros((T, B, 2), np.int32)
    for t in range(T):
        new = np.stack([rng.integers(0, size + 1, B) for size in LABELS], axis=1)
        labels[t] = np.where(reset[t, :, None] | (t == 0), new, labels[t - 1])
    return x, rng.integers(0, V, (T, B)).astype(np.int32), reset, labels


@pytest.mark.parametrize(("cell", "nonlinearity"), CELLS)
@pytest.mark.parametrize("D", [0, 5, 33])
def test_kernels_agree_with_the_naive_reference(cell, nonlinearity, D):
    rng = np.random.default_rng(3)
    for H, V, L, T, B, norm, residual in [
        (1, 2, 1, 1, 1, False, True), (33, 40, 2, 5, 27, True, True), (32, 33, 3, 4, 3, False, True),
    ]:  # fmt: skip
        config = ModelConfig(V, cell, nonlinearity, H, L, D, norm, residual, labels=LABELS)
        model = make(config)
        x, y, reset, labels = window(rng, V, T, B)
        loss, gradients, *_ = naive.loss_and_gradients(
            model.tensors(), cell, nonlinearity, L, norm, residual, x, y, None, reset, None, labels
        )
        assert model.gradient(x, y, None, reset, labels=labels)[0] == pytest.approx(loss, rel=1e-11)
        for key, value in model.gradients.tensors().items():
            scale = np.abs(gradients[key]).max() + 1e-3
            np.testing.assert_allclose(value, gradients[key], rtol=0, atol=1e-11 * scale, err_msg=key)


@pytest.mark.parametrize(("cell", "nonlinearity"), CELLS)
def test_gradients_are_central_differences(cell, nonlinearity):
    rng = np.random.default_rng(4)
    model = make(ModelConfig(4, cell, nonlinearity, 4, 2, 4, labels=LABELS))
    x, y, reset, labels = window(rng, 4, 5, 3)
    slopes = check_gradients(model, x, y, random_state(rng, model, 3), reset, labels)
    assert np.count_nonzero(slopes[own_places(model)]) > 0.7 * len(own_places(model))


@pytest.mark.parametrize("bfloat16", [False, pytest.param(True, marks=needs_bfloat16)])
def test_any_number_of_threads_gives_the_same_bits(bfloat16):
    x, y, reset, labels = window(np.random.default_rng(1), 9, 12, 7)
    found = []
    for threads in (1, 2, 3, 5):
        config = ModelConfig(9, hidden_size=40, num_layers=2, embedding_size=40, labels=LABELS)
        model = make(config, threads, np.float32, bfloat16=bfloat16)
        loss, state = model.gradient(x, y, None, reset, 1, labels=labels)
        losses, _ = model.losses(x, y, state, reset, labels)
        found.append((loss, model.gradients.flat.tobytes(), losses.tobytes()))
    assert found[0] == found[1] == found[2] == found[3]


def test_the_same_parameters_without_labels_are_what_unknown_labels_compute():
    x, y, reset, _ = window(np.random.default_rng(2), 9, 12, 7)
    config = ModelConfig(9, hidden_size=20, num_layers=2, embedding_size=20)
    model = make(ModelConfig(9, hidden_size=20, num_layers=2, embedding_size=20, labels=LABELS))
    plain = Model(config, workers=Workers(1), dtype=np.float64)
    plain.load_tensors(model.tensors())
    expected = plain.losses(x, y, None, reset)[0]
    for labels in (None, np.full((12, 7, 2), UNKNOWN, np.int32), np.full((12, 7, 2), LABELS, np.int32)):
        np.testing.assert_array_equal(model.losses(x, y, None, reset, labels)[0], expected)


def test_a_label_is_a_bias_of_the_gates():
    x, y, reset, _ = window(np.random.default_rng(2), 9, 12, 7)
    config = ModelConfig(9, "gru", hidden_size=20, num_layers=2, embedding_size=20, labels=LABELS)
    model = make(config)
    tensors = model.tensors()
    for k in range(2):
        tensors[f"rnn.bias_ih_l{k}"] += (
            tensors[f"label.0.weight_l{k}"][2] + tensors[f"label.1.weight_l{k}"][0]
        )
    plain = Model(ModelConfig(9, "gru", hidden_size=20, num_layers=2, embedding_size=20), dtype=np.float64)
    plain.load_tensors(tensors)
    given = model.losses(x, y, None, reset, np.full((12, 7, 2), (2, 0), np.int32))[0]
    np.testing.assert_allclose(given, plain.losses(x, y, None, reset)[0], rtol=1e-12)
    assert np.abs(given - model.losses(x, y, None, reset)[0]).max() > 0.01


def test_at_first_no_label_makes_a_difference_and_the_other_weights_are_those_without():
    config = ModelConfig(9, hidden_size=20, embedding_size=20)
    plain = initial_tensors(config, 3)
    labelled = initial_tensors(ModelConfig(9, hidden_size=20, embedding_size=20, labels=(4,)), 3)
    assert {name for name in labelled if name not in plain} == {"label.0.weight_l0", "label.0.weight_l1"}
    assert not any(labelled[name].any() for name in labelled.keys() - plain.keys())
    for name, tensor in plain.items():
        np.testing.assert_array_equal(labelled[name], tensor)


def test_the_network_says_how_many_labels_it_knows():
    config = ModelConfig(9, num_layers=1, labels=LABELS, norm=False)
    assert "Recurrent(lstm, 256 -> 256, 3 labels, 2 labels)" in str(config.network())
