"""Compiled functions of arrays, in rooms of their own: the machine, products, loops.

NumPy and Numba are their only imports. What only describes a network needs no compiler, so `kernels.rows` and
the like are imported where they are first used.

Axes: T time, B batch, H hidden, D input, V vocabulary, G gates (4 LSTM, 3 GRU, 1 RNN).
"""

import importlib
from collections.abc import Callable
from typing import Any


def importing(package: str) -> Callable[[str], Any]:
    """The __getattr__ of a package whose modules are imported so."""

    def imported(name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return importlib.import_module(f"{package}.{name}")

    return imported


__getattr__ = importing(__name__)
