"""`charrnn train`: passes options to api.train, and shows its events on the terminal or as JSON."""

from __future__ import annotations

import json
import shlex
import sys
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from charrnn.cli import wording
from charrnn.cli.options import PLOT, default
from charrnn.cli.process import ClosedPipe, Output, StopRequest, is_terminal, say
from charrnn.config import (
    NONLINEARITIES,
    Cell,
    EncodingErrors,
    ModelConfig,
    Nonlinearity,
    TextConfig,
    TrainConfig,
    TrainPrecision,
    ValSplit,
)
from charrnn.errors import CharrnnError, ConfigError, ExitCode, printable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from charrnn.cli.views.progress import RunHistory, View
    from charrnn.events import Event, Finished

_READING, _MODEL, _BUDGET, _LEARNING, _RUN = (
    "The text",
    "The model",
    "How long: one of these, or what suits the text",
    "How it learns",
    "The run",
)

_SUITS = "[suits the text]"


def _option(group: str, help: str, *names: str, metavar: str | None = None) -> Any:
    return typer.Option(*names, rich_help_panel=group, metavar=metavar, help=help)


def train(
    corpus: Annotated[
        list[str],
        typer.Argument(metavar="CORPUS...", help="Text files, folders, .gz files, or - for stdin."),
    ],
    out: Annotated[
        str | None,
        _option(
            _RUN,
            "The model file [checkpoints/<corpus>.safetensors].",
            "-o",
            "--out",
            metavar="PATH",
        ),
    ] = None,
    lines: Annotated[
        bool, _option(_READING, "Every line is a text of its own, such as a name.", "--lines")
    ] = False,
    encoding: Annotated[
        str | None, _option(_READING, "How characters are stored [utf-8].", metavar="NAME")
    ] = None,
    encoding_errors: Annotated[
        EncodingErrors | None,
        _option(_READING, "Bad bytes: strict, skip or replace [strict].", metavar="NAME"),
    ] = None,
    bytes: Annotated[bool, _option(_READING, "Every byte is a character.", "--bytes")] = False,
    keep_newlines: Annotated[
        bool, _option(_READING, "Leave CRLF and CR line ends as they are.", "--keep-newlines")
    ] = False,
    val_fraction: Annotated[
        float | None,
        _option(
            _READING,
            f"Share kept for validation [{default(TrainConfig, 'val_fraction')} at the most].",
            metavar="P",
        ),
    ] = None,
    val_split: Annotated[
        ValSplit | None,
        _option(_READING, "scattered, or end: which part that is [scattered].", metavar="NAME"),
    ] = None,
    val: Annotated[
        list[str] | None,
        _option(_READING, "Another text for validation; repeatable.", "--val", metavar="FILE"),
    ] = None,
    cell: Annotated[
        Cell | None,
        _option(
            _MODEL,
            f"Kind of recurrent layer [{default(ModelConfig, 'cell')}].",
            metavar="|".join(get_args(Cell)),
        ),
    ] = None,
    nonlinearity: Annotated[
        Nonlinearity | None,
        _option(
            _MODEL,
            f"Of the rnn cell [{default(ModelConfig, 'nonlinearity')}].",
            metavar="|".join(NONLINEARITIES),
        ),
    ] = None,
    hidden_size: Annotated[int | None, _option(_MODEL, f"Width of each layer {_SUITS}.", metavar="N")] = None,
    num_layers: Annotated[int | None, _option(_MODEL, f"Number of layers {_SUITS}.", metavar="N")] = None,
    embedding_size: Annotated[
        int | None, _option(_MODEL, "Embedding; 0: one-hot [as wide as a layer].", metavar="N")
    ] = None,
    dropout: Annotated[
        float | None, _option(_MODEL, f"Share of activations dropped {_SUITS}.", metavar="P")
    ] = None,
    norm: Annotated[
        bool | None, _option(_MODEL, "Layer norm after each layer [--norm].", "--norm/--no-norm")
    ] = None,
    residual: Annotated[
        bool | None,
        _option(_MODEL, "Skip connection around each layer [--residual].", "--residual/--no-residual"),
    ] = None,
    minutes: Annotated[float | None, _option(_BUDGET, "Minutes of training.", metavar="M")] = None,
    epochs: Annotated[float | None, _option(_BUDGET, "Passes over the text.", metavar="E")] = None,
    steps: Annotated[int | None, _option(_BUDGET, "Weight updates.", metavar="N")] = None,
    batch_size: Annotated[
        int | None, _option(_LEARNING, f"Places read side by side {_SUITS}.", metavar="N")
    ] = None,
    seq_len: Annotated[
        int | None,
        _option(
            _LEARNING,
            f"Characters that a gradient goes back [{default(TrainConfig, 'seq_len')}].",
            metavar="N",
        ),
    ] = None,
    lr: Annotated[
        float | None,
        _option(_LEARNING, "Peak learning rate [suits the network].", "--lr", metavar="X"),
    ] = None,
    warmup: Annotated[
        float | None,
        _option(
            _LEARNING, f"Share of the budget before the peak [{default(TrainConfig, 'warmup')}].", metavar="P"
        ),
    ] = None,
    weight_decay: Annotated[
        float | None, _option(_LEARNING, f"Decoupled weight decay {_SUITS}.", metavar="X")
    ] = None,
    l1: Annotated[
        float | None,
        _option(_LEARNING, f"Decoupled L1 shrinkage [{default(TrainConfig, 'l1'):g}].", "--l1", metavar="X"),
    ] = None,
    clip: Annotated[
        float | None,
        _option(_LEARNING, f"Largest norm of a gradient [{default(TrainConfig, 'clip'):g}].", metavar="X"),
    ] = None,
    patience: Annotated[
        int | None,
        _option(
            _LEARNING,
            f"Worse evaluations in a row to the end [{default(TrainConfig, 'patience')}].",
            metavar="N",
        ),
    ] = None,
    resume: Annotated[
        bool, _option(_RUN, "Go on with the interrupted run that wrote OUT.", "--resume")
    ] = False,
    init_from: Annotated[
        str | None, _option(_RUN, "Start from this model's weights (fine-tune).", metavar="PATH")
    ] = None,
    force: Annotated[bool, _option(_RUN, "Overwrite another model at OUT.", "--force")] = False,
    keep_models: Annotated[int, _option(_RUN, "Keep the last N evaluated models, too [0].", metavar="N")] = 0,
    plot: Annotated[str | None, _option(_RUN, PLOT, metavar="PATH")] = None,
    seed: Annotated[
        int | None,
        _option(_RUN, f"Seed of all randomness [{default(TrainConfig, 'seed')}].", metavar="N"),
    ] = None,
    threads: Annotated[int | None, _option(_RUN, "Threads [all cores].", metavar="N")] = None,
    precision: Annotated[
        TrainPrecision | None,
        _option(
            _RUN,
            f"float32, or bfloat16: faster on some CPUs [{default(TrainConfig, 'precision')}].",
            metavar="NAME",
        ),
    ] = None,
    quiet: Annotated[bool, _option(_RUN, "Say nothing but errors.", "-q", "--quiet")] = False,
    json_lines: Annotated[bool, _option(_RUN, "Print events as JSON, one object a line.", "--json")] = False,
) -> int:
    """Learn to write like a text. The file always holds the best model so far.

    Ctrl-C saves first; --resume goes on.
    """
    if bytes and encoding is not None:
        raise ConfigError("--bytes and --encoding contradict each other", "give one of them")
    from charrnn import api
    from charrnn.cli.views import plots
    from charrnn.cli.views.progress import RunHistory

    if plot is not None:
        plots.check(plot, api.training_files(corpus, out, init_from, val or ()))
    text = TextConfig(
        encoding=encoding or TextConfig().encoding,
        bytes=bytes,
        lines=lines,
        keep_newlines=keep_newlines,
        encoding_errors=encoding_errors or TextConfig().encoding_errors,
    )
    view = _view(quiet=quiet, json_lines=json_lines)
    with StopRequest(view.stopping, view.restore) as stop:
        events = api.train(
            corpus,
            out=out,
            text=text,
            val=val or (),
            resume=resume,
            init_from=init_from,
            force=force,
            threads=threads,
            keep_models=keep_models,
            stop=stop,
            previews=view.previews,
            cell=cell,
            nonlinearity=nonlinearity,
            hidden_size=hidden_size,
            num_layers=num_layers,
            embedding_size=embedding_size,
            dropout=dropout,
            norm=norm,
            residual=residual,
            minutes=minutes,
            epochs=epochs,
            steps=steps,
            batch_size=batch_size,
            seq_len=seq_len,
            learning_rate=lr,
            warmup=warmup,
            weight_decay=weight_decay,
            l1=l1,
            clip=clip,
            val_fraction=val_fraction,
            val_split=val_split,
            patience=patience,
            seed=seed,
            precision=precision,
        )
        run = RunHistory()
        with view, closing(events):  # closing the run releases its lock on the model file
            finished = _follow(events, view, run, stop, Output() if json_lines else None)
    if finished.reason == "interrupted" and finished.step and not quiet and stop.exit_code:
        again = _resume_command(corpus, finished.checkpoint, val or [], keep_models)
        say(f"go on with: {again}", command=True)
    drawn = plot is None or not finished.step or _drawn(plot, run, finished)
    if finished.reason == "interrupted":
        return stop.exit_code
    return ExitCode.DONE if drawn else ExitCode.FAILED


