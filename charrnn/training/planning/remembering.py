"""Default settings for a controller with a memory, whatever it learns; see writing.py for other networks.

Nothing is measured: they depend on the texts alone, and minutes only end the run.
"""

from __future__ import annotations

from typing import Any

from charrnn.config import Kind
from charrnn.errors import ConfigError
from charrnn.training.planning.reading import SMALLEST_VALIDATED
from charrnn.training.planning.writing import (
    BUDGETS,
    LARGEST_VALIDATION,
    Plan,
    reason,
)
from charrnn.training.planning.writing import (
    SMALLEST_VALIDATED as FEWEST_CHARACTERS,
)

NOT_BESIDE_A_MEMORY = {"num_layers": 1, "norm": False, "residual": False, "between": (), "span": 0}
SEQUENCES, MOST_EPOCHS = 20_000, 40.0  # a rewriter learns from as many, but not in more epochs
MOST_VALIDATED = 100  # pairs: each is a step for each of its characters
SETTINGS: dict[str, dict[str, Any]] = {
    "rewriter": {"batch_size": 1, "learning_rate": 2e-3, "clip": 0.1, "clip_ratio": 2.0},
    "writer": {"batch_size": 16, "learning_rate": 4e-3, "val_split": "scattered", "counts": 0.0},
}


def plan(kind: Kind, characters: int, texts: int, given: dict[str, Any]) -> Plan:
    """The settings for so many characters in so many texts; those `given` take precedence."""
    for name, value in NOT_BESIDE_A_MEMORY.items():
        if given.get(name, value) not in (value, ()):
            raise ConfigError(
                f"--{name.replace('_', '-')} is for layers, and a memory has a controller alone",
                "leave it out, or give another --cell",
            )
    if kind == "writer":
        enough, share = characters >= FEWEST_CHARACTERS, min(0.1, LARGEST_VALIDATION / characters)
        budget = {"minutes": 5.0}
    else:
        enough, share = texts >= SMALLEST_VALIDATED, min(0.1, MOST_VALIDATED / texts)
        budget = {"epochs": min(max(1.0, SEQUENCES / texts), MOST_EPOCHS)}
    settings: dict[str, Any] = {
        "hidden_size": 100,
        "num_layers": 1,
        "embedding_size": 32,
        "val_fraction": share if enough else 0.0,
        "weight_decay": 0.0,
        "dropout": 0.0,
        "precision": "float32",
        **SETTINGS[kind],
        **({} if given.keys() & BUDGETS else budget),
        **given,
    }
    return Plan(settings, reason(settings, given, characters, f"{texts:,} texts"))
