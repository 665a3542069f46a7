"""The vanilla recurrent cell (Elman 1990) with tanh.

h' = tanh(W_ih x + b_ih + W_hh h + b_hh)
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
    nonlinearity="tanh",
    place=2,
    gates={"a": "tanh"},
    forward=forward,
    backward=backward,
    learning_rate_scale=0.5,
)
