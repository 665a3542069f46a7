"""Networks that read, of a few random weights, and what they compute slowly."""

from __future__ import annotations

from typing import Any

import numpy as np

from charrnn.checkpoint.model_file import Checkpoint
from charrnn.config import Kind, ModelConfig, TextConfig
from charrnn.labels import Column
from charrnn.vocabulary import Vocabulary

SIZES: dict[str, Any] = {"hidden_size": 8, "num_layers": 1, "embedding_size": 4}


def reader(kind: Kind, characters: str, targets: tuple[str, ...], seed: int = 0, **more: Any) -> Checkpoint:
    """A tagger or a rewriter of these characters, a line end among them, and targets."""
    config = ModelConfig(len(characters), **SIZES | more, kind=kind, targets=(len(targets),))
    words = any(len(target) > 1 for target in targets)
    random = np.random.default_rng(seed)
    tensors = {
        name: (1.2 * shape[-1] ** -0.5 * random.standard_normal(shape)).astype(np.float32)
        for name, shape in config.parameter_shapes().items()
    }
    return Checkpoint(
        config, Vocabulary(characters), TextConfig(targets="words" if words else "characters"), tensors,
        columns=(Column("", targets, (1,) * len(targets)),),
    )  # fmt: skip