def _view(*, quiet: bool, json_lines: bool) -> View:
    """The view of the run's progress: silent, plain lines, or live on a terminal."""
    from charrnn.cli.views import progress

    if quiet:
        return progress.View()
    if is_terminal(sys.stderr):
        if json_lines and is_terminal(sys.stdout):
            return progress.Notes()  # the live view would be garbled by JSON on the same terminal
        from charrnn.cli.views.terminal import LiveView

        return LiveView()
    return progress.Notes() if json_lines else progress.Lines()


def _follow(
    events: Iterator[Event], view: View, run: RunHistory, stop: StopRequest, output: Output | None
) -> Finished:
    """Show and record every event, write it to `output` as JSON, and return the last one."""
    from charrnn.events import Evaluated, Finished, Saved, Step

    clock: dict[str, Any] = {"epoch": 0.0, "seconds": 0.0}  # of the last step, for events without their own
    for event in events:
        view.show(event)
        run.take(event)
        stop.saveable |= isinstance(event, (Step, Evaluated, Saved))
        if isinstance(event, (Step, Evaluated)):
            clock = {"epoch": event.epoch, "seconds": event.seconds}
        if output is not None and (record := _record(event, clock)):
            try:
                output.write(json.dumps(record) + "\n")
                output.flush()
            except ClosedPipe:
                output = None  # the reader is gone: save, and end quietly
                stop.ask("SIGPIPE", ExitCode.DONE)
        if isinstance(event, Finished):
            return event
    raise CharrnnError("training ended without a result")


