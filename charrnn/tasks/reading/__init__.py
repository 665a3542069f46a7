"""The tasks of networks that read whole texts, one a file: what they learn from, and what they tell.

It may import what tasks import; its modules know task.py, examples.py, lines.py and pairs.py, and those of
one task do not know those of another.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from charrnn.checkpoint.model_file import Checkpoint
    from charrnn.config import TextConfig
    from charrnn.tasks.evaluation import Evaluation
    from charrnn.tasks.files import Files
    from charrnn.vocabulary import OnUnknown

# The files of each task, by its name in `train --task`.
ASSIGNMENTS = {
    "classify": "classify:LabelledFiles",
    "tag": "tag:TaggedFiles",
    "rewrite": "rewrite:RewrittenFiles",
    "fill": "fill:GapFiles",
}

# What measures a model over a corpus, by its kind.
MEASURES: dict[str, str] = {
    "classifier": "classify:measure",
    "tagger": "tag:measure",
    "rewriter": "rewrite:measure",
    "filler": "fill:measure",
}


def assignment(task: str) -> type[Files]:
    """The class of a task's files."""
    found: type[Files] = _named(ASSIGNMENTS[task])
    return found


def measure(
    model: Checkpoint,
    paths: Sequence[str | Path],
    text: TextConfig,
    on_unknown: OnUnknown = "error",
    threads: int | None = None,
) -> tuple[Evaluation, tuple[str, ...]]:
    """A model's figures over a corpus, and messages about what reading it changed or left out."""
    found: tuple[Evaluation, tuple[str, ...]] = _named(MEASURES[model.config.kind])(
        model, paths, text, on_unknown, threads
    )
    return found


def _named(place: str) -> Any:
    module, _, name = place.partition(":")
    return getattr(import_module(f"{__name__}.{module}"), name)
