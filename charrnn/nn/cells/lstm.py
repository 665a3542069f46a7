"""The LSTM (Hochreiter & Schmidhuber 1997, with Gers' forget gate).

i, f, g, o = sigma, sigma, tanh, sigma of (W_ih x + b_ih + W_hh h + b_hh)
c' = f c + i g
h' = o tanh(c')
"""

from __future__ import annotations

from typing import Any

from charrnn.nn.cell import OPEN, Cell, Stage


def forward(of: Any) -> tuple[Stage, ...]:
    """c', then h'."""
    tanh = of.tanh

    def remember(i: Any, f: Any, g: Any, c: Any) -> Any:
        return f * c + i * g

    def show(o: Any, c: Any) -> Any:
        tanh_c = tanh(c)
        return tanh_c, o * tanh_c

    return Stage(remember, ("c",)), Stage(show, ("tanh_c", "h"))


def backward(of: Any) -> Stage:
    """Gradients of the gates and of c."""
    through_tanh = of.through_tanh

    def gradients(i: Any, f: Any, g: Any, o: Any, c: Any, tanh_c: Any, d_h: Any, d_c: Any) -> Any:
        d_c = d_c + through_tanh(d_h * o, tanh_c)
        return d_c * g, d_c * c, d_c * i, d_h * tanh_c, d_c * f

    return Stage(gradients, ("i", "f", "g", "o", "c"))


CELL = Cell(
    kind="lstm",
    place=0,
    gates={"i": "sigmoid", "f": "sigmoid", "g": "tanh", "o": "sigmoid"},
    state=("h", "c"),
    kept=("tanh_c",),
    forward=forward,
    backward=backward,
    keeps={"f": OPEN, "g": 0.0},
    biases={"f": 1.0},  # Jozefowicz et al. 2015; with norm, it learns faster from 0
)
