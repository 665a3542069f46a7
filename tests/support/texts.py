"""One text of a run, as most tests of writing want it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from charrnn.checkpoint.model_file import Checkpoint
from charrnn.config import SampleConfig
from charrnn.generation.writing import generate_all
from charrnn.inference.mixture import Blend


def generate(
    checkpoint: Checkpoint | Blend,
    prompt: str = "",
    config: SampleConfig = SampleConfig(),  # noqa: B008 (frozen)
    *,
    index: int = 0,
    **options: Any,
) -> Iterator[str]:
    """The pieces of text number `index`; the options are those of generate_all."""
    return next(generate_all(checkpoint, prompt, config, first=index, **options))
