"""`charrnn train`: passes options to api.train, and shows its events on the terminal or as JSON."""

from __future__ import annotations

import inspect
import json
import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import fields
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, cast, get_args, get_type_hints

import typer

from charrnn.cli import together, wording
from charrnn.cli.models import path_and_number
from charrnn.cli.options import PLOT, parameter, with_options
from charrnn.cli.process import ClosedPipe, Output, StopRequest, is_terminal, say
from charrnn.config import (
    Attention,
    Cell,
    EncodingErrors,
    LabelBy,
    ModelConfig,
    Nonlinearity,
    Strip,
    TextConfig,
    TrainConfig,
)
from charrnn.errors import CharrnnError, ConfigError, ExitCode, printable, quoted

if TYPE_CHECKING:
    from pathlib import Path

    from charrnn.cli.views.progress import RunHistory, View
    from charrnn.events import Evaluated, Event, Finished

_READING, _RUN = "The text", "The run"
_SUITS = "[suits the text]"

# The settings of the network and of its training, by heading: what their values are, and their help.
_SETTINGS: dict[str, dict[str, tuple[str | None, str]]] = {
    _READING: {
        "val_fraction": ("P", "Share kept for validation [{} at the most]."),
        "val_split": ("NAME", "scattered, or end: which part that is [scattered]."),
        "shuffle_fields": ("SEP", "A new order of fields, cut at SEP, each epoch."),
    },
    "The model": {
        "cell": ("NAME", f"Recurrent layer: {', '.join(get_args(Cell))} [{{}}]."),
        "nonlinearity": ("|".join(get_args(Nonlinearity)), "Of the rnn cell [{}]."),
        "hidden_size": ("N", f"Width of each layer {_SUITS}."),
        "num_layers": ("N", f"Number of layers {_SUITS}."),
        "embedding_size": ("N", "Embedding; 0: one-hot [as wide as a layer]."),
        "dropout": ("P", f"Share of activations dropped {_SUITS}."),
        "norm": (None, "Layer norm after each layer [--norm]."),
        "residual": (None, "Skip connection around each layer [--residual]."),
        "counts": ("MB", f"Megabytes of counts; 0: none {_SUITS}."),
        "spectral_radius": ("X", "Of --cell esn: of its own weights [{}]."),
        "leak": ("X", "Of --cell esn: what is new in each step [{:g}]."),
        "density": ("P", "Of --cell esn: share that a unit reads [{}]."),
        "input_scale": ("X", "Of --cell esn: largest weight of a character [{:g}]."),
        "memory_rows": ("N", "Of --cell ntm: rows of its memory [{}]."),
        "memory_width": ("N", "Of --cell ntm: numbers of a row [{}]."),
        "between": ("NAME", "A module between two layers; repeatable."),  # if there are any
        "span": ("N", "Also look back at the last N states [{}]."),
        "attention": ("|".join(get_args(Attention)), "Of --task rewrite [{}]."),
    },
    "How long: one of these, or what suits the text": {
        "minutes": ("M", "Minutes of training."),
        "epochs": ("E", "Passes over the text."),
        "steps": ("N", "Weight updates."),
    },
    "How it learns": {
        "batch_size": ("N", f"Places read side by side {_SUITS}."),
        "seq_len": ("N", "Characters that a gradient goes back [{}]."),
        "learning_rate": ("X", "Peak learning rate [suits the network]."),
        "warmup": ("P", "Share of the budget before the peak [{}]."),
        "weight_decay": ("X", f"Decoupled weight decay {_SUITS}."),
        "label_dropout": ("P", "Share of texts with hidden labels [{:g}]."),
        "l1": ("X", "Decoupled L1 shrinkage [{:g}]."),
        "clip": ("X", "Largest norm of a gradient [{:g}]."),
        "clip_ratio": ("X", "Largest by the mean of norms so far [any]."),
        "average": ("P", "Share of steps whose weights are averaged [{:g}]."),
        "shards": ("N", "Parts of a batch, for mpirun to share out [{}]."),
        "sync_every": ("N", "Steps that shards learn apart [{}; by the network]."),
        "patience": ("N", "Worse evaluations in a row to the end [{}]."),
    },
    _RUN: {
        "seed": ("N", "Seed of all randomness [{}]."),
        "threads": ("N", "Threads [all cores]."),
        "precision": ("NAME", "float32, or bfloat16: faster on some CPUs [{}]."),
    },
}
_FLAGS = {  # of the settings whose options have other names
    "learning_rate": "--lr",
    "norm": "--norm/--no-norm",
    "residual": "--residual/--no-residual",
}


