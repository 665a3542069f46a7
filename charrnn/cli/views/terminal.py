"""The live view of a training run on a terminal, and colours. The only importer of rich."""

from __future__ import annotations

import io
import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Self

from rich.color import ColorSystem
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.style import Style
from rich.table import Table
from rich.text import Text

from charrnn.cli import wording
from charrnn.cli.process import say, say_at_once
from charrnn.cli.views import chart, progress
from charrnn.cli.views.chart import Point
from charrnn.errors import decimal, printable
from charrnn.events import Compiling, Evaluated, Event, Finished, Indexing, Sampled, Started, Step, Unsaved
from charrnn.scoring import heatmap

REFRESH_SECONDS = 0.125
SAMPLE_LINES = 6
CHART_WIDTH, CHART_HEIGHT = 64, 10  # characters, at the most
LEAST_HEIGHT = 3  # of a chart; with less room, a sparkline replaces it
OTHER_ROWS = 9 + SAMPLE_LINES  # reserved from the start, so that the chart's height never changes
POINT_EVERY = 0.004  # share of the budget between two points of the training curve
TRAINING, VALIDATION, BEST = "cyan", "yellow", "bold green"
_DEPTHS = {
    "standard": ColorSystem.STANDARD,
    "256": ColorSystem.EIGHT_BIT,
    "truecolor": ColorSystem.TRUECOLOR,
}
_one_line = partial(Text, no_wrap=True, overflow="ellipsis")


class _Screen(io.TextIOBase):
    """stderr without errors: a closed terminal must not stop the run, least of all while it saves."""

    def __init__(self) -> None:
        assert sys.stderr is not None
        self._stream = sys.stderr

    def write(self, text: str) -> int:
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._stream.flush()

    def fileno(self) -> int:
        return self._stream.fileno()

    def isatty(self) -> bool:
        return self._stream.isatty()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._stream.encoding


