"""`charrnn export`: a model as a file that needs no charrnn."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from charrnn.cli import models
from charrnn.cli.options import ModelPath, Out
from charrnn.cli.process import Output, say
from charrnn.cli.prompts import argument
from charrnn.cli.wording import count
from charrnn.config import PAGE_COUNTS, WEIGHT_PRECISIONS, WeightPrecision
from charrnn.errors import ConfigError, quoted

MOST_MEGABYTES = 1000


def page(
    model: ModelPath = None,
    out: Out = "-",
    precision: Annotated[
        str, typer.Option(metavar="NAME", help="float32, or bfloat16: half as large [bfloat16].")
    ] = "bfloat16",
    counts: Annotated[
        float, typer.Option(metavar="MB", help=f"The most for counts; 0: without [{PAGE_COUNTS:g}].")
    ] = PAGE_COUNTS,
) -> None:
    """One HTML file that writes in any browser what `charrnn sample` writes with this --precision."""
    from charrnn import api

    known: dict[str, WeightPrecision] = {"float32": "float32", "bfloat16": "bfloat16"}
    if precision not in known:
        raise ConfigError(f"precision is {quoted(precision)}", f"give one of {', '.join(WEIGHT_PRECISIONS)}")
    if not 0 <= counts <= MOST_MEGABYTES:
        raise ConfigError(f"counts is {counts:g}", f"give megabytes from 0 to {MOST_MEGABYTES}")
    path = _checked(model, out, "a page is for browsers")
    loaded = api.load(path)
    html = api.page(loaded, path.stem, precision=known[precision], most_counts=counts)
    if loaded.counts is not None and counts == 0:
        say("note: the page leaves out the model's counts, so it writes other texts than charrnn sample")
    _write(html.encode(), out, "open it in a browser")


def torch(
    model: ModelPath = None,
    out: Out = "-",
    prompt: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Tell what comes after this text [Port].")
    ] = None,
) -> None:
    """A script that opens the model file in PyTorch, without charrnn, and tells what comes next."""
    from charrnn import api

    path = _checked(model, out, "")
    loaded = api.load(path)
    script = api.torch_script(loaded, path, None if prompt is None else argument(prompt, loaded.text))
    _write(script.encode("utf-8"), out, f"python {out}")


def onnx(model: ModelPath = None, label: models.OneLabel = None, out: Out = "-") -> None:
    """The network as an ONNX graph, to be stepped through by onnxruntime and others. Needs charrnn[onnx]."""
    from charrnn import api

    path = _checked(model, out, "a graph is for programs")
    loaded = models.of_one_label(api.load(path), label)
    data = api.onnx_model(loaded)
    if loaded.counts is not None:
        say("note: the graph leaves out the model's counts, so it expects other characters than charrnn next")
    _write(data, out, "see docs/onnx.md")


def _checked(model: str | None, out: str, unfit: str) -> Path:
    """The model's file, which must not be written over; `unfit` says why a terminal is none to write to."""
    from charrnn import api
    from charrnn.system.file_errors import refuse_overwriting

    if unfit and out == "-" and sys.stdout is not None and sys.stdout.isatty():
        raise ConfigError(f"stdout is a terminal, and {unfit}", "give -o PATH, or a pipe")
    path = api.model_path(model)
    if out != "-":
        refuse_overwriting(Path(out), [("the model", path)])
    return path


def _write(data: bytes, out: str, next_: str) -> None:
    """Write the file whole or not at all."""
    from charrnn.system import atomic
    from charrnn.system.file_errors import writing

    if out == "-":
        Output().write_bytes(data)
        return
    with writing(Path(out)):
        atomic.write(Path(out), [data])
    say(f"{count(len(data))} bytes in {out}: {next_}")