def _settings() -> Iterator[inspect.Parameter]:
    """The options of _SETTINGS."""
    known = {setting.name: setting for setting in (*fields(ModelConfig), *fields(TrainConfig))}
    kinds = {"threads": int} | get_type_hints(ModelConfig) | get_type_hints(TrainConfig)
    for heading, settings in _SETTINGS.items():
        for name, (metavar, help_) in settings.items():
            flag, kind = _FLAGS.get(name, f"--{name.replace('_', '-')}"), kinds[name]
            if name == "between":
                if not known[name].metadata["names"]():
                    continue
                kind = list[str]  # Typer's for several values
            help_ = help_.format(known[name].default if name in known else None)
            option = typer.Option(flag, rich_help_panel=heading, metavar=metavar, help=help_)
            yield parameter(name, kind, option)


_reading = partial(typer.Option, rich_help_panel=_READING)
_run = partial(typer.Option, rich_help_panel=_RUN)


@with_options("settings", _settings())
def train(
    corpus: Annotated[
        list[str],
        typer.Argument(
            metavar="CORPUS...",
            help="Files, folders, .gz, - (stdin); A:1 B:3: shares.",
        ),
    ],
    out: Annotated[
        str | None,
        _run("-o", "--out", metavar="PATH", help="The model file [checkpoints/<corpus>.safetensors]."),
    ] = None,
    task: Annotated[
        str | None,
        _run(metavar="NAME", help="classify, restore, tag, rewrite or fill: read."),
    ] = None,
    strip: Annotated[
        list[str] | None,
        _run(metavar="NAME,...", help="Restore: diacritics, case, spaces, punctuation."),
    ] = None,
    lines: Annotated[
        bool, _reading("--lines", help="Every line is a text of its own, such as a name.")
    ] = False,
    split: Annotated[
        str | None,
        _reading(metavar="WHAT", help="What ends texts: line, blank, nul, file or LINE."),
    ] = None,
    field: Annotated[
        str | None,
        _reading(metavar="NAME", help="Texts are this field of JSON lines, CSV or TSV."),
    ] = None,
    max_chars: Annotated[int | None, _reading(metavar="N", help="Leave longer texts out [none].")] = None,
    min_count: Annotated[
        int, _reading(metavar="N", help="Rarer characters become one, never written [1].")
    ] = 1,
    lowercase: Annotated[bool, _reading("--lowercase", help="Read all letters as lower case.")] = False,
    nfc: Annotated[bool, _reading("--nfc", help="Compose accents and letters (Unicode's NFC).")] = False,
    labels: Annotated[bool, _reading("--labels", help="Every line is label, tab, text.")] = False,
    label_by: Annotated[
        LabelBy | None, _reading(metavar="NAME", help="file, or folder: its name is the label.")
    ] = None,
    target_words: Annotated[
        bool, _reading("--target-words", help="Of --task rewrite: targets are words.")
    ] = False,
    reverse: Annotated[
        bool, _reading("--reverse", help="Of --task rewrite: the target comes first.")
    ] = False,
    label_field: Annotated[
        list[str] | None,
        _reading(metavar="NAME", help="With --field: labels are this field; repeatable."),
    ] = None,
    encoding: Annotated[
        str | None, _reading(metavar="NAME", help="How characters are stored [utf-8].")
    ] = None,
    encoding_errors: Annotated[
        EncodingErrors | None,
        _reading(metavar="NAME", help="Bad bytes: strict, skip or replace [strict]."),
    ] = None,
    bytes: Annotated[bool, _reading("--bytes", help="Every byte is a character.")] = False,
    keep_newlines: Annotated[
        bool, _reading("--keep-newlines", help="Leave CRLF and CR line ends as they are.")
    ] = False,
    resume: Annotated[bool, _run("--resume", help="Go on with the interrupted run that wrote OUT.")] = False,
    init_from: Annotated[
        str | None, _run(metavar="PATH", help="Start from this model's weights (fine-tune).")
    ] = None,
    from_scratch: Annotated[
        bool, _run("--from-scratch", help="Never start from the base model of English.")
    ] = False,
    force: Annotated[bool, _run("--force", help="Overwrite another model at OUT.")] = False,
    keep_models: Annotated[int, _run(metavar="N", help="Keep the last N evaluated models, too [0].")] = 0,
    plot: Annotated[str | None, _run(metavar="PATH", help=PLOT)] = None,
    settings: Any = None,
    val: Annotated[
        list[str] | None,
        _reading("--val", metavar="FILE", help="Another text for validation; repeatable."),
    ] = None,
    quiet: Annotated[bool, _run("-q", "--quiet", help="Say nothing but errors.")] = False,
    json_lines: Annotated[bool, _run("--json", help="Print events as JSON, one object a line.")] = False,
) -> int:
    """Learn to write like a text. The file always holds the best model so far.

    Ctrl-C saves first; --resume goes on.
    """
    for option, is_given in (("--encoding", encoding is not None), ("--nfc", nfc)):
        if bytes and is_given:
            raise ConfigError(f"--bytes and {option} contradict each other", "give one of them")
    if labels and label_by is not None:
        raise ConfigError("--labels and --label-by contradict each other", "give one of them")
    if strip and task != "restore":
        raise ConfigError("--strip says what --task restore puts back", "give that, too, or neither")
    for option, is_given in (("--target-words", target_words), ("--reverse", reverse)):
        if is_given and task != "rewrite":
            raise ConfigError(f"{option} is an option of --task rewrite", "give that, too, or neither")
    if labels and field is not None:
        raise ConfigError(
            "--labels stand before texts, and those of tables are fields", "give --label-field NAME"
        )
    from charrnn import api
    from charrnn.cli.views import plots
    from charrnn.cli.views.progress import RunHistory

    paths, settings["shares"] = _shares(corpus)
    if plot is not None:
        plots.check(plot, api.training_files(paths, out, init_from, val or ()))
    text = TextConfig(
        encoding=encoding or TextConfig().encoding,
        bytes=bytes,
        lines=lines or (labels and split is None),
        label_by="column" if labels else label_by,
        label_fields=tuple(label_field or ()),
        keep_newlines=keep_newlines,
        encoding_errors=encoding_errors or TextConfig().encoding_errors,
        normal_form="NFC" if nfc else None,
        split=split,
        field=field,
        lowercase=lowercase,
        min_count=min_count,
        max_chars=max_chars,
        strip=_kinds(strip or []),
        targets=("words" if target_words else "characters") if task == "rewrite" else None,
        reverse=reverse,
    )
    view = _view(quiet=quiet, json_lines=json_lines)
    with StopRequest(view.stopping, view.restore) as stop:
        events = api.train(
            paths,
            out=out,
            text=text,
            val=val or (),
            resume=resume,
            init_from=init_from,
            from_scratch=from_scratch,
            force=force,
            keep_models=keep_models,
            task=task,
            stop=stop,
            previews=view.previews,
            ranks=together.here(),
            **settings,
        )
        run = RunHistory()
        with view, closing(events):  # closing the run releases its lock on the model file
            finished = _follow(events, view, run, stop, Output() if json_lines else None)
    if finished.reason == "interrupted" and finished.step and not quiet and stop.exit_code:
        again = _resume_command(corpus, finished.checkpoint, val or [], keep_models)
        again = ("... | " if "-" in (*paths, *(val or ())) else "") + again
        say(f"go on with: {again}", command=True)
    drawn = plot is None or not finished.step or _drawn(plot, run, finished)
    if finished.reason == "interrupted":
        return stop.exit_code
    return ExitCode.DONE if drawn else ExitCode.FAILED


