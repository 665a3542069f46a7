"""The recurrent cells, one in each module; every file here is a cell that all commands know.

It may import charrnn.nn.cell alone.
"""

from __future__ import annotations

import importlib
import os

from charrnn.nn.cell import Cell

CELLS: dict[tuple[str, str | None], Cell] = {}  # by kind and nonlinearity


def register(cell: Cell) -> None:
    """Add the cell to the table."""
    CELLS[cell.kind, cell.nonlinearity] = cell


def kinds() -> tuple[str, ...]:
    """The values of `cell` in commands and files, in the order of the choices."""
    return tuple(dict.fromkeys(kind for kind, _ in CELLS))


def learning() -> tuple[str, ...]:
    """The kinds of those that make layers that learn."""
    return tuple(dict.fromkeys(kind for (kind, _), cell in CELLS.items() if cell.is_layer))


def nonlinearities() -> tuple[str, ...]:
    """The values of `nonlinearity`; the first is also that of files and commands whose cell has none."""
    return tuple(dict.fromkeys(("tanh", *(nonlinearity for _, nonlinearity in CELLS if nonlinearity))))


def cell_of(kind: str, nonlinearity: str) -> Cell | None:
    """The cell of a file or a command. The nonlinearity only matters for a kind with several cells."""
    return CELLS.get((kind, None)) or CELLS.get((kind, nonlinearity))


def _found() -> list[Cell]:
    # Without pkgutil, whose import would delay `--help` by a millisecond.
    files = sorted({name for folder in __path__ for name in os.listdir(folder)})
    names = {name.partition(".")[0] for name in files if name.endswith((".py", ".pyc"))}
    modules = [importlib.import_module(f"{__name__}.{name}") for name in names if name != "__init__"]
    return sorted((module.CELL for module in modules), key=lambda cell: (cell.place, cell.name))


for _cell in _found():
    register(_cell)
