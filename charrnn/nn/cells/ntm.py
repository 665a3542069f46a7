"""The controller of a neural Turing machine (Graves, Wayne & Danihelka 2014): an LSTM.

The memory that it reads and writes stands in charrnn.nn.modules.writing.memory.
"""

from __future__ import annotations

from typing import Any

from charrnn.nn.cell import Cell, Stage

CONTROLLER = "lstm"


def forward(of: Any) -> tuple[Stage, ...]:
    """The controller's."""
    return _controller().forward(of)


def backward(of: Any) -> Stage:
    """The controller's."""
    return _controller().backward(of)


def _controller() -> Cell:
    from charrnn.nn.cells import cell_of  # when all cells are known

    found = cell_of(CONTROLLER, "")
    assert found is not None
    return found


CELL = Cell(
    kind="ntm",
    place=5,
    gates={"i": "sigmoid", "f": "sigmoid", "g": "tanh", "o": "sigmoid"},
    state=("h", "c"),
    kept=("tanh_c",),
    forward=forward,
    backward=backward,
    biases={"f": -1.0},  # what is to be remembered is for the memory
    controller=CONTROLLER,
)
