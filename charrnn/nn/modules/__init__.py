"""The parts of networks, one a file: parameters, their initial values, forward and backward passes, steps.

It may import the kernels, which are loaded only when a network is bound to a window, and the cells.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from charrnn.nn.modules.module import Module

# What may stand between two layers, by the name in commands and files: "package.module:Class", where
# Class(H, name) has H inputs and outputs, and the names of its parameters begin with `name`.
BETWEEN: dict[str, str] = {}


def build(kind: str, H: int, name: str) -> Module:
    """The module of this kind."""
    path, _, cls = BETWEEN[kind].partition(":")
    module: Module = getattr(importlib.import_module(path), cls)(H, name)
    return module
