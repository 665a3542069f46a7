"""The loss of samples, and the best of several: the one with the lowest.

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
from charrnn.generation.writing import Written
from charrnn.inference.engines import Ids
from charrnn.inference.mixture import Blend
from charrnn.search.predictor import Cursor, Predictor

BATCH = 64  # texts scored side by side


def best_of_each(
    checkpoint: Checkpoint | Blend,
    texts: Iterator[Written],
    n: int,
    prompts: Iterable[str],
    config: SampleConfig,
    *,
    on_unknown: Literal["error", "skip"] = "error",
    echo: bool = False,
    threads: int | None = None,
) -> Iterator[Written]:
    """The best of each n consecutive texts, in one piece, with its loss; of equally good ones the first.

    It has the number that it would have if each n texts were one. `prompts` has one prompt for each n texts;
    with `echo` it is put before the best of them.

    Raises:
        ConfigError: n is below 1.
    """
    if n < 1:
        raise ConfigError(f"best-of is {n}", "give a whole number from 1 up")
    predictor = Predictor(checkpoint, config.precision, threads)

    def best() -> Iterator[Written]:
        given = iter(prompts)
        last: tuple[str, Cursor] | None = None  # so that a prompt that repeats is read once
        while (first := next(texts, None)) is not None:
            prompt = next(given)
            if last is None or last[0] != prompt:
                last = prompt, predictor.start(prompt, on_unknown)
            group = _rated(predictor, last[1], islice(chain([first], texts), n), BATCH)
            text, found = min(group, key=_loss)
            found.index //= n
            yield _in_one_piece(text, found, prompt if echo else "", predictor)

    return best()


def rate_each(
    checkpoint: Checkpoint | Blend,
    texts: Iterator[Written],
    prompt: str,
    config: SampleConfig,
    *,
    on_unknown: Literal["error", "skip"] = "error",
    echo: bool = False,
    threads: int | None = None,
) -> Iterator[Written]:
    """Each text in one piece, with its loss; all go on from the prompt. The first do not wait for others."""
    predictor = Predictor(checkpoint, config.precision, threads)
    start = predictor.start(prompt, on_unknown)
    size = 1
    while group := list(_rated(predictor, start, islice(texts, size), size)):
        for text, written in group:
            yield _in_one_piece(text, written, prompt if echo else "", predictor)
        size = min(2 * size, BATCH)


def _in_one_piece(text: str, written: Written, before: str, predictor: Predictor) -> Written:
    known = "".join(c for c in before if c in predictor.vocabulary)
    written.pieces = iter([known + text])
    return written


def _rated(
    predictor: Predictor, start: Cursor, texts: Iterator[Written], size: int
) -> Iterator[tuple[str, Written]]:
    """The texts, with their losses set; `size` of them are rated side by side and held in memory."""
    while group := [("".join(written), written) for written in islice(texts, size)]:
        ids = [_ids(predictor, text, written) for text, written in group]
        totals = predictor.score([start] * len(ids), ids)
        for (text, written), read, total in zip(group, ids, totals, strict=True):
            written.loss = abs(total) / max(1, len(read))
            yield text, written


def _loss(rated: tuple[str, Written]) -> float:
    loss = rated[1].loss
    assert loss is not None
    return loss


def _ids(predictor: Predictor, text: str, written: Written) -> Ids:
    """The characters of a text, with END if it came."""
    ids = predictor.vocabulary.encode(text).astype(np.int64)
    return np.append(ids, predictor.end) if written.closed else ids
