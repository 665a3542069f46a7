"""The vanilla recurrent cell (Elman 1990) with ReLU.

h' = relu(W_ih x + b_ih + W_hh h + b_hh)
"""

from __future__ import annotations

from typing import Any

from charrnn.nn.cell import Cell, Stage


def forward(of: Any) -> tuple[Stage, ...]:
    """h' is the gate."""
    return (Stage(lambda a: a, ("h",)),)


def backward(of: Any) -> Stage:
    """The gradient of the gate."""
    return Stage(lambda d_h: d_h, ("a",))


CELL = Cell(
    kind="rnn",
    nonlinearity="relu",
    place=3,
    gates={"a": "relu"},
    forward=forward,
    backward=backward,
    learning_rate_scale=0.5,
    recurrent_identity=True,  # Le et al. 2015
)
