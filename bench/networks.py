"""The networks that are measured, and what a character costs in them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from charrnn.config import ModelConfig

VOCABULARY = 65  # characters of the synthetic text, as many as tinyshakespeare has


@dataclass(frozen=True)
class Network:
    """What decides how much there is to compute. Only the default recipe has norm, skips and dropout."""

    cell: str
    layers: int
    hidden: int
    batch: int = 50
    seq: int = 50
    norm: bool = False
    residual: bool = False
    dropout: float = 0.0

    @property
    def name(self) -> str:
        return f"{self.cell.upper()} {self.layers} x {self.hidden}"

    def arguments(self) -> list[str]:
        """The options of the measured scripts."""
        values: dict[str, Any] = {
            "cell": self.cell, "layers": self.layers, "hidden": self.hidden,
            "batch": self.batch, "seq": self.seq, "dropout": self.dropout,
        }  # fmt: skip
        flags = [f"--{flag}" for flag in ("norm", "residual") if getattr(self, flag)]
        return [part for name, value in values.items() for part in (f"--{name}", str(value))] + flags


TRAINED = (
    Network("lstm", 1, 128),
    Network("lstm", 2, 128),
    Network("lstm", 2, 256),
    Network("lstm", 3, 512),
    Network("lstm", 1, 1024),
    Network("gru", 2, 128),
    Network("gru", 2, 512),
    Network("rnn", 2, 128),
)


def flops_per_character(cell: str, layers: int, hidden: int, vocabulary: int) -> int:
    """Floating-point operations to train on one character: 6 for each weight in a matrix product.

    A multiplication and an addition forward, as many for the gradient of the input, and as many for that
    of the weight. The first layer's input costs none: it is a row of a table. Elementwise work is left out.

    An LSTM of 2 x 128 over 65 characters: 6 * (3 * 4 * 128 * 128 + 65 * 128) = 1,229,568.
    """
    gates = ModelConfig(vocabulary, cell).gates
    recurrent_and_input = (2 * layers - 1) * gates * hidden * hidden
    return 6 * (recurrent_and_input + vocabulary * hidden)
