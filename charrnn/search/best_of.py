"""The best of several samples: the one with the lowest loss.

The loss is the mean over characters, as in `charrnn eval`, at temperature 1 and without filters, however the
samples were drawn. Among texts of equal length the best is the most probable. Where lengths differ, the
probability of the whole text would nearly always favour the shortest: a line of 4 characters is more probable
than any of 12, however dull. charrnn.search.enumeration lists the most probable lines.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import Literal

import numpy as np

from charrnn.checkpoint.model_file import Checkpoint
from charrnn.config import SampleConfig
from charrnn.errors import ConfigError
from charrnn.inference.mixture import Blend
from charrnn.search.predictor import Cursor, Predictor

BATCH = 64  # texts scored side by side


def best_of_each(
    checkpoint: Checkpoint | Blend,
    texts: Iterator[Iterator[str]],
    n: int,
    prompts: Iterable[str],
    config: SampleConfig,
    *,
    on_unknown: Literal["error", "skip"] = "error",
    echo: bool = False,
    threads: int | None = None,
) -> Iterator[Iterator[str]]:
    """The best of each n consecutive texts, in one piece; of equally good ones the first.

    `prompts` has one prompt for each n texts; with `echo` it is put before the best of them.

    Raises:
        ConfigError: n is below 1.
    """
    if n < 1:
        raise ConfigError(f"best-of is {n}", "give a whole number from 1 up")
    predictor = Predictor(checkpoint, config.precision, threads)

    def best() -> Iterator[Iterator[str]]:
        given = iter(prompts)
        last: tuple[str, Cursor] | None = None  # so that a prompt that repeats is read once
        while (first := next(texts, None)) is not None:
            prompt = next(given)
            if last is None or last[0] != prompt:
                last = prompt, predictor.start(prompt, on_unknown)
            text = _best(predictor, last[1], islice(chain([first], texts), n))
            before = "".join(c for c in prompt if c in predictor.vocabulary) if echo else ""
            yield iter([before + text])

    return best()


def _best(predictor: Predictor, start: Cursor, texts: Iterator[Iterator[str]]) -> str:
    """The best of the texts, of which at most BATCH are held in memory."""

    def rated() -> Iterator[tuple[str, float]]:
        while group := ["".join(pieces) for pieces in islice(texts, BATCH)]:
            ids = [predictor.vocabulary.encode(text).astype(np.int64) for text in group]
            totals = predictor.score([start] * len(ids), ids)
            for text, total in zip(group, totals, strict=True):
                yield text, total / max(1, len(text))

    return max(rated(), key=lambda text: text[1])[0]
