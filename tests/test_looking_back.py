"""How a network's loss depends on its state, step by step: against the reference, and central differences."""

from __future__ import annotations

import naive
import numpy as np
import pytest
from support.central_differences import check_slopes, random_state

from charrnn.config import ModelConfig
from charrnn.nn.network import Model, State, initial_tensors
from charrnn.nn.workers import Workers

V, T, B = 5, 6, 3
AROUND = [{"norm": True, "residual": True, "embedding_size": 4}, {"norm": False, "residual": False}]


def build(cell: str, nonlinearity: str, dtype: type = np.float64, workers: int = 1, **settings: object):
    config = ModelConfig(V, cell, nonlinearity, **{"hidden_size": 4, "embedding_size": 0} | settings)
    model, rng = Model(config, workers=Workers(workers), dtype=dtype), np.random.default_rng(7)
    tensors = initial_tensors(config, 1)
    model.load_tensors({name: t + 0.2 * rng.standard_normal(t.shape) for name, t in tensors.items()})
    return model


def window(model: Model, seed: int = 0):
    """x, y, state and resets, one of them in the middle of a column."""
    rng = np.random.default_rng(seed)
    x, y = rng.integers(0, V, (2, T, B)).astype(np.int32)
    reset = np.zeros((T, B), np.bool_)
    reset[2, 1] = True
    return x, y, random_state(rng, model, B), reset


def last_loss(model: Model, x, y, state, reset) -> float:
    """The sum over the columns of the loss at the last step."""
    return float(model.losses(x, y, state, reset)[0][-1].sum())


@pytest.mark.parametrize("around", AROUND)
@pytest.mark.parametrize(("cell", "nonlinearity"), naive.CELLS)
def test_the_gradient_at_each_lag_is_the_reference_of_a_window_that_begins_there(cell, nonlinearity, around):
    model = build(cell, nonlinearity, **around)
    x, y, state, reset = window(model)
    seen = model.look_back(x, y, state, reset)
    tensors = model.tensors()
    network = cell, nonlinearity, 2, around["norm"], around["residual"]
    for lag in range(1, T + 1):
        first = T - lag
        before = state.layers
        if first:
            _, before, _ = naive.forward(tensors, *network, x[:first], state.layers, reset[:first])
        rest = slice(first, None)
        logits, _, cache = naive.forward(tensors, *network, x[rest], before, reset[rest])
        d_logits = np.zeros_like(logits)
        d_logits[-1] = B * naive.loss_backward(logits[-1:], y[-1:])
        _, expected = naive.backward(tensors, *network, x[rest], d_logits, cache, reset[rest])
        for layer, parts in zip(seen, expected, strict=True):
            for gradient, part in zip(layer.gradients.values(), parts, strict=True):
                np.testing.assert_allclose(gradient[first], part, rtol=1e-9, atol=1e-12)
        assert not seen[0].gradients["h"][:3, 1].any(), "nothing goes back to before a text began"


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_the_gradient_is_the_slope_of_the_loss(cell):
    model = build(cell, "tanh", embedding_size=4, num_layers=2)
    x, y, state, reset = window(model)
    seen = model.look_back(x, y, state, reset)
    for first in (0, 4):
        _, begun = model.losses(x[:first], y[:first], state, reset[:first]) if first else (None, state)
        for layer, arrays in zip(seen, begun.layers, strict=True):
            for gradient, array in zip(layer.gradients.values(), arrays, strict=True):
                rest = x[first:], y[first:], begun, reset[first:]
                check_slopes(array, gradient[first], lambda rest=rest: last_loss(model, *rest))


@pytest.mark.parametrize(("cell", "nonlinearity"), naive.CELLS)
def test_gates_and_states_are_those_of_the_reference(cell, nonlinearity):
    model = build(cell, nonlinearity, num_layers=1, norm=False, residual=False)
    x, y, state, reset = window(model)
    (seen,) = model.look_back(x, y, state, reset)
    network = cell, nonlinearity, 1, False, False
    _, _, cache = naive.forward(model.tensors(), *network, x, state.layers, reset)
    for t in range(T):
        for b in range(B):
            step = cache.steps[t][b][0]
            kept = step.cell if isinstance(step.cell, tuple) else (step.cell,)
            np.testing.assert_allclose(seen.states["h"][t, b], step.h_before, atol=1e-7)
            for values, expected in zip(seen.gates.values(), kept, strict=False):
                np.testing.assert_allclose(values[t, b], expected, atol=1e-6)


def test_nothing_depends_on_the_threads():
    found = []
    for workers in (1, 3):
        model = build("lstm", "tanh", np.float32, workers, embedding_size=4)
        x, y, state, reset = window(model)
        parts = tuple(tuple(part.astype(np.float32) for part in layer) for layer in state.layers)
        found.append(model.look_back(x, y, State(parts), reset))
    for one, other in zip(*found, strict=True):
        for name in ("gates", "states", "gradients"):
            for a, b in zip(getattr(one, name).values(), getattr(other, name).values(), strict=True):
                np.testing.assert_array_equal(a, b)


def test_training_goes_on_as_if_nobody_had_looked():
    model = build("gru", "tanh", embedding_size=4)
    x, y, state, reset = window(model)
    before = model.gradient(x, y, state, reset)[0], model.gradients.flat.copy()
    model.look_back(x, y, state, reset)
    assert model.gradient(x, y, state, reset)[0] == before[0]
    np.testing.assert_array_equal(model.gradients.flat, before[1])