def _record(event: Event, clock: dict[str, Any]) -> dict[str, Any] | None:
    """The event as a JSON object in the documented format, or None for an event that is not in it."""
    from charrnn.events import Evaluated, Finished, Saved, Step, Unsaved

    def pick(*names: str) -> dict[str, Any]:
        return {name: wording.json_number(getattr(event, name)) for name in names}

    when = ("step", "epoch", "seconds", "train_loss")
    if isinstance(event, Step):
        return {"event": "step", **pick(*when, "chars_per_second", "learning_rate", "grad_norm")}
    if isinstance(event, Evaluated):
        return {"event": "eval", **pick(*when, "val_loss", "val_bpc")}
    if isinstance(event, Saved) and event.kind == "model":
        return {"event": "save", **pick("step"), **clock, **pick("val_loss")}
    if isinstance(event, Unsaved):
        return {"event": "unsaved", **pick("step"), **clock, **pick("message")}
    if isinstance(event, Finished):
        best = pick("parameters", "best_val_loss", "best_val_bpc")
        return {"event": "done", **pick(*when), "checkpoint": str(event.checkpoint), **best}
    return None


def _drawn(path: str, run: RunHistory, finished: Finished) -> bool:
    """Draw the run's losses and return True; if that fails, report it and return False."""
    from charrnn import api
    from charrnn.cli.views import plots

    history = {row["step"]: row for row in run.history}
    with suppress(CharrnnError):  # for a resumed run, the best model's file holds the earlier history
        history = {row["step"]: row for row in api.load(finished.checkpoint).history} | history
    assert run.started is not None
    name, model = run.started.corpus.name, run.started.model
    rows = sorted(history.values(), key=lambda row: int(row["step"]))
    try:
        plots.draw(path, name, rows, model, validated=finished.measured_on == "validation")
    except CharrnnError as problem:
        say(f"charrnn: error: {printable(str(problem))}")
        return False
    return True


def _resume_command(corpus: list[str], checkpoint: Path, val: list[str], keep_models: int) -> str:
    """The command line that resumes the run, whose settings are in the resume file."""
    before = "... | " if "-" in corpus or "-" in val else ""
    words = ["charrnn", "train", *corpus]
    for file in val:
        words += ["--val", file]
    words += ["-o", str(checkpoint), "--resume"]
    if keep_models:
        words += ["--keep-models", str(keep_models)]
    return printable(before + shlex.join(words))
