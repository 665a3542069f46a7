"""`-m MODEL[:WEIGHT]`: one model, or a mixture of several."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

from charrnn.errors import ConfigError, quoted

if TYPE_CHECKING:
    from charrnn import api
    from charrnn.checkpoint.model_file import Checkpoint

Models = Annotated[
    list[str] | None,
    typer.Option(
        "-m",
        "--model",
        metavar="PATH[:WEIGHT]",
        help="The model; several are mixed [the newest].",
    ),
]


def load(models: list[str] | None) -> Checkpoint | api.Blend:
    """The model, or blend of models, that the options name; without any, the newest model.

    Raises:
        ConfigError: a weight is not positive, or the models cannot be mixed.
        CheckpointError: a model cannot be loaded.
    """
    from charrnn import api

    if not models:
        return api.load()
    named = [path_and_weight(value) for value in models]
    return api.blend([(api.load(path), weight) for path, weight in named])


def path_and_weight(value: str) -> tuple[str, float]:
    """`a.safetensors:1.5` -> its path and its weight; 1 without one.

    Since paths may contain colons, as in `C:\\models\\a.safetensors`, an existing file is always a path, and
    so is a value that does not end in a colon and a number.

    Raises:
        ConfigError: the weight is not above 0.
    """
    path, weight = path_and_number(value, "weight")
    return path, 1.0 if weight is None else weight


def path_and_number(value: str, what: str) -> tuple[str, float | None]:
    """The same for another number, which messages call `what`; None without one."""
    path, colon, tail = value.rpartition(":")
    if not colon or not path or os.path.exists(value):
        return value, None
    try:
        number = float(tail)
    except ValueError:
        return value, None
    if not 0 < number < float("inf"):
        raise ConfigError(f"the {what} of {quoted(path)} is {tail}", "give a positive number")
    return path, number