class LiveView(progress.View):
    """Redraws the state of the run in place on stderr."""

    previews = True

    def __init__(self) -> None:
        # Everything printed is a Text, never a str, in which rich would interpret markup.
        self._console = Console(file=_Screen(), force_terminal=True, highlight=False)  # type: ignore[arg-type]
        self._status = "reading the text"
        self._due = 0.0
        self._step: Step | None = None
        self._run = progress.RunHistory()
        self._evaluated: Evaluated | None = None
        self._best: Evaluated | None = None
        self._losses: list[Point] = []  # (progress, loss) while training
        self._validation: list[Point] = []
        self._best_point: Point | None = None
        self._next_point = 0.0
        self._sample: Sampled | None = None
        self._finished: Finished | None = None
        self._open = False
        # The Linux console and old Windows consoles have no braille in their fonts.
        self._has_braille = not (
            self._console.options.ascii_only
            or self._console.legacy_windows
            or os.environ.get("TERM") == "linux"
        )
        self._live = Live(console=self._console, auto_refresh=False, get_renderable=self._draw)

    def show(self, event: Event) -> None:
        self._run.take(event)
        if isinstance(event, Started):
            self._announce(event)
        elif isinstance(event, Compiling):
            done = f"{event.kernels_done} of {event.kernels_total}"
            self._status = f"{progress.compiling(event)}: {done}"
        elif isinstance(event, Indexing):
            done = f"{event.characters_done / event.characters_total:.0%}"
            self._status = f"{progress.indexing(self._run.kind)}: {done}"
        elif isinstance(event, Step):
            self._take_step(event)
        elif isinstance(event, Evaluated):
            self._take_evaluation(event)
        elif isinstance(event, Unsaved):
            self._console.print(Text(f"warning: {printable(progress.unsaved(event))}", "yellow"))
        elif isinstance(event, Sampled):
            self._sample = event
        elif isinstance(event, Finished):
            self._finished = event
            if self._step is not None:  # the last step shown is usually not the run's last
                last = {name: getattr(event, name) for name in ("step", "epoch", "train_loss")}
                self._step = replace(self._step, **last)
            self._close()
            self._console.print()
            for line in progress.summary(event, self._run.advice(event), self._run.kind):
                say(line, command=line.startswith((progress.COMMAND, progress.WRITE)))
            return
        now = time.monotonic()
        if now >= self._due or not isinstance(event, Step):
            self._due = now + REFRESH_SECONDS
            self._live.refresh()

    def stopping(self) -> None:
        self._status = progress.STOPPING
        # Overwrites the picture's last line, where the cursor is, until the next redraw.
        say_at_once(f"\r\x1b[2K{progress.STOPPING}")

    def restore(self) -> None:
        if self._open:
            say_at_once("\x1b[?25h\r\n")  # shows the cursor, which Live hides

    def __enter__(self) -> Self:
        self._open = True
        self._live.start(refresh=True)
        return self

    def __exit__(self, *problem: object) -> None:
        self._close()

    def _close(self) -> None:
        if self._open:
            self._status = ""
            self._live.stop()
            self._open = False

    def _announce(self, started: Started) -> None:
        for line in progress.header(started):
            self._console.print(Text(line, "bold" if line.startswith("text ") else ""))
        for note in started.notes:
            self._console.print(Text(f"note: {printable(note)}", "yellow"))
        self._status = "starting"

    def _take_step(self, step: Step) -> None:
        if self._step is None or self._status.startswith(progress.COMPILING):
            self._status = "Ctrl-C saves and stops"
        self._step = step
        if step.progress >= self._next_point:
            self._next_point = step.progress + POINT_EVERY
            self._losses.append((step.progress, step.train_loss))

    def _take_evaluation(self, evaluated: Evaluated) -> None:
        self._evaluated = evaluated
        # Placed at the last step shown, since the final evaluation has no step event.
        done = self._step.progress if self._step is not None else 0.0
        self._validation.append((done, evaluated.val_loss))
        if evaluated.best:
            self._best, self._best_point = evaluated, self._validation[-1]

    def _draw(self) -> RenderableType:
        rows: list[RenderableType] = []
        if self._step is not None:
            rows += ["", *self._curves(), self._bar(self._step), self._figures(self._step)]
            rows.append(self._training(self._step))
        if self._evaluated is not None:
            rows.append(self._validated(self._evaluated))
        if self._sample is not None:
            rows += ["", *self._excerpt(self._sample)]
        if self._status:
            rows += [""] if rows else []
            rows.append(_one_line(self._status, "dim"))
        return Group(*rows)

    def _width(self) -> int:
        """The width of the chart and of the bar below it, so that both have the same time axis."""
        return max(8, min(CHART_WIDTH, self._console.width - chart.LABEL_WIDTH - 1))

    def _curves(self) -> list[RenderableType]:
        """The chart or, without room or braille characters for it, a sparkline of the training loss."""
        width, height = self._width(), min(CHART_HEIGHT, self._console.height - OTHER_ROWS)
        lines = [chart.Line(self._losses, TRAINING), chart.Line(self._validation, VALIDATION)]
        if height >= LEAST_HEIGHT and self._has_braille:
            rows = chart.draw(lines, self._best_point, BEST, width, height)
            return [Text.assemble(*row, no_wrap=True) for row in rows]
        if self._console.options.ascii_only:
            return []
        bars = wording.sparkline([loss for _, loss in self._losses], width)
        return [Text.assemble((f"{'loss':<{chart.LABEL_WIDTH}}", "dim"), (bars, TRAINING), no_wrap=True)]

    def _bar(self, step: Step) -> RenderableType:
        row = Table.grid(padding=(0, 1, 0, 0))
        over = self._finished is not None and self._finished.reason == "budget"
        completed = 1.0 if over else min(step.progress, 1.0)
        left = self._run.time_left(step) if self._finished is None else ""
        bar = ProgressBar(1.0, completed, self._width(), complete_style="white", finished_style="white")
        margin = " " * (chart.LABEL_WIDTH - 1)
        row.add_row(margin, bar, Text(f"{completed:.0%}", "bold"), Text(left, "dim"))
        return row

    def _figures(self, step: Step) -> Text:
        return _one_line(
            f"step {wording.count(step.step)}  epoch {step.epoch:.2f}  "
            f"{wording.count(round(step.chars_per_second))} chars/s  lr {step.learning_rate:.2e}",
            "dim",
        )

    def _training(self, step: Step) -> Text:
        """The training loss, in the colour of its curve: the line is also the legend."""
        return self._line(("training    ", TRAINING), wording.loss(step.train_loss, self._run.kind))

    def _validated(self, evaluated: Evaluated) -> Text:
        name = "validation  " if evaluated.measured_on == "validation" else "same text   "
        loss = wording.loss(evaluated.val_loss, self._run.kind) + progress.right(evaluated)
        parts: list[str | tuple[str, str]] = [(name, VALIDATION), loss]
        if self._best is not None:
            best = f"{decimal(self._best.val_loss)} at epoch {self._best.epoch:.2f}"
            parts += ["   ", ("● best ", BEST), best]
        return self._line(*parts)

    def _line(self, *parts: str | tuple[str, str]) -> Text:
        return Text.assemble(*parts, no_wrap=True, overflow="ellipsis")

    def _excerpt(self, sampled: Sampled) -> list[Text]:
        lines = [line for line in sampled.text.splitlines() if line.strip()]
        heading = Text(f"written after step {wording.count(sampled.step)}:", "dim")
        return [heading, *(_one_line("  " + wording.visible(s), "italic") for s in lines[:SAMPLE_LINES])]


def span_painter() -> Callable[[str, str], str] | None:
    """A function that gives text a style, such as "cyan" or "dim", or None without colours."""
    system = Console(force_terminal=True).color_system
    if system is None:
        return None
    depth = _DEPTHS.get(system, ColorSystem.EIGHT_BIT)
    return lambda text, style: Style.parse(style).render(text, color_system=depth) if style else text


def heat_painter(scale: heatmap.Scale, *, forced: bool) -> Callable[[str, int], str] | None:
    """A function that colours text by its level on the scale, or None without colours.

    On terminals with 256 or 16 colours, the nearest ones are used.
    """
    system = Console(force_terminal=True, no_color=False).color_system
    if system is None and not forced:
        return None
    chosen = _DEPTHS.get(system or "256", ColorSystem.EIGHT_BIT)
    colors = [color or (None, None) for color in scale.colors]
    styles = [Style(color=front, bgcolor=back) for back, front in colors]
    return lambda text, level: styles[level].render(text, color_system=chosen)
