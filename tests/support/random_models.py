"""Models of random weights that write varied text."""

from __future__ import annotations

import numpy as np

from charrnn.checkpoint.model_file import Checkpoint
from charrnn.config import ModelConfig, TextConfig
from charrnn.vocabulary import Vocabulary

CHARACTERS = "\n abcde🙂語"
PROSE, LINES = TextConfig(), TextConfig(lines=True)


def make(
    *, seed: int = 0, scale: float = 1.0, characters: str = CHARACTERS, text: TextConfig = PROSE, **settings
) -> Checkpoint:
    """A network of random weights that writes varied text; of lines, one that often ends them."""
    config = ModelConfig(**{"vocab_size": len(characters), "hidden_size": 6, "embedding_size": 6, **settings})
    random = np.random.default_rng(seed)
    tensors = {
        name: (scale * shape[-1] ** -0.5 * random.standard_normal(shape)).astype(np.float32)
        for name, shape in config.parameter_shapes().items()
    }
    if text.lines:
        tensors["decoder.bias"][0] += 0.5
    return Checkpoint(config, Vocabulary("".join(sorted(characters))), text, tensors)