def _kinds(given: list[str]) -> tuple[Strip, ...]:
    """What --strip says; TextConfig checks the names."""
    return tuple(cast(Strip, name) for names in given for name in names.split(","))


def _shares(corpus: list[str]) -> tuple[list[str], tuple[float, ...] | None]:
    """The paths of PATH[:SHARE]..., and their shares if there are any.

    Raises:
        ConfigError: a share is not a positive number.
    """
    paths, shares = zip(*(path_and_number(value, "share") for value in corpus), strict=True)
    for path in paths:
        name, _, tail = path.rpartition(":")
        if name and not os.path.exists(path) and (name == "-" or os.path.exists(name)):
            raise ConfigError(f"the share of {quoted(name)} is {quoted(tail)}", "give a positive number")
    if len(paths) == 1 or not any(shares):
        return list(paths), None
    return list(paths), tuple(1.0 if share is None else share for share in shares)


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
        network = {} if event.network_loss is None else pick("network_loss")
        return {"event": "eval", **pick(*when, "val_loss", "val_bpc"), **network, **_of_parts(event)}
    if isinstance(event, Saved) and event.kind == "model":
        return {"event": "save", **pick("step"), **clock, **pick("val_loss")}
    if isinstance(event, Unsaved):
        return {"event": "unsaved", **pick("step"), **clock, **pick("message")}
    if isinstance(event, Finished):
        best = pick("parameters", "best_val_loss", "best_val_bpc")
        record = {"event": "done", **pick(*when), "checkpoint": str(event.checkpoint), **best}
        return record | _of_parts(event)
    return None


def _of_parts(event: Evaluated | Finished) -> dict[str, Any]:
    """The losses of a corpus's paths, if it has shares, and the share of right answers of readers."""
    paths = [{"path": path, "val_loss": loss} for path, loss in event.parts]
    accuracy = {} if event.accuracy is None else {"val_accuracy": event.accuracy}
    return ({"paths": paths} if paths else {}) | accuracy


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
    words = ["charrnn", "train", *corpus]
    for file in val:
        words += ["--val", file]
    words += ["-o", str(checkpoint), "--resume"]
    if keep_models:
        words += ["--keep-models", str(keep_models)]
    return printable(shlex.join(words))
