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


def random_state(rng: np.random.Generator, model: Model, B: int) -> State:
    """An initial state for B columns."""
    layers = model.zero_state(B).layers
    return State(tuple(tuple(0.5 * rng.standard_normal(part.shape) for part in layer) for layer in layers))


def own_places(model: Parametrized[Any]) -> Any:
    """The indices of the parameters in the flat vector, whose other places are padding."""
    by_row = [name for module in model.network.flat() for name in module.by_row]
    probe = Parameters(model.network.shapes(), by_row, np.float64)
    probe.load({name: np.ones(shape) for name, shape in model.network.shapes().items()})
    return np.flatnonzero(probe.flat)


def check_slope(array: Any, place: Any, slope: float, loss: Callable[[], float]) -> None:
    """Check the slope of the loss at a place of an array that it depends on."""
    before, losses = array[place], []
    for step in (STEP, -STEP):
        array[place] = before + step
        losses.append(loss())
    array[place] = before
    assert slope == pytest.approx((losses[0] - losses[1]) / (2 * STEP), rel=1e-5, abs=1e-8)


def check_gradients(model: Model, x: Any, y: Any, state: State, reset: Any, labels: Any = None) -> Any:
    """Check those of every parameter and of the initial state; returns the flat gradient, padding and all."""
    model.gradient(x, y, state, reset, labels=labels)
    slopes, starts = model.gradients.flat.copy(), model.state_gradient()

    def loss() -> float:
        return float(model.losses(x, y, state, reset, labels)[0].mean())

    for place in own_places(model):
        check_slope(model.parameters.flat, place, slopes[place], loss)
    for arrays, gradients in zip(state.layers, starts.layers, strict=True):
        for array, gradient in zip(arrays, gradients, strict=True):
            for place in np.ndindex(array.shape):
                check_slope(array, place, gradient[place], loss)
    return slopes
