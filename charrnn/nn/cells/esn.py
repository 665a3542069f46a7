"""The leaky unit of an echo-state network (Jaeger 2001; Jaeger et al. 2007), whose weights are never trained.

a = tanh(W_in x + b + W h)
h' = (1 - l) h + l a

The leak l is a gate that has the same value at every step.
"""

from __future__ import annotations

from typing import Any

from charrnn.nn.cell import Cell, Stage


def forward(of: Any) -> tuple[Stage, ...]:
    """h'."""
    blend = of.blend
    return (Stage(lambda a, l, h: blend(h, a, l), ("h",)),)  # noqa: E741


def backward(of: Any) -> Stage:
    """Gradients of the gates and of h."""
    complement = of.complement

    def gradients(a: Any, l: Any, h: Any, d_h: Any) -> Any:  # noqa: E741
        return d_h * l, d_h * (a - h), d_h * complement(l)

    return Stage(gradients, ("a", "l", "h"))


CELL = Cell(
    kind="esn",
    place=4,
    gates={"a": "tanh", "l": None},
    forward=forward,
    backward=backward,
    is_made=True,
)
