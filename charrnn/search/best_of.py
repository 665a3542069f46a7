"""The best of several samples: the one that surprises the model least.

The measure is the mean log-probability of a character (bits per character, as `charrnn eval` has them), at
temperature 1 and without filters, whatever the samples were chosen with. Of texts of one length that is the
most probable one. Where lengths differ, the whole text's probability would nearly always choose the
shortest: a line of 4 characters is more probable than any of 12, however dull. The most probable whole
lines are what charrnn.search.enumeration lists.
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

TOGETHER = 64  # texts that are read side by side


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
    """The best of each n texts in turn, the first of several as good, in one piece.

    The next of `prompts` is what these n texts go on from; with `echo` it comes before the best of them.

    Raises:
        ConfigError: n is below 1.
    """
    if n < 1:
        raise ConfigError(f"best-of is {n}", "give a whole number from 1 up")
    return _best_of_each(
        Predictor(checkpoint, config.precision, threads), texts, n, iter(prompts), on_unknown, echo
    )


def _best_of_each(
    predictor: Predictor,
    texts: Iterator[Iterator[str]],
    n: int,
    prompts: Iterator[str],
    on_unknown: Literal["error", "skip"],
    echo: bool,
) -> Iterator[Iterator[str]]:
    last: tuple[str, Cursor] | None = None  # prompts that are all the same are read once
    while (first := next(texts, None)) is not None:
        prompt = next(prompts)
        if last is None or last[0] != prompt:
            last = prompt, predictor.start(prompt, on_unknown)
        text = _best(predictor, last[1], islice(chain([first], texts), n))
        before = "".join(c for c in prompt if c in predictor.vocabulary) if echo else ""
        yield iter([before + text])


def _best(predictor: Predictor, start: Cursor, texts: Iterator[Iterator[str]]) -> str:
    """The best of some texts, of which a few are held at a time."""
    best: tuple[str, float] | None = None
    while group := ["".join(pieces) for pieces in islice(texts, TOGETHER)]:
        ids = [predictor.vocabulary.encode(text).astype(np.int64) for text in group]
        totals = predictor.score([start] * len(ids), ids)
        for text, total in zip(group, totals, strict=True):
            mean = total / max(1, len(text))
            if best is None or mean > best[1]:
                best = text, mean
    assert best is not None
    return best[0]
