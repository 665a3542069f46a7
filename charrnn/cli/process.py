"""The process: signals, closed pipes, errors on one line, exit codes."""

from __future__ import annotations

import codecs
import errno
import math
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Container, Iterable
from contextlib import suppress
from types import FrameType
from typing import NoReturn, Self, TextIO

from charrnn.errors import CharrnnError, ConfigError, ExitCode, printable
from charrnn.system import atomic

DEBUG = bool(os.environ.get("CHARRNN_DEBUG"))  # print tracebacks of errors
FLUSH_SECONDS = 0.05  # longest time between flushes to a pipe while text is written

# SIGHUP: the terminal was closed. Windows has none.
_HANGUP = getattr(signal, "SIGHUP", None)
STOPPING = (signal.SIGINT, signal.SIGTERM, *([_HANGUP] if _HANGUP is not None else []))
_TWICE_SECONDS = 1.0  # in which SIGTERM, coming again, is taken for the same one
_LATE_SECONDS = 0.3  # after which the watching thread handles a signal in place of the main thread
_answered = 0  # signals that the main thread has handled
# Called with the exit code before the process ends, and before it ends on a signal.
_leaving: tuple[Callable[[int], None], Callable[[int], None]] | None = None


class ClosedPipe(Exception):  # noqa: N818 - a normal end, no error
    """The reader of stdout has closed the pipe, as `head` does."""


class UsageError(CharrnnError):
    """The command line itself cannot be understood."""

    exit_code = ExitCode.USAGE


def say(line: str, end: str = "\n", *, command: bool = False) -> None:
    """Write one line to stderr; if stderr is closed, do nothing.

    On a terminal it is wrapped between words, unless it holds a `command`, which the user may copy.
    """
    with suppress(OSError, ValueError):
        if sys.stderr is not None:
            if end and not command:
                line = _folded(line, _columns(sys.stderr))
            sys.stderr.write(line + end)
            sys.stderr.flush()


def is_terminal(stream: TextIO | None) -> bool:
    """Whether `stream` is a terminal that may show colours and animation."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return stream is not None and stream.isatty() and not plain


def _columns(stream: TextIO) -> int:
    """The terminal's width; 0 if it is unknown or `stream` is not a terminal."""
    try:
        return os.get_terminal_size(stream.fileno()).columns if stream.isatty() else 0
    except (OSError, ValueError):
        return 0


def _folded(text: str, width: int) -> str:
    """The text wrapped between words to `width` characters, long words such as paths kept; 0: not wrapped."""
    if not width:
        return text
    from textwrap import fill

    lines = text.split("\n")
    return "\n".join(fill(line, width, break_long_words=False, break_on_hyphens=False) for line in lines)


def say_at_once(text: str) -> None:
    """Write to stderr from a signal handler, bypassing buffers that the interrupted code may be using."""
    with suppress(OSError):
        os.write(2, text.encode())


# Control characters, which a terminal would interpret, except for those that all text has.
_CONTROLS = {n: ascii(chr(n))[1:-1] for n in (*range(32), *range(127, 160)) if chr(n) not in "\t\n\r"}


