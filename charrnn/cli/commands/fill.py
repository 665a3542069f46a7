"""`charrnn fill`: a text's gaps filled so that both sides fit."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from charrnn.cli import models, wording
from charrnn.cli.options import Json, OnUnknown, Precision
from charrnn.cli.process import Output
from charrnn.cli.prompts import argument


def fill(
    pattern: Annotated[
        str,
        typer.Argument(metavar="PATTERN", help="?: one character; *: any; ___: at least one."),
    ],
    model: models.Models = None,
    label: models.Labels = None,
    strength: models.Strength = 1.0,
    count: Annotated[int, typer.Option("-n", "--count", metavar="N", help="How many texts [10].")] = 10,
    beam: Annotated[int, typer.Option(metavar="N", help="Texts that are pursued at each place [256].")] = 256,
    gap: Annotated[int, typer.Option(metavar="N", help="Characters in a gap at the most [20].")] = 20,
    part: Annotated[
        bool, typer.Option("--part", help="The pattern is part of a line, not all of it.")
    ] = False,
    precision: Precision = "float32",
    on_unknown: OnUnknown = "error",
    json_lines: Json = False,
) -> None:
    """Fill the gaps of a text so that both sides fit, the most probable first.

    A row has the text's probability among all that were found, its log-probability in nats, and the text. A
    backslash before ?, *, _ or a backslash makes it the character itself.
    """
    from charrnn import api

    checkpoint = models.load(model, label, strength)
    fillings = api.fill(
        checkpoint,
        argument(pattern, checkpoint.text),
        count=count,
        beam=beam,
        gap=gap,
        part=part,
        precision=precision,
        on_unknown=on_unknown,
    )
    output = Output(raw_bytes=checkpoint.text.bytes and not json_lines)
    for filling in fillings:
        if json_lines:
            text = wording.json_text(filling.text, checkpoint.text.bytes)
            row = wording.json_line(asdict(filling) | {"text": text}) + "\n"
        else:
            row = f"{filling.probability:.4f}\t{filling.log_probability:.6f}\t"
            row += wording.row_end(filling.text, checkpoint.text)
        output.write(row)
    output.flush()
