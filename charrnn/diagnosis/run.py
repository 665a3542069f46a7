"""A training run by its events, as `charrnn train --json` prints them: its gradients' norms, and clipping."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from charrnn.config import TrainConfig
from charrnn.diagnosis import advice
from charrnn.diagnosis.findings import Clipping, RunDiagnosis
from charrnn.errors import CorpusError, quoted
from charrnn.text.files.sources import Source

MOST_POINTS = 2048
LONGEST = 1 << 20  # bytes of an event: far more than there are


class Norms:
    """The norms of a run's gradients; of very many, every second one is forgotten again and again."""

    def __init__(self, clip: float) -> None:
        self.clip, self.count, self.clipped, self.overflowed = clip, 0, 0, 0
        self.largest = -math.inf
        self.points: list[tuple[int, float]] = []  # step, norm; an overflow is infinite
        self._every = 1

    def add(self, step: int, norm: float | None) -> None:
        """Take the norm after a step; None: it was no finite number."""
        value = math.inf if norm is None else float(norm)
        if self.count % self._every == 0:
            self.points.append((step, value))
            if len(self.points) == MOST_POINTS:
                self.points, self._every = self.points[::2], 2 * self._every
        self.count += 1
        self.clipped += value > self.clip
        if math.isfinite(value):
            self.largest = max(self.largest, value)
        else:
            self.overflowed += 1

    def diagnosis(self) -> RunDiagnosis:
        """What they say."""
        late = [norm for _, norm in self.points[len(self.points) // 2 :]]
        clipping = Clipping(
            self.clip, self.count, self.clipped, median(norm for _, norm in self.points),
            self.largest if self.largest >= 0 else math.nan, self.overflowed,
        )  # fmt: skip
        share = sum(norm > self.clip for norm in late) / len(late)
        return RunDiagnosis(clipping, share, self.points, advice.of_run(clipping, share, median(late)))


def read(path: str | Path, clip: float) -> RunDiagnosis:
    """The diagnosis of a run by its events, a JSON object on each line of a file; "-" is standard input.

    A last line that is still being written counts for nothing.

    Raises:
        ConfigError: `clip` is not positive.
        CorpusError: the file cannot be read, a line is no event, or no step has been reported yet.
    """
    replace(TrainConfig(steps=1), clip=clip)  # checks it
    source = Source(None if str(path) == "-" else Path(path))
    norms = Norms(clip)
    for number, line in enumerate(_lines(source), 1):
        if not line.strip():
            continue
        try:
            event = json.loads(line)
        except ValueError:
            if line.startswith(b"{") and not line.endswith(b"\n") and len(line) < LONGEST:
                continue
            event = None
        if not isinstance(event, dict) or "event" not in event:
            raise CorpusError(
                f"{source.name}, line {number} is no event", "give what charrnn train --json printed"
            )
        if event["event"] == "step":
            norms.add(*_checked(event, f"{source.name}, line {number}"))
    if not norms.count:
        raise CorpusError(f"{source.name} has no step yet", "give it once the run has reported one")
    return norms.diagnosis()


def _lines(source: Source) -> Iterator[bytes]:
    """The lines, each with its end; one that is far too long for an event comes in parts."""
    rest = b""
    for chunk in source.chunks(as_they_come=True):
        *lines, rest = (rest + chunk).splitlines(keepends=True)
        yield from lines
        if rest.endswith(b"\n") or len(rest) >= LONGEST:
            yield rest
            rest = b""
    if rest:
        yield rest


def _checked(event: dict[str, Any], where: str) -> tuple[int, float | None]:
    step, norm = event.get("step"), event.get("grad_norm", "")
    if type(step) is not int or not (norm is None or (type(norm) in (int, float) and norm >= 0)):
        wrong = quoted(step if type(step) is not int else norm)
        raise CorpusError(
            f"{where} is a step with {wrong} for a number", "give what charrnn train --json printed"
        )
    return step, norm
