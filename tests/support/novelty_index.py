"""The index of a training text, built in one go."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from typing import TypeVar

from charrnn.checkpoint.model_file import Checkpoint
from charrnn.text.novelty import Novelty

T = TypeVar("T")


def result(work: Generator[object, None, T]) -> T:
    """What a generator returns once it has been run to its end."""
    while True:
        try:
            next(work)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]


def indexed(checkpoint: Checkpoint, text: str) -> Checkpoint:
    """The model, as if it had been trained on the text."""
    return replace(checkpoint, novelty=result(Novelty.build(lambda: [text], end=checkpoint.text.end)))
