"""Measurements side by side: every side is a process of its own, and they take turns.

What disturbs a machine disturbs all sides then, and the ratio of two neighbours in time is what counts.
Standard library only, so that this process is small and does not show in the memory of its children.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Self

PATIENCE = 300.0  # seconds, before a process that says nothing counts as hung
SETTLE = 0.3  # seconds between two sides: OpenMP's idle threads spin for up to 0.2 s

Command = Sequence[str]
Side = Callable[[], float]


class Unavailable(Exception):  # noqa: N818 - an outcome, which the table shows
    """This side cannot be measured here; the text says why, in a line."""


@dataclass
class Comparison:
    """What several sides reached in the same rounds."""

    what: str
    unit: str
    values: dict[str, list[float]] = field(default_factory=dict)  # by side, one for each round
    missing: dict[str, str] = field(default_factory=dict)  # by side: why there is nothing
    flops: int = 0  # of one character, where they were counted

    def value(self, side: str) -> float | None:
        """The side's median."""
        return median(self.values[side]) if self.values.get(side) else None

    def best(self, sides: Sequence[str]) -> str | None:
        """Of the sides that were measured, the one with the highest median."""
        there = [side for side in sides if self.values.get(side)]
        return max(there, key=lambda side: median(self.values[side]), default=None)

    def ratio(self, side: str, other: str | None) -> float | None:
        """side : other, the median over the rounds of the ratio within a round."""
        pairs = zip(self.values.get(side, ()), self.values.get(other or "", ()), strict=False)
        ratios = [a / b for a, b in pairs]
        return median(ratios) if ratios else None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def compare(what: str, unit: str, sides: Mapping[str, Side], rounds: int, flops: int = 0) -> Comparison:
    """Measure all sides once a round, in turn. A side that fails is left out from then on."""
    result = Comparison(what, unit, flops=flops)
    for _ in range(rounds):
        for name, side in sides.items():
            if name in result.missing:
                continue
            time.sleep(SETTLE)
            try:
                result.values.setdefault(name, []).append(side())
            except Unavailable as reason:
                result.missing[name] = str(reason)
                result.values.pop(name, None)
    return result


class Process:
    """A child that speaks JSON lines; `environment` comes on top of this process's own.

    Raises:
        Unavailable: it cannot be started.
    """

    def __init__(self, command: Command, environment: Mapping[str, str]) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed in close()
        try:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                text=True,
                env={**os.environ, **environment},
            )
        except OSError as error:
            self._errors.close()
            raise Unavailable(str(error)) from error

    def read(self, wanted: Callable[[dict[str, Any]], bool] = lambda _: True) -> dict[str, Any]:
        """The next of its lines that is wanted.

        Raises:
            Unavailable: it ended before, or said nothing for a long time.
        """
        assert self.process.stdout is not None
        with self._impatience():
            for line in self.process.stdout:
                with suppress(json.JSONDecodeError):  # what a library prints is no answer
                    values = json.loads(line)
                    if isinstance(values, dict) and wanted(values):
                        return values
        raise Unavailable(self._last_words())

    def wait_for_byte(self) -> None:
        """Wait until it has written something.

        Raises:
            Unavailable: it ended before, or wrote nothing for a long time.
        """
        assert self.process.stdout is not None
        with self._impatience():
            byte = os.read(self.process.stdout.fileno(), 1)
        if not byte:
            raise Unavailable(self._last_words())

    @contextmanager
    def _impatience(self) -> Iterator[None]:
        alarm = threading.Timer(PATIENCE, self.process.kill)
        alarm.start()
        try:
            yield
        finally:
            alarm.cancel()

    def tell(self, line: str) -> None:
        assert self.process.stdin is not None
        with suppress(OSError):  # `read` finds out why it has gone
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()

    def _last_words(self) -> str:
        status = self.process.wait()
        self._errors.seek(0)
        return _reason(self._errors.read(), status)

    def close(self) -> None:
        """End it, whatever it does."""
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self._errors):
            if stream is not None:
                with suppress(OSError):
                    stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Worker(Process):
    """A process that calls `serve.serve`: warmed up when it is made, measuring when it is called."""

    def __init__(self, command: Command, environment: Mapping[str, str]) -> None:
        super().__init__(command, environment)
        try:
            self.facts = self.read(lambda values: "ready" in values)
        except BaseException:
            self.close()
            raise

    def __call__(self, seconds: float) -> float:
        self.tell(f"{seconds}")
        return float(self.read(lambda values: "value" in values)["value"])


class Workers:
    """The warm processes of a comparison, by side; those that do not start are remembered."""

    def __init__(self, stack: ExitStack, seconds: float) -> None:
        self._stack, self._seconds = stack, seconds
        self.sides: dict[str, Side] = {}
        self.missing: dict[str, str] = {}
        self.facts: dict[str, dict[str, Any]] = {}

    def add(self, name: str, command: Command, environment: Mapping[str, str]) -> None:
        try:
            worker = self._stack.enter_context(Worker(command, environment))
        except Unavailable as reason:
            self.missing[name] = str(reason)
            return
        self.facts[name] = worker.facts
        self.sides[name] = lambda: worker(self._seconds)


def facts(command: Command, environment: Mapping[str, str]) -> dict[str, Any]:
    """The first JSON object that a command prints.

    Raises:
        Unavailable: it printed none.
    """
    with Process(command, environment) as process:
        return process.read()


def seconds_to_end(command: Command, environment: Mapping[str, str]) -> float:
    """How long a whole process takes."""
    start = time.perf_counter()
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        env={**os.environ, **environment},
    )  # fmt: skip
    seconds = time.perf_counter() - start
    if done.returncode != 0:
        raise Unavailable(_reason(done.stderr, done.returncode))
    return seconds


def seconds_to_first_byte(command: Command, environment: Mapping[str, str]) -> float:
    """How long it takes from the start of a process to the first byte on its stdout."""
    start = time.perf_counter()
    with Process(command, environment) as process:
        process.wait_for_byte()
        return time.perf_counter() - start


def seconds_to_line(
    command: Command, environment: Mapping[str, str], wanted: Callable[[dict[str, Any]], bool]
) -> float:
    """How long it takes from the start of a process to the JSON line that is wanted; it is then ended."""
    start = time.perf_counter()
    with Process(command, environment) as process:
        process.read(wanted)
        return time.perf_counter() - start


def peak_megabytes(command: Command, environment: Mapping[str, str]) -> float:
    """The most memory that a whole process held at a time (resident set), in MB of 10^6 bytes."""
    if not hasattr(os, "wait4"):
        raise Unavailable("this system does not say how much memory a process held")
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors,
            env={**os.environ, **environment},
        )  # fmt: skip
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            errors.seek(0)
            raise Unavailable(_reason(errors.read(), process.returncode))
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6


def _reason(stderr: bytes, status: int) -> str:
    """The last line that names an error, or the last one: charrnn says after it what to try."""
    lines = stderr.decode(errors="replace").strip().splitlines()
    named = [line for line in lines if "error" in line.lower()] or lines
    return named[-1].strip()[:200] if named else f"it ended with exit status {status}"


def python(interpreter: str, script: str, *arguments: object) -> list[str]:
    """The command that runs a script of this folder."""
    return [interpreter, str(Path(__file__).parent / script), *map(str, arguments)]