class Output:
    """stdout as UTF-8, whatever the locale, or as the raw bytes of a `--bytes` model.

    Since a model may be untrusted, a terminal gets control characters escaped, as \\x1b and the like.

    Raises from each method:
        ClosedPipe: the reader has closed the pipe.
        CharrnnError: stdout is closed, or its disk is full.
    """

    def __init__(self, *, raw_bytes: bool = False, errors: str = "strict", colored: bool = False) -> None:
        if sys.stdout is None:
            raise CharrnnError("stdout is closed", "there is nowhere to write to")
        self._stream = sys.stdout.buffer
        self._errors = errors  # how surrogates are encoded, see str.encode
        self._to_terminal = sys.stdout.isatty()  # then each character is flushed
        self._escapes = self._to_terminal and not colored  # coloured text has its control characters escaped
        self._encoding = "latin-1" if raw_bytes and not self._to_terminal else "utf-8"
        # A terminal shows raw bytes as UTF-8, invalid ones as U+FFFD.
        as_text = raw_bytes and self._to_terminal
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace") if as_text else None
        self._due = 0.0

    def write(self, text: str) -> None:
        """Write `text`; it is flushed at once to a terminal, else every FLUSH_SECONDS."""
        if self._decoder is not None:
            text = self._decoder.decode(text.encode("latin-1"))
        if self._escapes:
            text = text.translate(_CONTROLS)
        try:
            self._stream.write(text.encode(self._encoding, self._errors))
        except OSError as problem:
            raise writing_failed(problem, to_terminal=self._to_terminal) from None
        now = time.monotonic()
        if self._to_terminal or now >= self._due:
            self.flush()
            self._due = now + FLUSH_SECONDS

    def write_bytes(self, data: bytes) -> None:
        """Write a file's bytes as they are, and flush."""
        try:
            self._stream.write(data)
        except OSError as problem:
            raise writing_failed(problem, to_terminal=self._to_terminal) from None
        self.flush()

    def write_all(self, pieces: Iterable[str]) -> None:
        """Write the pieces and flush."""
        for piece in pieces:
            self.write(piece)
        self.flush()

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError as problem:
            raise writing_failed(problem, to_terminal=self._to_terminal) from None


def writing_failed(problem: OSError, *, to_terminal: bool = False) -> Exception:
    """The error for a failed write to stdout: ClosedPipe, or a CharrnnError with the reason."""
    # Windows reports a closed pipe as EINVAL; a closed terminal gives EIO.
    closed = {errno.EPIPE, errno.EINVAL} if sys.platform == "win32" else {errno.EPIPE}
    if to_terminal:
        closed.add(errno.EIO)
    if problem.errno in closed:
        return ClosedPipe()
    return CharrnnError("cannot write to stdout", problem.strerror or str(problem))


