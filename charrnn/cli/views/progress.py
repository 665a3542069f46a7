"""Messages about a training run, and its plain views.

`View`, silent, `Notes` and `Lines` are the plain views; charrnn.cli.views.terminal has the live one.
"""

from __future__ import annotations

import math
import shlex
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

from charrnn.cli import wording
from charrnn.cli.process import say, say_at_once
from charrnn.config import COMMANDS, Kind, ModelConfig, TrainConfig, split_of
from charrnn.diagnosis import losses
from charrnn.errors import decimal, printable
from charrnn.events import ByPart, Compiling, Evaluated, Event, Finished, Indexing, Started, Step, Unsaved

if TYPE_CHECKING:
    from charrnn.labels import Column

STOPPING = "stopping: saving the model (Ctrl-C again does not wait)"
COMPILING = "compiling kernels"
MOST_SHOWN = 5  # labels
COMMAND = "use it: "  # before the command for models of readers
WRITE = "write with it: "
STEP_SECONDS = 10.0  # between two step lines without a terminal
FIRST_STEP_SECONDS = 1.0  # until the first step line, which has the time left


class RunHistory:
    """What the events of a run have reported so far, for the time left and the final advice."""

    def __init__(self) -> None:
        self.started: Started | None = None
        self.history: list[dict[str, Any]] = []  # rows as in a model file
        self._first: Step | None = None

    def take(self, event: Event) -> None:
        if isinstance(event, Started):
            self.started = event
        elif isinstance(event, Step):
            self._first = self._first or event
        elif isinstance(event, Evaluated):
            names = ("step", "epoch", "train_loss", "val_loss", "network_loss")
            self.history.append({name: getattr(event, name) for name in names})

    @property
    def kind(self) -> Kind:
        """The kind of the network."""
        return "writer" if self.started is None else self.started.model.kind

    def time_left(self, step: Step) -> str:
        """The time until the budget is spent, from the speed since the first step; empty if unknown.

        The time before that step, mostly compilation, does not recur.
        """
        first = self._first
        if first is None or not first.progress < step.progress < 1:
            return ""
        pace = (step.seconds - first.seconds) / (step.progress - first.progress)
        return f"{wording.duration(pace * (1 - step.progress))} left"

    def advice(self, finished: Finished) -> str:
        """A sentence on how to get a better model; empty if unclear, or if the run's notes have it."""
        if self.started is None or finished.measured_on != "validation":
            return ""
        train = self.started.train
        if not train.val_text:
            records = self.started.corpus.text.records
            train = replace(train, val_split=split_of(train.val_split, lines=records))
        known = self.history, train, self.started.model.dropout
        if finished.reason == "early-stop" and round(finished.best_val_loss, 4) > 0:
            return losses.after_early_stop(*known)
        return losses.advise(*known) if finished.reason == "budget" else ""


