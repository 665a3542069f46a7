"""`charrnn eval`: how well a model predicts a text."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from dataclasses import fields
from typing import Annotated, Any

import typer

from charrnn.cli import models, together, wording
from charrnn.cli.options import (
    Encoding,
    EncodingErrors,
    Json,
    ModelPath,
    OnUnknownGiven,
    Threads,
    parameter,
    with_options,
)
from charrnn.cli.process import Output, UsageError, say
from charrnn.cli.views.meter import Meter
from charrnn.config import DynamicConfig
from charrnn.errors import ConfigError

_SETTINGS = {
    "segment": ("N", "characters a step"),
    "rate": ("X", "size of a step"),
    "decay": ("X", "pull to trained weights"),
}


def _settings() -> Iterator[inspect.Parameter]:
    """The options of DynamicConfig."""
    for setting in fields(DynamicConfig):
        metavar, what = _SETTINGS[setting.name]
        option = typer.Option(metavar=metavar, help=f"Of --dynamic: {what} [{setting.default:g}].")
        yield parameter(setting.name, type(setting.default), option)


@with_options("settings", _settings())
def evaluate(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="[MODEL] CORPUS...",
            help="The model, unless -m names it; texts, or stdin: -",
        ),
    ],
    model: ModelPath = None,
    dynamic: Annotated[
        bool, typer.Option("--dynamic", help="Also the loss of a network that adapts as it reads.")
    ] = False,
    settings: Any = None,
    adaptive: Annotated[
        bool, typer.Option("--adaptive", help="Also the loss while it learns what it reads.")
    ] = False,
    cache: models.Cache = None,
    on_unknown: OnUnknownGiven = None,
    encoding: Encoding = None,
    encoding_errors: EncodingErrors = None,
    threads: Threads = None,
    json_lines: Json = False,
) -> None:
    """Measure how well a model predicts a text, which is read as its own corpus was, but in UTF-8."""
    if settings and not dynamic:
        raise ConfigError(f"--{next(iter(settings))} is an option of --dynamic", "give that too, or neither")
    adapting = DynamicConfig(**settings) if dynamic else None
    from charrnn import api
    from charrnn.cli.views import measures

    if model is None:
        model, *files = files
        if not files:
            raise UsageError("CORPUS... is missing", "name the text to read, or - for stdin")
    checkpoint = models.looking_back(api.load(model), cache)
    notes: list[str] = []
    with Meter() as meter:
        result = api.evaluate(
            checkpoint, files,
            text=checkpoint.text.of_commands(encoding, encoding_errors),
            on_unknown=on_unknown, dynamic=adapting, adaptive=adaptive, threads=together.threads(threads),
            report=lambda what, share: meter(f"{what}  {share:.0%}"),
            note=notes.append,
        )  # fmt: skip
    for line in notes:
        say(f"note: {line}")
    values, lines = measures.figures(result, checkpoint.config.kind)
    if json_lines:
        lines = [json.dumps(wording.json_figures(values))]
    Output().write_all(line + "\n" for line in lines)
