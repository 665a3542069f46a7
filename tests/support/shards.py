"""Small networks of all kinds, and batches for them that can be cut into shards."""

from __future__ import annotations

from typing import Any

import numpy as np

from charrnn.config import Kind, ModelConfig
from charrnn.nn.reader import Batch

V, T, B = 6, 5, 7
READERS: tuple[Kind, ...] = ("classifier", "restorer", "tagger", "rewriter", "filler")


def config(kind: Kind = "writer", **more: Any) -> ModelConfig:
    targets = () if kind in ("writer", "filler") else (4,)
    sizes = {"hidden_size": 6, "embedding_size": 4, "num_layers": 2, "dropout": 0.3}
    return ModelConfig(V, **sizes | more, kind=kind, targets=targets)


def batch(kind: Kind, seed: int) -> Any:
    random = np.random.default_rng(seed)
    x, y = random.integers(0, V, (2, T, B)).astype(np.int32)
    if kind == "writer":
        return x, y, random.random((T, B)) < 0.2, None
    lengths, weights = random.integers(1, T + 1, B), random.random(B)
    if kind == "classifier":
        return Batch(x, lengths, random.random((B, 4)), weights, beside=random.random((B, 4)))
    if kind == "tagger":
        return Batch(x, lengths, y % 4, weights)
    inside = (np.arange(T)[:, None] < lengths) * weights
    return Batch(
        x, lengths, y % 4, inside, np.vstack([x[:1] * 0 + V, y[:-1] % 4]) if kind == "rewriter" else None
    )
