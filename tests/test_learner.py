"""A network that learns: one step is gradient, clipping and update; what it remembers makes it go on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from charrnn.config import ModelConfig, TrainConfig
from charrnn.nn.learning.learner import Learner
from charrnn.nn.learning.optimizer import AdamW
from charrnn.nn.learning.speed import characters_per_second
from charrnn.nn.network import Model, initial_tensors
from charrnn.nn.passes import mix
from charrnn.nn.workers import Workers

CONFIG = ModelConfig(6, hidden_size=5, embedding_size=5, num_layers=2, dropout=0.3)
TRAIN = TrainConfig(steps=9, seed=4, clip=0.1)
B, T = 3, 4


def model(config: ModelConfig = CONFIG) -> Model:
    made = Model(config, workers=Workers(2))
    made.load_tensors(initial_tensors(config, 1))
    return made


def batch(number: int) -> tuple[Any, Any, Any]:
    rng = np.random.default_rng(number)
    x, y = rng.integers(0, 6, (2, T, B)).astype(np.int32)
    return x, y, rng.random((T, B)) < 0.2


def train(
    learner: Learner, first: int, last: int, carry: Any = None
) -> tuple[list[tuple[float, float]], Any]:
    """The losses and norms of steps first .. last-1, and the carry after them."""
    found = []
    for step in range(first, last):
        loss, norm, carry = learner.train_step(batch(step), carry, 0.01, step)
        found.append((loss, norm))
    return found, carry


def test_a_step_is_a_gradient_and_an_update() -> None:
    learner, by_hand = Learner(model(), TRAIN, B), model()
    found, _ = train(learner, 0, 3)
    optimizer, state, expected = AdamW(by_hand.parameters, TRAIN, by_hand.workers), None, []
    for step in range(3):
        x, y, reset = batch(step)
        loss, state = by_hand.gradient(x, y, state, reset, mix(TRAIN.seed, step))
        expected.append((loss, optimizer.step(by_hand.gradients, 0.01)))
    assert found == expected
    assert min(norm for _, norm in found) > TRAIN.clip
    np.testing.assert_array_equal(learner.model.parameters.flat, by_hand.parameters.flat)
    assert learner.updates == 3


def test_the_seed_and_the_step_decide_what_is_dropped() -> None:
    def loss(seed: int, step: int) -> float:
        return Learner(model(), replace(TRAIN, seed=seed), B).train_step(batch(0), None, 0.01, step)[0]

    assert loss(1, 5) == loss(1, 5)
    assert len({loss(1, 5), loss(2, 5), loss(1, 6)}) == 3


def test_a_network_goes_on_bit_for_bit_from_what_it_remembers() -> None:
    straight = Learner(model(), TRAIN, B)
    expected, _ = train(straight, 0, 8)
    first = Learner(model(), TRAIN, B)
    before, carry = train(first, 0, 5)
    saved = {name: array.copy() for name, array in first.state_dict(carry).items()}
    second = Learner(Model(CONFIG, workers=Workers(1)), TRAIN, B)
    after, _ = train(second, 5, 8, second.load_state_dict(saved, first.updates))
    assert before + after == expected
    np.testing.assert_array_equal(second.model.parameters.flat, straight.model.parameters.flat)


def test_what_another_network_remembers_is_refused_and_changes_nothing() -> None:
    learner = Learner(model(), TRAIN, B)
    others = (Learner(model(replace(CONFIG, num_layers=1)), TRAIN, B), Learner(model(), TRAIN, B + 1))
    before = learner.model.parameters.flat.copy()
    for other in others:
        with pytest.raises((KeyError, ValueError)):
            learner.load_state_dict(other.state_dict(None), 1)
    saved = learner.state_dict(None)
    for name in saved:
        with pytest.raises(ValueError, match=name):
            learner.load_state_dict({**saved, name: saved[name].astype(np.int64)}, 1)
        with pytest.raises(KeyError):
            learner.load_state_dict({n: array for n, array in saved.items() if n != name}, 1)
    np.testing.assert_array_equal(learner.model.parameters.flat, before)
    assert learner.updates == 0


def test_where_the_gradient_is_no_number_nothing_is_learned() -> None:
    learner = Learner(model(), TRAIN, B)
    train(learner, 0, 2)
    assert learner.is_finite()
    learner.model.parameters["decoder.bias"][0] = np.inf
    assert not learner.is_finite()
    before = learner.model.parameters.flat.copy()
    with np.errstate(all="ignore"):
        _, norm, _ = learner.train_step(batch(2), None, 0.01, 2)
    assert not np.isfinite(norm)
    np.testing.assert_array_equal(learner.model.parameters.flat, before)
    assert learner.updates == 2


def test_a_speed_is_measured_at_the_size_that_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes, step = [], Learner.train_step

    def watched(self: Learner, batch: Any, *args: Any) -> Any:
        sizes.append(batch[0].shape)
        return step(self, batch, *args)

    monkeypatch.setattr(Learner, "train_step", watched)
    assert characters_per_second(CONFIG, 7, 9, bfloat16=False, workers=Workers(1)) > 0
    assert set(sizes) == {(9, 7)}
    assert len(sizes) > 3
