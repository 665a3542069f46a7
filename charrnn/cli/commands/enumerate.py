"""`charrnn enumerate`: the most probable lines of a model, best first, exactly."""

from __future__ import annotations

from typing import Annotated

import typer

from charrnn.cli import models, wording
from charrnn.cli.options import Json, OnUnknown, Precision
from charrnn.cli.process import Output
from charrnn.cli.prompts import argument


def enumerate_lines(
    model: models.Models = None,
    label: models.Labels = None,
    strength: models.Strength = 1.0,
    count: Annotated[
        int | None,
        typer.Option("-n", "--count", metavar="N", help="How many lines [100; any with --above]."),
    ] = None,
    above: Annotated[
        float | None, typer.Option(metavar="P", help="Only lines at least so probable [off].")
    ] = None,
    prompt: Annotated[str, typer.Option(metavar="TEXT", help="Lines that go on from this text.")] = "",
    match: Annotated[
        str | None, typer.Option(metavar="REGEX", help="Only lines that match from the prompt on.")
    ] = None,
    length: Annotated[
        int | None, typer.Option(metavar="N", help="Characters after the prompt at the most [any].")
    ] = None,
    memory: Annotated[int, typer.Option(metavar="MB", help="For what is being searched [1024].")] = 1024,
    precision: Precision = "float32",
    on_unknown: OnUnknown = "error",
    json_lines: Json = False,
) -> None:
    """List the most probable lines, best first, each with its log-probability in nats.

    The list is exact: no line that is missing is more probable than one that is there.
    """
    from charrnn import api

    checkpoint = models.load(model, label, strength)
    lines = api.enumerate_lines(
        checkpoint,
        argument(prompt, checkpoint.text),
        count=count,
        above=above,
        match=None if match is None else argument(match, checkpoint.text),
        length=length,
        memory=memory * 2**20,
        precision=precision,
        on_unknown=on_unknown,
    )
    output = Output(raw_bytes=checkpoint.text.bytes and not json_lines)
    try:
        for line in lines:
            if json_lines:
                text = wording.json_text(line.text, checkpoint.text.bytes)
                row = wording.json_line({"text": text, "log_probability": line.log_probability}) + "\n"
            else:
                row = f"{line.log_probability:.6f}\t{wording.row_end(line.text, checkpoint.text)}"
            output.write(row)
    finally:
        output.flush()  # also if the search runs out of memory: the lines found so far are certain