class View:
    """Shows the events of a training run. The base class, for `--quiet`, shows nothing."""

    previews = False  # whether it shows samples, which take time to generate

    def show(self, event: Event) -> None:
        """Show one event."""

    def stopping(self) -> None:
        """Acknowledge a request to stop. Called inside a signal handler."""

    def restore(self) -> None:
        """Restore the terminal. Called inside a signal handler."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *problem: object) -> None:
        pass


class Notes(View):
    """Notes and warnings; no progress."""

    def show(self, event: Event) -> None:
        if isinstance(event, Started):
            for note in event.notes:
                say(f"note: {printable(note)}")
        elif isinstance(event, Unsaved):
            say(f"warning: {printable(unsaved(event))}")

    def stopping(self) -> None:
        say_at_once(STOPPING + "\n")


class Lines(Notes):
    """Plain lines, for a log: one for each evaluation, and for a step now and then."""

    def __init__(self) -> None:
        self._next_step: float | None = None  # on time.monotonic()'s clock
        self._prepared: set[str] = set()  # messages about the time before the first step, each shown once
        self._run = RunHistory()

    def show(self, event: Event) -> None:
        if isinstance(event, Started):
            for line in header(event):
                say(line)
        super().show(event)
        self._run.take(event)
        if isinstance(event, Compiling):
            self._prepare(compiling(event))
        elif isinstance(event, Indexing):
            self._prepare(indexing(self._run.kind))
        elif isinstance(event, Step):
            now = time.monotonic()
            if self._next_step is None:
                self._next_step = now + FIRST_STEP_SECONDS
            elif now >= self._next_step:
                self._next_step = now + STEP_SECONDS
                say(step_line(event, self._run.time_left(event), self._run.kind))
        elif isinstance(event, Evaluated):
            say(evaluated_line(event, self._run.kind))
        elif isinstance(event, Finished):
            for line in summary(event, self._run.advice(event), self._run.kind):
                say(line, command=line.startswith((COMMAND, WRITE)))

    def _prepare(self, what: str) -> None:
        if what not in self._prepared:
            self._prepared.add(what)
            say(what)


def compiling(event: Compiling) -> str:
    """The message during compilation, and whether the next run compiles again."""
    when = "first time on this machine"
    if not event.kept:
        when = "each time, with no folder to keep them: set CHARRNN_CACHE_DIR"
    return f"{COMPILING} ({when})"


def header(started: Started) -> list[str]:
    """The lines about the text, the model, the budget and the output file."""
    corpus = started.corpus
    characters, held_out = started.train_characters, ""
    if started.val_characters and started.validation is None:
        characters += started.val_characters
        held_out = f", {wording.count(started.val_characters)} of them for validation"
    texts = "" if corpus.text.split is None else f"{plural(corpus.records(), 'record')} of "
    lines = [
        f"text      {printable(corpus.name)}: {texts}{wording.count(characters)} characters{held_out}, "
        f"{wording.count(started.different)} different"
    ]
    heading, counted = wording.column(started.model.kind)
    for n, column in enumerate(corpus.columns):
        lines.append(f"{'' if n else heading:<10}{labels(column, counted)}")
    if started.validation is not None:
        judging = f"{wording.count(started.val_characters)} characters"
        lines.append(f"judged by {printable(started.validation.name)}: {judging}")
    lines += [
        f"model     {network(started.model)}",
        f"training  {budget(started.train)}, {workers(started)}, "
        f"{started.train.precision}, seed {started.train.seed}",
    ]
    if started.planned:
        lines.append(f"planned   {printable(started.planned)}")
    lines.append(f"writes    {printable(str(started.out))}")
    if started.resumed_step:
        lines.append(f"resumed   after step {wording.count(started.resumed_step)}")
    return lines


def labels(column: Column, counted: str) -> str:
    """origin: 18 different, of 20,074 texts: Russian 9,408, English 3,668, Arabic 2,000, ..."""
    common = sorted(zip(column.labels, column.counts, strict=True), key=lambda label: -label[1])[:MOST_SHOWN]
    named = [f"{wording.visible(label)} {wording.count(count)}" for label, count in common]
    more = ", ..." * (len(column.labels) > MOST_SHOWN)
    name = f"{wording.visible(column.name)}: " if column.name else ""
    total = f"{wording.count(len(column.labels))} different, of {wording.count(sum(column.counts))} {counted}"
    return f"{name}{total}: {', '.join(named)}{more}"


def network(model: ModelConfig) -> str:
    """LSTM 2 x 256, embedding 256, norm, residual: 1,234,567 parameters"""
    ways = "" if model.kind == "writer" else " both ways"
    parts = [f"{model.layers}{ways}"]
    parts.append(f"embedding {model.embedding_size}" if model.embedding_size else "one-hot input")
    parts += model.features
    if model.dropout:
        parts.append(f"dropout {model.dropout:g}")
    return f"{', '.join(parts)}: {wording.count(model.num_parameters)} parameters"


def workers(started: Started) -> str:
    """2 threads; 2 threads, 8 shards; 4 ranks of 2 threads, 8 shards that meet every 50 steps"""
    threads, train = plural(started.threads, "thread"), started.train
    threads = threads if started.ranks == 1 else f"{started.ranks} ranks of {threads}"
    if train.shards == 1:
        return threads
    meet = "" if train.sync_every == 1 else f" that meet every {plural(train.sync_every, 'step')}"
    return f"{threads}, {train.shards} shards{meet}"


def budget(train: TrainConfig) -> str:
    """3 minutes; 10 epochs; 300 steps"""
    if train.minutes is not None:
        return plural(train.minutes, "minute")
    if train.epochs is not None:
        return plural(train.epochs, "epoch")
    return plural(train.steps or 0, "step")


def indexing(kind: Kind) -> str:
    """What is made of a long text before the first step."""
    if kind == "writer":
        return "making an index of the text (for sample --novel)"
    return "counting the grams of the texts"


def step_line(step: Step, left: str, kind: Kind) -> str:
    parts = [
        f"step {step.step}",
        f"epoch {step.epoch:.2f}",
        f"{step.progress:.0%}",
        f"loss {wording.loss(step.train_loss, kind)}",
        f"lr {step.learning_rate:.2e}",
        f"{wording.count(round(step.chars_per_second))} chars/s",
        left,
    ]
    return "  ".join(part for part in parts if part)


def evaluated_line(event: Evaluated, kind: Kind) -> str:
    return (
        f"step {event.step}  epoch {event.epoch:.2f}  {wording.duration(event.seconds)}  "
        f"{event.measured_on} {wording.loss(event.val_loss, kind)}{right(event)}{by_part(event.parts)}  "
        f"latest {decimal(event.train_loss)}"
        f"{'  best' if event.best else ''}{', saved' if event.saved else ''}"
    )


def right(event: Evaluated | Finished) -> str:
    """, 84.9 % right"""
    return "" if event.accuracy is None else f", {event.accuracy:.1%} right"


def by_part(parts: ByPart) -> str:
    """, of kjv.txt 1.2345, of moby.txt 1.3456"""
    return "".join(f", of {printable(name)} {decimal(loss)}" for name, loss in parts)


def unsaved(event: Unsaved) -> str:
    return f"{event.message} (training goes on, and tries again)"


def summary(finished: Finished, advice: str = "", kind: Kind = "writer") -> list[str]:
    """The lines at the end: the outcome, the loss, the advice, and the command that samples the model."""
    if not finished.step:
        return ["stopped before the first step: nothing is written"]
    path = str(finished.checkpoint)
    after = f"after {plural(finished.step, 'step')}, {wording.duration(finished.seconds)}"
    worth = ""
    if math.isfinite(finished.best_val_loss):
        loss = wording.loss(finished.best_val_loss, kind)
        worth = f"{finished.measured_on} {loss}{right(finished)}{by_part(finished.parts)}, "
    parameters = f"{wording.count(finished.parameters)} parameters in {printable(path)}"
    if finished.reason == "interrupted":
        return [f"stopped {after}: {worth}{parameters}", *filter(None, [finished.message])]
    writes = kind == "writer"
    words = ["charrnn", COMMANDS[kind], "-m", path, *([] if writes else ["FILE"])]
    command = (WRITE if writes else COMMAND) + shlex.join(words)
    lines = [finished.message, f"done {after}: {worth}{parameters}", advice, command]
    return [printable(line) for line in lines if line]


def plural(number: float, unit: str) -> str:
    """1 step; 1,200 steps; 0.5 minutes"""
    whole = int(number) if number == int(number) else number
    return f"{whole:,} {unit}{'' if whole == 1 else 's'}"
