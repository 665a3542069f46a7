"""`charrnn diagnose`: how a network looks back as it reads a text, and how large a run's steps are."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from charrnn.cli import wording
from charrnn.cli.options import Encoding, EncodingErrors, Json, ModelPath, OnUnknown, Threads
from charrnn.cli.process import Output, is_terminal, say
from charrnn.cli.views.meter import Meter
from charrnn.config import TrainConfig
from charrnn.errors import ConfigError
from charrnn.system import atomic
from charrnn.system.file_errors import refuse_overwriting, writing

if TYPE_CHECKING:
    from charrnn.cli.views.looking.diagnosis import Row
    from charrnn.diagnosis.findings import Diagnosis, Looks, RunDiagnosis


def diagnose(
    corpus: Annotated[
        list[str] | None,
        typer.Argument(metavar="[CORPUS...]", help="Text files, folders, .gz files, or - for stdin."),
    ] = None,
    model: ModelPath = None,
    lags: Annotated[
        int | None,
        typer.Option(metavar="N", help="Characters back [twice those of training]."),
    ] = None,
    events: Annotated[
        str | None, typer.Option(metavar="FILE", help="Instead, a run: what train --json prints.")
    ] = None,
    clip: Annotated[
        float | None,
        typer.Option(metavar="X", help=f"Of --events: the run's --clip [{TrainConfig(steps=1).clip:g}]."),
    ] = None,
    svg: Annotated[str | None, typer.Option(metavar="PATH", help="Draw the gradients.")] = None,
    on_unknown: OnUnknown = "error",
    encoding: Encoding = None,
    encoding_errors: EncodingErrors = None,
    threads: Threads = None,
    json_lines: Json = False,
) -> None:
    """Show how gradients fade from character to character, and how gates, units and clipping fare.

    Of a network with a memory, show where its heads look as it reads a text, or rewrites the first line.
    With --events, show the gradients' norms of a run, which may still be going on.
    """
    if events is None and not corpus:
        raise ConfigError("there is nothing to diagnose", "name a text to read, or give --events FILE")
    if events is None and clip is not None:
        raise ConfigError("--clip is an option of --events", "give that, too, or neither")
    if events is not None and (corpus or model is not None or lags is not None):
        raise ConfigError("--events is about a run, and there is a text, a model or --lags", "leave that out")
    from charrnn import api
    from charrnn.cli.views.looking import diagnosis

    found: Diagnosis | RunDiagnosis
    if events is not None:
        _check(svg, [events])
        found = run = api.diagnose_run(events, clip=TrainConfig(steps=1).clip if clip is None else clip)
        rows, name, network = diagnosis.of_run(run), "a run" if events == "-" else Path(events).stem, ""
    else:
        from charrnn.cli.views import progress

        paths: list[str] = corpus or []
        path = api.model_path(model)
        _check(svg, paths, path)
        checkpoint = api.load(path)
        if checkpoint.config.has_memory:
            if lags is not None:
                raise ConfigError("--lags is of gradients, and the model has a memory", "leave it out")
            looks = api.looks(
                checkpoint, paths, threads=threads, on_unknown=on_unknown,
                text=checkpoint.text.of_commands(encoding, encoding_errors),
                note=lambda line: say(f"note: {line}"),
            )  # fmt: skip
            _follow(looks, path.stem, svg, json_lines=json_lines)
            return
        notes: list[str] = []
        with Meter() as meter:
            found = looked = api.diagnose(
                checkpoint, paths, lags=lags, threads=threads,
                text=checkpoint.text.of_commands(encoding, encoding_errors), on_unknown=on_unknown,
                report=lambda what, share: meter(f"{what}  {share:.0%}"), note=notes.append,
            )  # fmt: skip
        for line in notes:
            say(f"note: {line}")
        rows, name = diagnosis.of_network(looked), path.stem
        network = progress.network(checkpoint.config)
    if svg is not None:
        with writing(Path(svg), "--svg"):
            atomic.write(Path(svg), [diagnosis.svg(found, name, network).encode()])
    if json_lines:
        Output().write_all([wording.json_line(wording.json_figures(diagnosis.figures(found))) + "\n"])
    else:
        _show(rows)


def _follow(found: Looks, name: str, svg: str | None, *, json_lines: bool) -> None:
    """Show where the heads of a memory look."""
    from charrnn.cli.views.looking import heads

    if svg is not None:
        with writing(Path(svg), "--svg"):
            atomic.write(Path(svg), [part.encode() for part in heads.svg(found, name)])
    if json_lines:
        Output().write_all([wording.json_line(heads.figures(found)) + "\n"])
    else:
        _show(heads.of_looks(found))


def _check(svg: str | None, read: list[str], model: Path | None = None) -> None:
    """Check, before there is work to lose, that the picture takes the place of nothing that is read."""
    if svg is None:
        return
    from charrnn.text.files.sources import find

    files = [("what is read", source.file) for source in find(read)]
    files += [] if model is None else [("the model", model)]
    refuse_overwriting(Path(svg), files, "--svg")
    with writing(Path(svg), "--svg"):
        atomic.check(Path(svg))


def _show(rows: Iterable[Row]) -> None:
    """Write the rows, on a terminal in colours."""
    paint: Callable[[str, str], str] = lambda text, style: text  # noqa: E731
    if is_terminal(sys.stdout):
        from charrnn.cli.views.terminal import span_painter

        paint = span_painter() or paint
    output = Output(colored=True)
    output.write_all("".join(paint(text, style) for text, style in row).rstrip() + "\n" for row in rows)
