"""Gradients of a model against central differences, in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from charrnn.nn.network import Model, State

STEP = 1e-5


def random_state(rng: np.random.Generator, model: Model, B: int) -> State:
    """An initial state for B columns."""
    layers = model.zero_state(B).layers
    return State(tuple(tuple(0.5 * rng.standard_normal(part.shape) for part in layer) for layer in layers))


def own_places(model: Model) -> Any:
    """The indices of the parameters in the flat vector, whose other places are padding."""
    probe = Model(model.config, dtype=np.float64, network=model.network)
    probe.load_tensors({name: np.ones(shape) for name, shape in model.network.shapes().items()})
    return np.flatnonzero(probe.parameters.flat)


def check_gradients(model: Model, x: Any, y: Any, state: State, reset: Any, labels: Any = None) -> Any:
    """Check those of every parameter and of the initial state; returns the flat gradient, padding and all."""
    model.gradient(x, y, state, reset, labels=labels)
    slopes, starts = model.gradients.flat.copy(), model.state_gradient()

    def check(array: Any, place: Any, slope: float) -> None:
        before, losses = array[place], []
        for step in (STEP, -STEP):
            array[place] = before + step
            losses.append(model.losses(x, y, state, reset, labels)[0].mean())
        array[place] = before
        assert slope == pytest.approx((losses[0] - losses[1]) / (2 * STEP), rel=1e-5, abs=1e-8)

    for place in own_places(model):
        check(model.parameters.flat, place, slopes[place])
    for arrays, gradients in zip(state.layers, starts.layers, strict=True):
        for array, gradient in zip(arrays, gradients, strict=True):
            for place in np.ndindex(array.shape):
                check(array, place, gradient[place])
    return slopes
