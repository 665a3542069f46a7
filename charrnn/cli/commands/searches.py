"""`charrnn enumerate` and `charrnn fill`: texts that are found, not drawn, the most probable first."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from charrnn.cli import models, wording
from charrnn.cli.options import Json, OnUnknown, Precision, Threads
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
    cache: models.Cache = None,
    precision: Precision = "float32",
    on_unknown: OnUnknown = "error",
    threads: Threads = None,
    json_lines: Json = False,
) -> None:
    """List the most probable lines, best first, each with its log-probability in nats.

    The list is exact: no line that is missing is more probable than one that is there.
    """
    from charrnn import api

    checkpoint = models.load(model, label, strength, cache)
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
        threads=threads,
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
    cache: models.Cache = None,
    precision: Precision = "float32",
    on_unknown: OnUnknown = "error",
    threads: Threads = None,
    json_lines: Json = False,
) -> None:
    """Fill the gaps of a text so that both sides fit, the most probable first.

    A row has the text's probability among all that were found, its log-probability in nats, and the text. A
    backslash before ?, *, _ or a backslash makes it the character itself.
    """
    from charrnn import api

    checkpoint = models.load(model, label, strength, cache)
    fillings = api.fill(
        checkpoint,
        argument(pattern, checkpoint.text),
        count=count,
        beam=beam,
        gap=gap,
        part=part,
        precision=precision,
        on_unknown=on_unknown,
        threads=threads,
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
