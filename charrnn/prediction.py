"""What comes next after a prompt: every character with its probability."""

from __future__ import annotations

from typing import Literal

import numpy as np

from charrnn import sampling
from charrnn.checkpoint import Checkpoint
from charrnn.config import SampleConfig
from charrnn.generation import opening
from charrnn.paths import Cursor, Paths
from charrnn.plain import PlainNetwork


def next_characters(
    checkpoint: Checkpoint,
    prompt: str = "",
    *,
    temperature: float = 1.0,
    on_unknown: Literal["error", "skip"] = "error",
) -> list[tuple[str, float]]:
    """All V characters with the probability that each comes after the prompt, the most probable first.

    The prompt is read as `generate` reads it, and these are the probabilities that it chooses by, before any
    filter. Temperature 1 is the network's own; 0 leaves the most probable character alone. Of characters that
    are equally probable the lower code point comes first.

    Raises:
        VocabularyError: the prompt holds a character that the model has never seen.
        ConfigError: the temperature is out of range.
    """
    config = SampleConfig(temperature=temperature)
    vocabulary = checkpoint.vocabulary
    V = len(vocabulary)
    ids = vocabulary.encode(prompt, on_unknown).astype(np.int64)
    read = opening(ids, V, vocabulary.characters.find("\n"), checkpoint.text.lines)
    network = PlainNetwork(checkpoint)
    paths = Paths(network, config)
    cursor, unread = Cursor(int(read[0]), network.initial_state()), read[1:]
    while len(unread):
        path = paths.best(len(unread))
        path.read(cursor, unread[: path.longest(1)])
        unread = unread[path.longest(1) :]
    logits = network.step(cursor.last, cursor.state)[0].tolist()
    p = [0.0] * V
    if temperature == 0:
        p[sampling.argmax(logits)] = 1.0
    else:
        sampling.probabilities(p, logits, float(temperature))
    order = sorted(range(V), key=lambda n: (-p[n], n))
    return [(vocabulary.characters[n], p[n]) for n in order]
