"""`charrnn eval`: how well a model predicts a text."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from dataclasses import fields
from typing import TYPE_CHECKING, Annotated, Any

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
from charrnn.config import DynamicConfig, TextConfig
from charrnn.errors import ConfigError, decimal

if TYPE_CHECKING:
    from charrnn.checkpoint.model_file import Checkpoint

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
    """Measure how well a model predicts a text, which is read as its own corpus was, but in UTF-8."""
    if settings and not dynamic:
        raise ConfigError(f"--{next(iter(settings))} is an option of --dynamic", "give that too, or neither")
    adapting = DynamicConfig(**settings) if dynamic else None
    from charrnn import api

    checkpoint = api.load(model)
    if checkpoint.config.kind == "restorer":
        if dynamic:
            raise ConfigError("--dynamic is for models that write", "leave it out")
        _restorer(checkpoint, corpus, checkpoint.text.of_commands(encoding, encoding_errors), json_lines)
        return
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
    names = ["loss", "bpc", "perplexity", "characters"] + ["dynamic_loss", "dynamic_bpc"] * dynamic
    values: dict[str, Any] = {name: getattr(result, name) for name in names}
    if json_lines:
        lines = [json.dumps({name: wording.json_number(value) for name, value in values.items()})]
    else:
        lines = [
            f"loss {decimal(result.loss)} nats/char, {decimal(result.bpc)} bits/char, "
            f"perplexity {decimal(result.perplexity, 2)}, {result.characters} characters"
        ]
        if dynamic:
            loss, bpc = values["dynamic_loss"], values["dynamic_bpc"]
            lines.append(f"dynamic loss {decimal(loss)} nats/char, {decimal(bpc)} bits/char")
    Output().write_all(line + "\n" for line in lines)


def _restorer(checkpoint: Checkpoint, corpus: list[str], text: TextConfig, json_lines: bool) -> None:
    """How much of a text comes out right that is stripped and restored."""
    from charrnn import api

    with Meter() as meter:
        report = lambda what, share: meter(f"{what}  {share:.0%}")  # noqa: E731
        result = api.restoration(checkpoint, corpus, text=text, report=report)
    figures = result.figures
    if json_lines:
        Output().write_all([json.dumps(figures) + "\n"])
        return
    rows = [
        ("characters", figures["accuracy"], result.characters),
        ("words", figures["word_accuracy"], result.words),
        ("words that were changed", figures["changed_word_accuracy"], result.changed_words),
    ]
    lines = [f"{share:.2%} of {count:,} {name} right" for name, share, count in rows]
    lines += [
        f"F1 {retrieval.f1:.2%} of {kind}: {retrieval.there:,} in the text, {retrieval.put_back:,} put back, "
        f"{retrieval.right:,} right"
        for kind, retrieval in result.kinds.items()
    ]
    Output().write_all(line + "\n" for line in lines)
