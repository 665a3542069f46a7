"""What a unit is called, and which of its numbers is looked at.

A unit has one number, which goes on from character to character: c in an LSTM, h in a GRU and a vanilla
network. Karpathy et al. (2016) show tanh(c), which is how much of it comes out; so do we, and so for whatever
has no bounds.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from charrnn.config import ModelConfig
from charrnn.errors import ConfigError, quoted
from charrnn.nn.cell import Cell


class Unit(NamedTuple):
    """A unit: layers are counted from 1, units from 0."""

    layer: int
    number: int

    def __str__(self) -> str:
        return f"{self.layer}:{self.number}"


def unit_of(name: str, config: ModelConfig) -> Unit:
    """The unit that is called so: `1:37`.

    Raises:
        ConfigError: this is no name, or the network has no such unit.
    """
    found = re.fullmatch(r"([0-9]{1,9}):([0-9]{1,9})", name)
    if found is None:
        raise ConfigError(f"the unit is {quoted(name)}", "give layer:unit, such as 1:37")
    unit = Unit(int(found[1]), int(found[2]))
    if not (1 <= unit.layer <= config.num_layers and unit.number < config.hidden_size):
        layers = "one layer, 1," if config.num_layers == 1 else f"layers 1 to {config.num_layers}"
        raise ConfigError(
            f"there is no unit {unit}", f"the model has {layers} of units 0 to {config.hidden_size - 1}"
        )
    return unit


def part(cell: Cell) -> int:
    """Which part of the cell's state is looked at."""
    return cell.state.index("c") if "c" in cell.state else 0


def is_bounded(cell: Cell) -> bool:
    """Whether its values are between -1 and 1 by themselves."""
    return part(cell) == 0 and "relu" not in cell.gates.values()


def measure(cell: Cell) -> str:
    """What is shown of it: h or tanh(c)."""
    name = cell.state[part(cell)]
    return name if is_bounded(cell) else f"tanh({name})"
