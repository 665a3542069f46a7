"""Models small enough to write out all that they can write, and their probabilities by the reference."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

import naive
import numpy as np

from charrnn.checkpoint.model_file import Checkpoint
from charrnn.config import ModelConfig, TextConfig
from charrnn.vocabulary import END, Vocabulary


def toy(
    seed: int = 0,
    characters: str = "\nab",
    *,
    lines: bool = True,
    split: str | None = None,
    ending: float = 1.5,
    **settings: Any,
) -> Checkpoint:
    """Random weights, `ending` added to the logit of the text's end: END with `split`, else a newline."""
    sizes = {"vocab_size": len(characters), "hidden_size": 5, "embedding_size": 4, "num_layers": 2}
    config = ModelConfig(**sizes | {"ends": split is not None} | settings)
    text = TextConfig(lines=lines and split is None, split=split)
    random = np.random.default_rng(seed)
    tensors = {
        name: (0.8 * shape[-1] ** -0.5 * random.standard_normal(shape)).astype(np.float32)
        for name, shape in config.parameter_shapes().items()
    }
    tensors["decoder.bias"][0 if split is None else -1] += ending
    return Checkpoint(config, Vocabulary(characters + END * config.ends), text, tensors)


def log_probabilities(checkpoint: Checkpoint, context: str, text: str) -> np.ndarray[Any, Any]:
    """log p of what may follow START and each of the n characters of context and text, (n + 1, outputs)."""
    config = checkpoint.config
    ids = [config.vocab_size, *checkpoint.vocabulary.encode(context + text).tolist()]
    logits, _, _ = naive.forward(
        checkpoint.tensors, config.cell, config.nonlinearity, config.num_layers, config.norm,
        config.residual, np.array(ids)[:, None],
    )  # fmt: skip
    logits = logits[:, 0]
    return logits - np.log(np.sum(np.exp(logits), axis=1, keepdims=True))


def log_probability(checkpoint: Checkpoint, context: str, text: str) -> float:
    """log p of the text after START and the context."""
    ids = checkpoint.vocabulary.encode(context + text).tolist()
    table = log_probabilities(checkpoint, context, text)
    return math.fsum(table[n, ids[n]] for n in range(len(context), len(ids)))


def all_log_probabilities(
    checkpoint: Checkpoint, context: str, longest: int
) -> dict[str, tuple[float, float]]:
    """Of each text of at most so many characters but its end: log p of it, and of it with its end."""
    end = checkpoint.text.end or "\n"
    letters = checkpoint.vocabulary.characters.replace(end, "")
    closing = checkpoint.vocabulary.characters.index(end)
    found: dict[str, tuple[float, float]] = {}
    for whole in itertools.product(letters, repeat=longest):
        text = "".join(whole)
        table = log_probabilities(checkpoint, context, text)
        ids = checkpoint.vocabulary.encode(context + text).tolist()
        for n in range(longest + 1):
            total = math.fsum(table[t, ids[t]] for t in range(len(context), len(context) + n))
            found[text[:n]] = total, total + table[len(context) + n, closing]
    return found


def texts(characters: str, longest: int) -> Iterator[str]:
    """All texts of these characters with at most so many of them."""
    for n in range(longest + 1):
        for chosen in itertools.product(characters, repeat=n):
            yield "".join(chosen)
