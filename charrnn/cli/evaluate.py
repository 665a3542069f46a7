"""`charrnn eval`: how well a model predicts a text."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from charrnn.cli import wording
from charrnn.cli.options import Json, OnUnknown
from charrnn.cli.process import Output
from charrnn.errors import ExitCode


def evaluate(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A model file.")],
    corpus: Annotated[
        list[str],
        typer.Argument(metavar="CORPUS...", help="Text files, folders, .gz files, or - for stdin."),
    ],
    on_unknown: OnUnknown = "error",
    json_lines: Json = False,
) -> int:
    """Measure how well a model predicts a text, which is read as its own corpus was."""
    from charrnn import api

    result = api.evaluate(model, corpus, on_unknown=on_unknown)
    if json_lines:
        names = ("loss", "bpc", "perplexity", "characters")
        values = {name: wording.json_number(getattr(result, name)) for name in names}
        line = json.dumps(values)
    else:
        line = (
            f"loss {result.loss:.4f} nats/char, {result.bpc:.4f} bits/char, "
            f"perplexity {result.perplexity:.2f}, {result.characters} characters"
        )
    output = Output()
    output.write(line + "\n")
    output.flush()
    return ExitCode.DONE
