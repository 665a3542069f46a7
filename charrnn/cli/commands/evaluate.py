"""`charrnn eval`: how well a model predicts a text."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from charrnn.cli import wording
from charrnn.cli.options import Encoding, EncodingErrors, Json, OnUnknown, default
from charrnn.cli.process import Output, say
from charrnn.cli.views.meter import Meter
from charrnn.config import DynamicConfig
from charrnn.errors import ConfigError, ExitCode, decimal


def _default(name: str) -> Any:
    return default(DynamicConfig, name)


def evaluate(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A model file.")],
    corpus: Annotated[
        list[str],
        typer.Argument(metavar="CORPUS...", help="Text files, folders, .gz files, or - for stdin."),
    ],
    dynamic: Annotated[
        bool, typer.Option("--dynamic", help="Also the loss of a network that adapts as it reads.")
    ] = False,
    segment: Annotated[
        int | None,
        typer.Option(metavar="N", help=f"Of --dynamic: characters a step [{_default('segment')}]."),
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(metavar="X", help=f"Of --dynamic: size of a step [{_default('rate'):g}]."),
    ] = None,
    decay: Annotated[
        float | None,
        typer.Option(metavar="X", help=f"Of --dynamic: pull to trained weights [{_default('decay'):g}]."),
    ] = None,
    on_unknown: OnUnknown = "error",
    encoding: Encoding = None,
    encoding_errors: EncodingErrors = None,
    json_lines: Json = False,
) -> int:
    """Measure how well a model predicts a text, which is read as its own corpus was, but in UTF-8."""
    settings = {"segment": segment, "rate": rate, "decay": decay}
    given = {name: value for name, value in settings.items() if value is not None}
    if given and not dynamic:
        raise ConfigError(f"--{next(iter(given))} is an option of --dynamic", "give that too, or neither")
    adapting = DynamicConfig(**given) if dynamic else None  # type: ignore[arg-type]
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
    output = Output()
    output.write("\n".join(lines) + "\n")
    output.flush()
    return ExitCode.DONE
