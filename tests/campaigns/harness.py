"""What the campaigns share: counting, reporting, and runs in processes of their own."""

from __future__ import annotations

import collections
import contextlib
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
SHOWN = 10  # broken promises that are printed in full
PROGRESS_SECONDS = 10.0


class Report:
    """Counts what was tried, and collects what broke a promise."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.tried = 0
        self.outcomes: collections.Counter[str] = collections.Counter()
        self.broken: list[str] = []
        self._started = self._said = time.monotonic()

    def count(self, outcome: str) -> None:
        self.tried += 1
        self.outcomes[outcome] += 1
        now = time.monotonic()
        if now - self._said > PROGRESS_SECONDS:
            self._said = now
            print(f"{self.name}: {self.tried} tried, {len(self.broken)} broken", file=sys.stderr, flush=True)

    def breaks(self, what: str) -> None:
        self.broken.append(what)
        if len(self.broken) <= SHOWN:
            print(f"BROKEN {what}", file=sys.stderr, flush=True)

    def check(self, condition: object, what: str) -> None:
        if not condition:
            self.breaks(what)

    def finish(self) -> int:
        """Print the row and return the exit code."""
        outcomes = ", ".join(f"{count:,} {name}" for name, count in sorted(self.outcomes.items()))
        seconds = time.monotonic() - self._started
        broken = len(self.broken)
        print(f"| {self.name} | {self.tried:,} tried | {outcomes} | {broken} broken | {seconds:.0f} s |")
        return 1 if broken else 0


class Child:
    """A forked process that runs `work(say)`; what it says is read here, line by line.

    Forked, so that the compiled kernels are there already and a case takes milliseconds.
    """

    def __init__(self, work: Callable[[Callable[[str], None]], None]) -> None:
        self._read, write = os.pipe()
        self._status: int | None = None
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            code = 99
            try:
                os.close(self._read)
                write_all = os.write  # faults are injected into os.write
                work(lambda line: void(write_all(write, line.encode() + b"\n")))
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                leave(code)
        os.close(write)

    def wait(self) -> tuple[int, list[str]]:
        """The exit code (negative: the signal that killed it) and what was said."""
        with open(self._read, encoding="utf-8", errors="replace") as said:
            lines = said.read().splitlines()
        if self._status is None:
            self._status = os.waitpid(self.pid, 0)[1]
        return os.waitstatus_to_exitcode(self._status), lines

    def is_running(self) -> bool:
        if self._status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self._status = status if pid else None
        return self._status is None


def command(*words: object) -> list[str]:
    """The command line, as `charrnn` starts it."""
    return [sys.executable, "-m", "charrnn", *map(str, words)]


def hear_ctrl_c() -> None:
    """And let the commands do so: a shell lets its background jobs ignore it, and charrnn keeps to that."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


class TooLong(BaseException):
    """What was tried did not end in time. No error, so that what is tried does not catch it."""


def _too_long(*_: object) -> None:
    raise TooLong


@contextlib.contextmanager
def at_most(seconds: int) -> Iterator[None]:
    """Raises TooLong when what is done takes longer; 0: it may take any time."""
    signal.signal(signal.SIGALRM, _too_long)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)


def limit_memory(address_space: int) -> None:
    """What this process may have from here on, in bytes."""
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (address_space, hard))


leave = os._exit


def void(_: object) -> None:
    """So that a lambda gives nothing back."""


class Faults:
    """Counts the calls to the system about files in a folder, and does something at one of them.

    `install` replaces the functions of the module os, for this whole process: do it in a child.
    `at(call, name)` is asked before each call, which is counted from 1: what it raises, the call raises.
    It may also return a function that is done instead of the call, with the same arguments.
    """

    PATHS = ("open", "stat", "lstat", "mkdir", "rmdir", "unlink", "replace")
    DESCRIPTORS = ("write", "fsync", "fstat", "close", "ftruncate")

    def __init__(self, folder: Path, at: Callable[[int, str], Callable[..., object] | None]) -> None:
        self.calls = 0
        self._folder, self._at = str(folder), at
        self._descriptors: set[int] = set()

    def install(self) -> None:
        for name in (*self.PATHS, *self.DESCRIPTORS):
            setattr(os, name, self._wrapped(name, getattr(os, name)))

    def _wrapped(self, name: str, real: Callable[..., object]) -> Callable[..., object]:
        def call(target: object, *args: object, **options: object) -> object:
            if not self._concerns(name, target):
                return real(target, *args, **options)
            self.calls += 1
            instead = self._at(self.calls, name)
            result = (instead or real)(target, *args, **options)
            if name == "open":
                assert isinstance(result, int)
                self._descriptors.add(result)
            elif name == "close":
                self._descriptors.discard(target)  # type: ignore[arg-type]
            return result

        return call

    def _concerns(self, name: str, target: object) -> bool:
        if name in self.DESCRIPTORS or isinstance(target, int):
            return target in self._descriptors
        return isinstance(target, str | os.PathLike) and os.fspath(target).startswith(self._folder)  # type: ignore[arg-type]


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """A folder for many small files: in memory, where the system has such a place."""
    fast = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=fast if os.access(fast, os.W_OK) else None) as name:
        yield Path(name)
