"""AdamW and the schedule against the naive reference, PyTorch's recorded losses and the formulas."""

from __future__ import annotations

import math

import naive
import numpy as np
import pytest
from support import torch_recordings as recorded

from charrnn.config import ModelConfig, TrainConfig
from charrnn.nn.learning.optimizer import AdamW, learning_rate
from charrnn.nn.network import Model
from charrnn.nn.parameters import Parameters
from charrnn.nn.workers import Workers


@pytest.fixture(scope="module")
def workers():
    return Workers(2)


@pytest.mark.parametrize("name", recorded.names(trained=True))
def test_ten_training_losses_are_pytorchs(name, workers):
    r = recorded.load(name)
    s = r.training.settings
    config = TrainConfig(
        steps=10, weight_decay=s["weight_decay"], clip=s["clip"], beta1=s["beta1"], beta2=s["beta2"],
        epsilon=s["eps"],
    )  # fmt: skip
    model = Model(ModelConfig(**r.config), workers=workers, dtype=np.float64)
    model.load_tensors(r.tensors)
    optimizer = AdamW(model.parameters, config, workers)
    state, T, losses, norms = None, len(r.x), [], []
    for start in range(0, len(r.training.text) - 1, T):
        x, y = (r.training.text[start + i : start + i + T] for i in (0, 1))
        loss, state = model.gradient(x, y, state)
        losses.append(loss)
        norms.append(optimizer.step(model.gradients, s["lr"]))
    # PyTorch divides by norm + 1e-6 when it clips.
    np.testing.assert_allclose(losses, r.training.losses, rtol=1e-6)
    np.testing.assert_allclose(norms, r.training.norms, rtol=1e-5)


@pytest.mark.parametrize("l1", [0.0, 0.02])
@pytest.mark.parametrize("clip", [0.5, 1e6])
def test_adamw_agrees_with_the_naive_reference(l1, clip, workers):
    rng = np.random.default_rng(2)
    config = ModelConfig(37, "gru", hidden_size=33, num_layers=2, embedding_size=20)
    train = TrainConfig(steps=3, weight_decay=0.3, l1=l1, clip=clip)
    parameters, gradients = (Parameters(config.parameter_shapes(), dtype=np.float64) for _ in range(2))
    shapes = config.parameter_shapes()
    reference = {n: rng.standard_normal(s) for n, s in shapes.items()}
    m, v = ({n: np.zeros(s) for n, s in shapes.items()} for _ in range(2))
    parameters.load(reference)
    optimizer = AdamW(parameters, train, workers)
    for step in (1, 2, 3):
        slopes = {n: rng.standard_normal(s) for n, s in shapes.items()}
        gradients.load(slopes)
        norm = optimizer.step(gradients, 0.1)
        expected_norm, clipped = naive.clip(slopes, clip)
        assert norm == pytest.approx(expected_norm, rel=1e-12)
        reference, m, v = naive.adamw(
            reference, clipped, m, v, step, 0.1, 0.9, 0.99, 1e-8, 0.3, l1, naive.matrices(reference)
        )
        for name, value in parameters.tensors().items():
            np.testing.assert_allclose(value, reference[name], rtol=1e-9, atol=1e-12, err_msg=name)


def test_norms_that_grow_at_once_are_held_back():
    config = ModelConfig(3, hidden_size=5, num_layers=1, embedding_size=2)
    parameters, gradients = (Parameters(config.parameter_shapes(), dtype=np.float64) for _ in range(2))
    train = TrainConfig(steps=1, clip=2.0, clip_ratio=3.0, beta1=0.0)
    optimizer, mean = AdamW(parameters, train, Workers(1)), 2.0
    for norm in [0.1] * 400 + [50.0, 0.2, 1.5, 40.0]:
        gradients["decoder.bias"][0] = norm
        scaled = min(norm, 2.0, 3.0 * mean)
        assert optimizer.step(gradients, 0.1) == norm, "as it was"
        assert optimizer.m.max() == pytest.approx(scaled, rel=1e-5)
        mean = 0.99 * mean + 0.01 * scaled
    assert scaled < 0.5
    optimizer.step(gradients, 0.1)
    kept = float(optimizer.tensors()["adam.mean_norm"][0])
    gradients["decoder.bias"][0] = math.nan
    optimizer.step(gradients, 0.1)
    assert optimizer.mean_norm == kept, "what is no number is not among the norms"
    gradients["decoder.bias"][0] = 0.0
    for _ in range(20_000):
        optimizer.step(gradients, 0.1)
    gradients["decoder.bias"][0] = 1.0
    for _ in range(1_500):  # the limit grows from 1e-4 of `clip`, by 2 % a step
        optimizer.step(gradients, 0.1)
    assert optimizer.m.max() == pytest.approx(1.0)


