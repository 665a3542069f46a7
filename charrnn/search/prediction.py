"""The distribution of the next character after a prompt."""

from __future__ import annotations

import math
from typing import Literal

from charrnn.checkpoint.model_file import Checkpoint
from charrnn.config import SampleConfig
from charrnn.inference import filters, sampling
from charrnn.inference.mixture import Blend, network_of
from charrnn.search.predictor import Predictor


def next_characters(
    checkpoint: Checkpoint | Blend,
    prompt: str = "",
    *,
    temperature: float = 1.0,
    on_unknown: Literal["error", "skip"] = "error",
) -> list[tuple[str, float]]:
    """All V characters with their probability of coming next, the most probable first.

    These are the probabilities from which `generate` samples after this prompt, before any filter: the end of
    an empty record has 0. END is among them if the model is one of records other than lines. Temperature 0
    gives the most probable character 1. Equally probable characters are in the order of code points.

    Raises:
        VocabularyError: the prompt has a character that the model has never seen.
        ConfigError: the temperature is out of range.
    """
    config = SampleConfig(temperature=temperature)
    vocabulary = checkpoint.vocabulary
    V = len(vocabulary)
    predictor = Predictor(checkpoint)
    cursor = predictor.start(prompt, on_unknown)
    logits = network_of(checkpoint, config.precision).step(cursor.last, cursor.state)[0].tolist()
    if predictor.text.records and cursor.last == V:
        logits[predictor.end] = -math.inf
    p = [0.0] * V
    if temperature == 0:
        p[filters.argmax(logits)] = 1.0
    else:
        sampling.probabilities(p, logits, float(temperature))
    order = sorted(range(V), key=lambda n: (-p[n], n))
    return [(vocabulary.characters[n], p[n]) for n in order]
