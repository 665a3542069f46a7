"""`charrnn eval`: how well a model predicts a text."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterator
from dataclasses import fields
from importlib import import_module
from typing import Annotated, Any

import typer

from charrnn.cli import wording
from charrnn.cli.options import (
    Corpus,
    Encoding,
    EncodingErrors,
    Json,
    ModelFile,
    OnUnknown,
    parameter,
    with_options,
)
from charrnn.cli.process import Output, say
from charrnn.cli.views.meter import Meter
from charrnn.config import DynamicConfig, Kind
from charrnn.errors import ConfigError, decimal

# By kind of model: the module of charrnn.cli.views and its function that shows an evaluation.
VIEWS: dict[Kind, str] = {"classifier": "confusion:lines"}
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
    model: ModelFile,
    corpus: Corpus,
    dynamic: Annotated[
        bool, typer.Option("--dynamic", help="Also the loss of a network that adapts as it reads.")
    ] = False,
    settings: Any = None,
    on_unknown: OnUnknown = "error",
    encoding: Encoding = None,
    encoding_errors: EncodingErrors = None,
    json_lines: Json = False,
) -> None:
    """Measure how well a model does on a text, which is read as its own corpus was, but in UTF-8."""
    if settings and not dynamic:
        raise ConfigError(f"--{next(iter(settings))} is an option of --dynamic", "give that too, or neither")
    adapting = DynamicConfig(**settings) if dynamic else None
    from charrnn import api

    checkpoint = api.load(model)
    notes: list[str] = []
    with Meter() as meter:
        result = api.evaluate(
            checkpoint, corpus,
            text=checkpoint.text.of_commands(encoding, encoding_errors),
            on_unknown=on_unknown, dynamic=adapting,
            report=lambda what, share: meter(f"{what}  {share:.0%}"),
            note=notes.append,
        )  # fmt: skip
    for line in notes:
        say(f"note: {line}")
    if json_lines:
        figures = wording.json_figures(result.figures())
        lines = [json.dumps(figures)]
    elif checkpoint.config.kind == "writer":
        lines = [
            f"loss {decimal(result.loss)} nats/char, {decimal(result.bpc)} bits/char, "
            f"perplexity {decimal(result.perplexity, 2)}, {result.characters} characters"
        ]
        if dynamic:
            loss, bpc = result.figures()["dynamic_loss"], result.figures()["dynamic_bpc"]
            lines.append(f"dynamic loss {decimal(loss)} nats/char, {decimal(bpc)} bits/char")
    else:
        lines = list(_view(checkpoint.config.kind)(result))
    Output().write_all(line + "\n" for line in lines)


def _view(kind: Kind) -> Callable[[Any], Iterator[str]]:
    """What shows the evaluation of a network that reads."""
    module, _, name = VIEWS[kind].partition(":")
    found: Callable[[Any], Iterator[str]] = getattr(import_module(f"charrnn.cli.views.{module}"), name)
    return found
