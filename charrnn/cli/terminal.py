"""The live view of a training run on a terminal, and colours. The only importer of rich."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Self

from rich.color import ColorSystem
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.style import Style
from rich.table import Table
from rich.text import Text

from charrnn import heat
from charrnn.cli import progress, wording
from charrnn.cli.process import say_at_once
from charrnn.errors import printable
from charrnn.events import Compiling, Evaluated, Event, Finished, Sampled, Started, Step

REFRESH_SECONDS = 0.125
SAMPLE_LINES = 6
SPARK_WIDTH = 40
SPARK_EVERY = 0.005  # of the budget between two points of the sparkline


class LiveView(progress.View):
    """Redraws, in place on stderr, all that is known about the run."""

    previews = True

    def __init__(self) -> None:
        # Everything below is a Text, never a str: rich reads no markup in it.
        self._console = Console(stderr=True, force_terminal=True, highlight=False)
        self._status = "reading the text"
        self._due = 0.0
        self._step: Step | None = None
        self._evaluated: Evaluated | None = None
        self._best = math.inf
        self._losses: list[float] = []
        self._next_point = 0.0
        self._sample: Sampled | None = None
        self._open = False
        self._live = Live(console=self._console, auto_refresh=False, get_renderable=self._draw)

    def show(self, event: Event) -> None:
        if isinstance(event, Started):
            self._announce(event)
        elif isinstance(event, Compiling):
            done = f"{event.kernels_done} of {event.kernels_total}"
            self._status = f"{progress.COMPILING}: {done}"
        elif isinstance(event, Step):
            self._take_step(event)
        elif isinstance(event, Evaluated):
            self._evaluated = event
            if event.val_loss < self._best:
                self._best = event.val_loss
        elif isinstance(event, Sampled):
            self._sample = event
        elif isinstance(event, Finished):
            self._close()
            for line in progress.summary(event):
                self._console.print(Text(line), soft_wrap=True)
            return
        now = time.monotonic()
        if now >= self._due or not isinstance(event, Step):
            self._due = now + REFRESH_SECONDS
            self._live.refresh()

    def stopping(self) -> None:
        self._status = progress.STOPPING
        # Over the picture's last line, on which the cursor rests; the next redraw says the same.
        say_at_once(f"\r\x1b[2K{progress.STOPPING}")

    def restore(self) -> None:
        if self._open:
            say_at_once("\x1b[?25h\r\n")  # show the cursor that Live hides

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
            self._next_point = step.progress + SPARK_EVERY
            self._losses.append(step.train_loss)

    def _draw(self) -> RenderableType:
        rows: list[RenderableType] = []
        if self._step is not None:
            rows += ["", self._bar(self._step), self._figures(self._step)]
        if self._evaluated is not None:
            rows.append(self._validation(self._evaluated))
        if self._losses:
            bars = wording.sparkline(self._losses, min(SPARK_WIDTH, self._console.width - 10))
            rows.append(Text(f"loss      {bars}", "cyan", no_wrap=True))
        if self._sample is not None:
            rows += ["", *self._excerpt(self._sample)]
        if self._status:
            rows += [""] if rows else []
            rows.append(Text(self._status, "dim", no_wrap=True, overflow="ellipsis"))
        return Group(*rows)

    def _bar(self, step: Step) -> RenderableType:
        row = Table.grid(padding=(0, 1))
        completed = min(step.progress, 1.0)
        bar = ProgressBar(1.0, completed, SPARK_WIDTH, complete_style="cyan")
        row.add_row(bar, Text(f"{step.progress:4.0%}", "bold"), Text(progress.time_left(step)))
        return row

    def _figures(self, step: Step) -> Text:
        bits = step.train_loss / math.log(2)
        return Text(
            f"step {wording.count(step.step)}  epoch {step.epoch:.2f}  "
            f"loss {step.train_loss:.4f}  {bits:.3f} bits/char  "
            f"{wording.count(round(step.chars_per_second))} chars/s  lr {step.learning_rate:.2e}",
            no_wrap=True,
            overflow="ellipsis",
        )

    def _validation(self, evaluated: Evaluated) -> Text:
        text = Text(no_wrap=True, overflow="ellipsis")
        text.append(f"{evaluated.measured_on} {wording.loss(evaluated.val_loss)}")
        text.append(f"  best {self._best:.4f}", "green" if evaluated.best else "")
        return text

    def _excerpt(self, sampled: Sampled) -> list[Text]:
        lines = [line for line in sampled.text.splitlines() if line.strip()]
        heading = Text(f"written after step {wording.count(sampled.step)}:", "dim")
        return [
            heading,
            *(
                Text("  " + wording.visible(line), "italic", no_wrap=True, overflow="ellipsis")
                for line in lines[:SAMPLE_LINES]
            ),
        ]


def heat_painter(*, forced: bool) -> Callable[[str, int], str] | None:
    """What colours text by its level of surprise (charrnn.heat), or None where the terminal has no colours.

    True colours become the nearest of 256 or 16 where those are all that there is.
    """
    system = Console(force_terminal=True, no_color=False).color_system
    if system is None and not forced:
        return None
    depth = {
        "standard": ColorSystem.STANDARD,
        "256": ColorSystem.EIGHT_BIT,
        "truecolor": ColorSystem.TRUECOLOR,
    }
    chosen = depth.get(system or "256", ColorSystem.EIGHT_BIT)
    styles = [Style(), *(Style(color=front, bgcolor=back) for back, front in heat.COLORS)]
    return lambda text, level: styles[level].render(text, color_system=chosen)