class StopRequest:
    """Turns the first stopping signal into a request to save and stop; a second one ends the process at once.

    A second SIGHUP does not, since closing a terminal sends several, from the terminal and from its shell.
    Nor does a SIGTERM soon after the first: Slurm sends it to each process, and a shepherd passes its own on.

    The training loop calls the object between steps and gets the signal's name, or None to go on. Before
    `saveable` is set there is nothing to save, and the first signal already ends the process.
    """

    def __init__(self, announce: Callable[[], None], restore: Callable[[], None]) -> None:
        self._announce = announce  # reports the request; called inside the signal handler, as is restore
        self._restore = restore  # restores the terminal before the process ends
        self._previous: dict[signal.Signals, object] = {}
        self.saveable = False
        self.reason: str | None = None
        self.exit_code = ExitCode.DONE
        self._is_first = True  # no signal has come
        self._signalled = -math.inf  # when the first came

    def __call__(self) -> str | None:
        return self.reason

    def ask(self, reason: str, exit_code: ExitCode) -> None:
        """Request a stop. If it is not the first request, it is ignored."""
        if self.reason is None:
            self.reason, self.exit_code = reason, exit_code

    def __enter__(self) -> Self:
        self._previous = install(self._on_signal)
        return self

    def __exit__(self, *problem: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def at_once(self, number: int) -> bool:
        """Whether this signal, if it arrived now, would end the process without saving."""
        twice = number == signal.SIGTERM and time.monotonic() - self._signalled < _TWICE_SECONDS
        return not self.saveable or (self.reason is not None and number != _HANGUP and not twice)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        global _answered
        _answered += 1
        first, self._is_first = self._is_first, False  # before any call, in which the next signal is handled
        asks = first and self.reason is None
        if asks:
            self._signalled = time.monotonic()
        if self.at_once(number):
            self._restore()
            leave_on_signal(number)
        if asks:
            self.ask(signal.Signals(number).name, ExitCode(128 + number))
            self._announce()


def run(program: Callable[[list[str]], int], args: list[str], commands: Container[str]) -> NoReturn:
    """Run `program(args)`, report an error on one line of stderr, and end the process.

    `commands` are the names that `args` may begin with, for hints to a command's help.
    """
    _keep_standard_descriptors()
    install(leave_on_signal)
    _watch_signals()
    if not (DEBUG or sys.warnoptions):
        warnings.simplefilter("ignore")  # they concern charrnn's code, not the user's text
    _leave(outcome(program, args, commands))


def outcome(program: Callable[[list[str]], int], args: list[str], commands: Container[str]) -> int:
    """The exit code of `program(args)`, after reporting an error on stderr."""
    try:
        return program(args)
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except ClosedPipe:
        return ExitCode.DONE
    except SystemExit as end:
        # Raised by Typer when the help is written to a closed pipe, and after installing completion.
        piped = isinstance(end.__context__, BrokenPipeError)
        return end.code if isinstance(end.code, int) and not piped else ExitCode.DONE
    except Exception as problem:
        return _report(problem, args[0] if args and args[0] in commands else "")


def _report(problem: Exception, command: str) -> ExitCode:
    if DEBUG:
        import traceback

        traceback.print_exception(problem)
    if isinstance(problem, CharrnnError):
        say(f"charrnn: error: {printable(str(problem))}")
        if isinstance(problem, (ConfigError, UsageError)):
            say(f"try '{' '.join(filter(None, ['charrnn', command, '--help']))}'")
        return problem.exit_code
    if isinstance(problem, MemoryError):
        say("charrnn: error: out of memory: try a smaller --batch-size, --seq-len or --hidden-size")
    elif isinstance(problem, OSError):
        where = f": {problem.filename}" if problem.filename is not None else ""
        say(f"charrnn: error: {printable((problem.strerror or str(problem)) + where)}")
    else:
        what = printable(f"{type(problem).__name__}: {problem}")
        say(f"charrnn: error: unexpected {what}: CHARRNN_DEBUG=1 shows where; please report it")
    return ExitCode.FAILED


def _leave(code: int) -> NoReturn:
    """Flush and end the process at once.

    The interpreter's own shutdown would fail on closed pipes, and stop a thread that is importing Numba.
    """
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            with suppress(OSError, ValueError):
                stream.flush()
    if _leaving is not None:
        _leaving[0](code)
    os._exit(code)


def leave_on_signal(number: int, frame: FrameType | None = None) -> NoReturn:
    """Remove unfinished files and end the process at once."""
    atomic.abandon()
    if _leaving is not None:
        _leaving[1](128 + number)
    os._exit(128 + number)


def before_leaving(at_the_end: Callable[[int], None], on_signal: Callable[[int], None]) -> None:
    """Call these with the exit code before the process ends, as others depend on it."""
    global _leaving
    _leaving = at_the_end, on_signal


def _watch_signals() -> None:
    """Handle signals on another thread while the main thread is in a long native call, such as LAPACK.

    Python itself calls handlers only on the main thread, between bytecode instructions.
    """
    if sys.platform == "win32":  # where only a socket can be the wakeup descriptor
        return
    read, write = os.pipe()
    os.set_blocking(write, False)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)

    def watch() -> None:
        arrived = 0
        while True:
            (number,) = os.read(read, 1)
            if number not in STOPPING:
                continue
            arrived += 1
            time.sleep(_LATE_SECONDS)
            handler = signal.getsignal(number)
            request = getattr(handler, "__self__", None)
            waits = isinstance(request, StopRequest) and not request.at_once(number)
            if _answered < arrived and not waits and callable(handler):
                handler(number, None)

    threading.Thread(target=watch, name="charrnn-signals", daemon=True).start()


def install(handler: Callable[[int, FrameType | None], None]) -> dict[signal.Signals, object]:
    """Set `handler` for the stopping signals and return the previous handlers.

    A signal that is ignored from the start (`nohup`, a background job) stays ignored.
    """
    previous: dict[signal.Signals, object] = {}
    for number in STOPPING:
        before = signal.getsignal(number)
        if before is signal.SIG_IGN:
            continue
        with suppress(ValueError):  # only the main thread may set handlers
            signal.signal(number, handler)
            previous[number] = before
    return previous


def _keep_standard_descriptors() -> None:
    """Open closed standard descriptors, or the next file opened would become stdout or stderr."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number: this one