@pytest.mark.parametrize("average", [0.2, 1.0])
def test_weights_are_averaged_over_a_share_of_the_steps(average, workers):
    rng = np.random.default_rng(2)
    config = ModelConfig(37, "gru", hidden_size=33, num_layers=2, embedding_size=20)
    parameters, gradients = (Parameters(config.parameter_shapes(), dtype=np.float64) for _ in range(2))
    train = TrainConfig(steps=1, average=average)
    optimizer, seen = AdamW(parameters, train, workers), []
    optimizer.swap()
    assert not parameters.flat.any(), "there is no mean yet"
    for _ in range(40):
        gradients.load({n: rng.standard_normal(s) for n, s in config.parameter_shapes().items()})
        optimizer.step(gradients, 0.1)
        seen.append(parameters.flat.copy())
    gradients["decoder.bias"][0] = math.nan
    optimizer.step(gradients, 0.1)
    expected = seen[0]
    for step, weights in enumerate(seen):
        expected = expected + (weights - expected) / (1 + average * step)
    optimizer.swap()
    np.testing.assert_allclose(parameters.flat, expected, rtol=1e-10, atol=1e-15)
    np.testing.assert_array_equal(optimizer.tensors()["average"], seen[-1])
    if average == 1:
        np.testing.assert_allclose(expected, np.mean(seen, axis=0), rtol=1e-10, atol=1e-15)
    assert "average" not in AdamW(parameters, TrainConfig(steps=1), workers).tensors()


def test_padding_stays_zero():
    config = ModelConfig(3, hidden_size=5, num_layers=1, embedding_size=2)
    parameters, gradients = Parameters(config.parameter_shapes()), Parameters(config.parameter_shapes())
    ones = {n: np.ones(s) for n, s in config.parameter_shapes().items()}
    parameters.load(ones)
    gradients.load(ones)
    AdamW(parameters, TrainConfig(steps=1, weight_decay=0.1, l1=0.01), Workers(1)).step(gradients, 0.01)
    assert np.count_nonzero(parameters.flat) == config.num_parameters


def test_a_gradient_that_is_no_number_changes_nothing(workers):
    config = ModelConfig(3, hidden_size=5, num_layers=1, embedding_size=2)
    for bad in (math.nan, math.inf):
        parameters, gradients = Parameters(config.parameter_shapes()), Parameters(config.parameter_shapes())
        gradients["decoder.bias"][1] = bad
        optimizer = AdamW(parameters, TrainConfig(steps=1), workers)
        assert not math.isfinite(optimizer.step(gradients, 0.1))
        assert not parameters.flat.any()
        assert optimizer.steps == 0


def test_the_rate_warms_up_then_follows_a_cosine():
    config = TrainConfig(steps=1, learning_rate=2.0, warmup=0.1, final_learning_rate=0.25)
    assert learning_rate(config, 0.0) == 0.0
    assert learning_rate(config, 0.05) == pytest.approx(1.0)
    assert learning_rate(config, 0.1) == pytest.approx(2.0)
    assert learning_rate(config, 0.55) == pytest.approx((2.0 + 0.5) / 2)
    assert learning_rate(config, 1.0) == pytest.approx(0.5)
    assert learning_rate(config, 1.5) == pytest.approx(0.5)
    rates = [learning_rate(config, p / 100) for p in range(10, 101)]
    assert rates == sorted(rates, reverse=True)
    for warmup in (0.0, 1.0):
        extreme = TrainConfig(steps=1, warmup=warmup)
        assert all(math.isfinite(learning_rate(extreme, p / 10)) for p in range(11))
