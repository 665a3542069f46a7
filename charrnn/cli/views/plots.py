"""`--plot`: a run's losses as a picture, with their labels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from charrnn.cli.views import progress
from charrnn.config import ModelConfig
from charrnn.system.file_errors import refuse_overwriting
from charrnn.training import plotting
from charrnn.training.curves import Labels


def check(path: str, files: Iterable[tuple[str, Path | int]]) -> None:
    """Check that a picture can be drawn into the file `path`, which must be none of `files`.

    Raises:
        ConfigError, CharrnnError: see `plotting.check` and `file_errors.refuse_overwriting`.
    """
    refuse_overwriting(Path(path), files, plotting.OPTION)
    plotting.check(path)


def draw(
    path: str, name: str, history: Iterable[Mapping[str, Any]], model: ModelConfig, *, validated: bool
) -> None:
    """Draw the losses of a model called `name` with `charrnn.training.plotting.draw`.

    Without held-out text (not `validated`), the second curve is the loss over the training text, measured
    without dropout.
    """
    training = f"training (dropout {model.dropout:g})" if model.dropout else "training"
    validation = "validation" if validated else "training text"
    plotting.draw(path, history, Labels(name, progress.network(model), training, validation))
