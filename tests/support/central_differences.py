"""Gradients of a model against central differences, in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from charrnn.nn.network import Model, State
from charrnn.nn.parameters import Parameters
from charrnn.nn.passes import Parametrized

STEP = 1e-5
DIRECTIONS = 2  # of each array


def random_state(rng: np.random.Generator, model: Model, B: int) -> State:
    """An initial state for B columns."""
    layers = model.zero_state(B).layers
    return State(tuple(tuple(0.5 * rng.standard_normal(part.shape) for part in layer) for layer in layers))


def own_places(model: Parametrized[Any]) -> Any:
    """The indices of the parameters in the flat vector, whose other places are padding."""
    return np.flatnonzero(_owners(model))


def _owners(model: Parametrized[Any]) -> Any:
    """The number of the parameter, from 1, that each place of the flat vector belongs to; 0: padding."""
    by_row = [name for module in model.network.flat() for name in module.by_row]
    probe, shapes = Parameters(model.network.shapes(), by_row, np.float64), model.network.shapes()
    probe.load({name: np.full(shape, k, float) for k, (name, shape) in enumerate(shapes.items(), 1)})
    return probe.flat


def check_slopes(array: Any, slopes: Any, loss: Callable[[], float], places: Any = ...) -> None:
    """Check the slopes of the loss at places of an array that it depends on, in a few random directions.

    A slope that is wrong shows in each direction: what elements contribute would have to cancel out.
    """
    before, rng = array[places].copy(), np.random.default_rng(array.size)
    for _ in range(DIRECTIONS):
        direction = rng.standard_normal(before.shape)
        direction /= np.linalg.norm(direction)
        losses = []
        for step in (STEP, -STEP):
            array[places] = before + step * direction
            losses.append(loss())
        array[places] = before
        expected = (losses[0] - losses[1]) / (2 * STEP)
        assert np.sum(slopes[places] * direction) == pytest.approx(expected, rel=1e-6, abs=1e-9)


def check_parameters(model: Parametrized[Any], slopes: Any, loss: Callable[[], float]) -> None:
    """Check the flat gradient of each parameter."""
    owners = _owners(model)
    for k in range(1, int(owners.max()) + 1):
        check_slopes(model.parameters.flat, slopes, loss, np.flatnonzero(owners == k))


def check_gradients(model: Model, x: Any, y: Any, state: State, reset: Any, labels: Any = None) -> Any:
    """Check those of every parameter and of the initial state; returns the flat gradient, padding and all."""
    model.gradient(x, y, state, reset, labels=labels)
    slopes, starts = model.gradients.flat.copy(), model.state_gradient()

    def loss() -> float:
        return float(model.losses(x, y, state, reset, labels)[0].mean())

    check_parameters(model, slopes, loss)
    for arrays, gradients in zip(state.layers, starts.layers, strict=True):
        for array, gradient in zip(arrays, gradients, strict=True):
            check_slopes(array, gradient, loss)
    return slopes
