"""Compiled functions on arrays. Packages inside: the machine, matrix products, loops.

They import only NumPy and Numba. A module is imported at its first use, since describing a network needs no
compiler.

Axes: T time, B batch, H hidden, D input, V vocabulary, G gates (4 LSTM, 3 GRU, 1 RNN).
"""

import importlib
from collections.abc import Callable
from typing import Any


def importing(package: str) -> Callable[[str], Any]:
    """The __getattr__ of a package whose modules are imported at their first use."""

    def imported(name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return importlib.import_module(f"{package}.{name}")

    return imported


__getattr__ = importing(__name__)
