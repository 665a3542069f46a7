"""What comes next after a prompt: every character with its probability."""

from __future__ import annotations

import math
from typing import Literal

from charrnn.checkpoint.model_file import Checkpoint
from charrnn.config import SampleConfig
from charrnn.generation.writing import network_of
from charrnn.inference import sampling
from charrnn.inference.mixture import Blend
from charrnn.search.predictor import Predictor


def next_characters(
    checkpoint: Checkpoint | Blend,
    prompt: str = "",
    *,
    temperature: float = 1.0,
    on_unknown: Literal["error", "skip"] = "error",
) -> list[tuple[str, float]]:
    """All V characters with the probability that each comes after the prompt, the most probable first.

    The prompt is read as `generate` reads it, and these are the probabilities that it chooses by, before any
    filter: so the end of an empty line has 0 in a model of lines. Temperature 1 is the network's own; 0
    leaves the most probable character alone. Of characters that are equally probable the lower code point
    comes first.

    Raises:
        VocabularyError: the prompt holds a character that the model has never seen.
        ConfigError: the temperature is out of range.
    """
    config = SampleConfig(temperature=temperature)
    vocabulary = checkpoint.vocabulary
    V = len(vocabulary)
    predictor = Predictor(checkpoint)
    cursor = predictor.start(prompt, on_unknown)
    logits = network_of(checkpoint, config.precision).step(cursor.last, cursor.state)[0].tolist()
    if predictor.lines and cursor.last == V:
        logits[predictor.newline] = -math.inf
    p = [0.0] * V
    if temperature == 0:
        p[sampling.argmax(logits)] = 1.0
    else:
        sampling.probabilities(p, logits, float(temperature))
    order = sorted(range(V), key=lambda n: (-p[n], n))
    return [(vocabulary.characters[n], p[n]) for n in order]
