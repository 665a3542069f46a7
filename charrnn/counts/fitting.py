"""Text that neither counts nor network have seen -> the gate between both."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from charrnn.counts.gate import MOST_WEIGHT, SIZE, Gate
from charrnn.kernels.coefficients import GATE_INPUTS, GATE_LONG, GATE_LONG_MOST, GATE_RANGE, GATE_UNITS
from charrnn.kernels.loops.beside import mixing

ROWS, PASSES = 128, 4  # of a step; over the text: ten passes gain 0.0002 nats, and take twice as long
RATE, DECAY = 0.04, 1e-4  # Adam's; DECAY pulls back to where the fit starts
START = 0.1  # standard deviation of the weights there
BETAS, EPSILON = (0.9, 0.99), 1e-8

Floats = npt.NDArray[np.float32]
Wide = npt.NDArray[np.float64]
_WEIGHTS = GATE_INPUTS * GATE_UNITS


def fitted(inputs: Floats, chances: Wide, network: Wide, long_most: float = GATE_LONG_MOST) -> Gate:
    """The gate of the lowest loss over M characters.

    inputs (M, F) are the gate's; chances and network (M,), the probabilities under counts and network.
    See Gate for `long_most`. The same text gives the same gate.
    """
    mean, scale = inputs.mean(0, dtype=np.float64), inputs.std(0, dtype=np.float64) + 1e-3
    features, most = (inputs - mean) / scale, np.where(inputs[:, GATE_LONG - 1] > 0, long_most, GATE_RANGE[1])
    random, origin = np.random.default_rng(0), np.zeros(SIZE)
    for part in (origin[:_WEIGHTS], origin[-GATE_UNITS - 1 : -1]):  # not the biases
        part[:] = random.normal(scale=START, size=len(part))
    gate, gradient = origin.copy(), np.empty_like(origin)
    moments, squares = np.zeros_like(gate), np.zeros_like(gate)
    step, steps = 0, PASSES * math.ceil(len(inputs) / ROWS)
    for _ in range(PASSES):
        order = random.permutation(len(inputs))
        for low in range(0, len(order), ROWS):
            mixing.gradient(gradient, gate, features, most, chances, network, order[low : low + ROWS])
            gradient += DECAY * (gate - origin)
            step += 1
            moments += (1 - BETAS[0]) * (gradient - moments)
            squares += (1 - BETAS[1]) * (gradient * gradient - squares)
            pace = RATE * (1 - step / (steps + 1)) * math.sqrt(1 - BETAS[1] ** step) / (1 - BETAS[0] ** step)
            gate -= pace * moments / (np.sqrt(squares) + EPSILON)
    gate = _of_inputs(gate, 1 / scale, -mean / scale)
    return Gate(np.clip(gate, -MOST_WEIGHT, MOST_WEIGHT).astype(np.float32), long_most)


def _of_inputs(gate: Wide, scale: Wide, shift: Wide) -> Wide:
    """The same gate for inputs x' with x = scale x' + shift."""
    gate = gate.copy()
    weight = gate[:_WEIGHTS].reshape(GATE_INPUTS, GATE_UNITS)
    gate[_WEIGHTS : _WEIGHTS + GATE_UNITS] += shift @ weight
    weight *= scale[:, None]
    return gate
