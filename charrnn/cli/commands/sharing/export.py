"""`charrnn export`: a model as a file that needs no charrnn."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from charrnn.cli.options import ModelPath
from charrnn.cli.process import Output, say
from charrnn.cli.wording import count
from charrnn.config import PAGE_COUNTS, WEIGHT_PRECISIONS, WeightPrecision
from charrnn.errors import ConfigError, quoted

MOST_MEGABYTES = 1000


def page(
    model: ModelPath = None,
    out: Annotated[
        str, typer.Option("-o", "--out", metavar="PATH", help="Where to write, or - for stdout [-].")
    ] = "-",
    precision: Annotated[
        str, typer.Option(metavar="NAME", help="float32, or bfloat16: half as large [bfloat16].")
    ] = "bfloat16",
    counts: Annotated[
        float, typer.Option(metavar="MB", help=f"The most for counts; 0: without [{PAGE_COUNTS:g}].")
    ] = PAGE_COUNTS,
) -> None:
    """One HTML file that writes in any browser what `charrnn sample` writes with this --precision."""
    from charrnn import api
    from charrnn.system import atomic
    from charrnn.system.file_errors import refuse_overwriting, writing

    known: dict[str, WeightPrecision] = {"float32": "float32", "bfloat16": "bfloat16"}
    if precision not in known:
        raise ConfigError(f"precision is {quoted(precision)}", f"give one of {', '.join(WEIGHT_PRECISIONS)}")
    if not 0 <= counts <= MOST_MEGABYTES:
        raise ConfigError(f"counts is {counts:g}", f"give megabytes from 0 to {MOST_MEGABYTES}")
    if out == "-" and sys.stdout is not None and sys.stdout.isatty():
        raise ConfigError("stdout is a terminal, and a page is for browsers", "give -o PATH, or a pipe")
    path = api.model_path(model)
    if out != "-":
        refuse_overwriting(Path(out), [("the model", path)])
    loaded = api.load(path)
    html = api.page(loaded, path.stem, precision=known[precision], most_counts=counts)
    if loaded.counts is not None and counts == 0:
        say("note: the page leaves out the model's counts, so it writes other texts than charrnn sample")
    if out == "-":
        output = Output()
        output.write(html)
        output.flush()
        return
    data = html.encode()
    with writing(Path(out)):
        atomic.write(Path(out), [data])
    say(f"{count(len(data))} bytes in {out}: open it in a browser")
