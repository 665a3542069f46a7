"""Where the heads of a memory look as a network reads, and then perhaps answers.

Axes: T steps, N rows of the memory.
"""

from __future__ import annotations

import numpy as np

from charrnn.checkpoint.model_file import Checkpoint
from charrnn.diagnosis.findings import Looks
from charrnn.nn.network import Model
from charrnn.nn.parameters import Array
from charrnn.nn.reader import Reader
from charrnn.nn.workers import Workers

READ, MOST_STEPS = 64, 1000  # characters of a text that goes on; steps of a source and its target


def follow(checkpoint: Checkpoint, ids: Array, told: tuple[str, ...], threads: int | None) -> Looks:
    """Read a text (n,) and, if it is a source with its end, answer with a target."""
    config, characters = checkpoint.config, checkpoint.vocabulary.characters
    network: Model | Reader
    if config.kind == "writer":
        x = np.append(config.vocab_size, ids)[:MOST_STEPS].astype(np.int32)[:, None]
        network = Model(config, workers=Workers(threads))
        network.load_tensors(checkpoint.tensors)
        network.forward(x)
    else:
        nothing = np.full(len(told), config.vocab_size)
        x = np.concatenate([ids, nothing])[:MOST_STEPS].astype(np.int32)[:, None]
        network = Reader(config, workers=Workers(threads))
        network.load_tensors(checkpoint.tensors)
        network.forward(x, np.array([len(x)]))
    weights = network.heads(*x.shape)[:, 0]
    read = tuple(characters[n] if n < len(characters) else "" for n in x[:, 0].tolist())
    telling = ("",) * (len(ids) - 1) + told + ("",) * len(x)
    return Looks(read, telling[: len(x)], weights[:, 0].tolist(), weights[:, 1].tolist())
