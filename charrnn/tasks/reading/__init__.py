"""The tasks of networks that read whole texts, one a file: what they learn from, and what they tell.

It may import what tasks import; its modules know task.py, examples.py, lines.py and pairs.py, and those of
one task do not know those of another.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from charrnn.checkpoint.kinds import NAMES
from charrnn.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from charrnn.checkpoint.model_file import Checkpoint
    from charrnn.config import TextConfig
    from charrnn.tasks.evaluation import Evaluation
    from charrnn.tasks.files import Files
    from charrnn.vocabulary import OnUnknown

# The files of each task, by its name in `train --task`. Restoring has a room of its own, beside this one.
ASSIGNMENTS = {
    "classify": "classify:LabelledFiles",
    "restore": ".restoring.learning:RestoredFiles",
    "tag": "tag:TaggedFiles",
    "rewrite": "rewrite:RewrittenFiles",
    "fill": "fill:GapFiles",
}

# What measures a model over a corpus, by its kind.
MEASURES: dict[str, str] = {
    "classifier": "classify:measure",
    "restorer": ".restoring.measuring:measure",
    "tagger": "tag:measure",
    "rewriter": "rewrite:measure",
    "filler": "fill:measure",
}

# Of these, each character of a text has its place in what is told of it, or comes out again.
LEAVE_NOTHING_OUT = {"restorer", "tagger", "rewriter"}


def assignment(task: str) -> type[Files]:
    """The class of a task's files."""
    found: type[Files] = _named(ASSIGNMENTS[task])
    return found


def measure(
    model: Checkpoint,
    paths: Sequence[str | Path],
    text: TextConfig,
    threads: int | None = None,
    on_unknown: OnUnknown | None = None,
) -> tuple[Evaluation, tuple[str, ...]]:
    """A model's figures over a corpus, and messages about what reading it changed or left out.

    Raises:
        ConfigError: `on_unknown` is given, and models of this kind leave nothing out.
    """
    kind, asked = model.config.kind, {} if on_unknown is None else {"on_unknown": on_unknown}
    if asked and kind in LEAVE_NOTHING_OUT:
        raise ConfigError(
            f"--on-unknown means nothing to {NAMES[kind]}: what it has never seen counts as wrong",
            "leave it out",
        )
    found: tuple[Evaluation, tuple[str, ...]] = _named(MEASURES[kind])(model, paths, text, threads, **asked)
    return found


def _named(place: str) -> Any:
    module, _, name = place.partition(":")
    return getattr(import_module(f".{module}", __name__), name)
