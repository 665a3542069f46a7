"""A network in which units stay at a value: other weights and another initial state, and nothing else.

So both engines write with it, and everything beside the network works as ever. A cell says in `Cell.keeps`
which inputs of its gates let a unit stay as it is; these are constant then, and the unit begins with its
value. A vanilla network computes its units anew in each step: there, the one input of a unit is constant.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from charrnn.checkpoint.model_file import Checkpoint
from charrnn.errors import ConfigError
from charrnn.inference.numpy_network import tanh
from charrnn.neurons.units import Unit, part, unit_of
from charrnn.nn.cell import Cell
from charrnn.nn.parameters import Array

MOST = 1e6  # of what a unit is held at


def held(checkpoint: Checkpoint, values: Mapping[str, float]) -> Checkpoint:
    """The model, each of these units at its value from the first character on.

    Raises:
        ConfigError: there is no such unit, its cell cannot hold it, or it cannot have this value.
    """
    config, tensors = checkpoint.config, dict(checkpoint.tensors)
    cell, H = config.recurrence, config.hidden_size
    if config.kind != "writer":
        raise ConfigError("units are held in models that write, and this one reads", "leave it out")
    start = []
    for name, value in values.items():
        unit = unit_of(name, config)
        k = unit.layer - 1
        for gate, constant in _constants(cell, unit, value).items():
            row = list(cell.gates).index(gate) * H + unit.number
            for tensor in (f"rnn.weight_ih_l{k}", f"rnn.weight_hh_l{k}", f"rnn.bias_hh_l{k}"):
                _set(tensors, tensor, row, 0.0)
            _set(tensors, f"rnn.bias_ih_l{k}", row, constant)
            for column in range(len(config.labels)):  # a label adds to the bias
                _set(tensors, f"label.{column}.weight_l{k}", (slice(None), row), 0.0)
        if cell.keeps:
            start.append((k, sum(cell.state_widths(H)[: part(cell)]) + unit.number, float(value)))
    return replace(checkpoint, tensors=tensors, held=tuple(start))


def _set(tensors: dict[str, Array], name: str, place: Any, value: float) -> None:
    changed = tensors[name].copy()
    changed[place] = value
    tensors[name] = changed


def _constants(cell: Cell, unit: Unit, value: float) -> Mapping[str, float]:
    """The inputs of the unit's gates with which it stays at the value."""
    if not -MOST <= value <= MOST:
        raise ConfigError(f"unit {unit} is to be {value:g}", f"give a number from {-MOST:g} to {MOST:g}")
    if cell.keeps:
        return cell.keeps
    if cell.is_made or len(cell.gates) != 1:
        raise ConfigError(
            f"--fix knows how to hold a unit of an LSTM, a GRU or a vanilla network, not of {cell.name}",
            "leave it out, or give another model",
        )
    ((gate, activation),) = cell.gates.items()
    least = 0.0 if activation == "relu" else -1.0
    most = math.inf if activation == "relu" else 1.0
    if not least <= value <= most:
        wanted = "0 or more" if activation == "relu" else "from -1 to 1"
        raise ConfigError(f"unit {unit} of {cell.name} is to be {value:g}", f"give a number {wanted}")
    return {gate: value if activation == "relu" else _inverse_tanh(value)}


def _inverse_tanh(value: float) -> float:
    """The number of which the engines' tanh is the value, or next to it."""
    low, high = -9.0, 9.0
    for _ in range(40):
        middle = (low + high) / 2
        above = float(tanh(np.array([middle], np.float32))[0]) < value
        low, high = (middle, high) if above else (low, middle)
    return high
