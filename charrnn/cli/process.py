"""How the process behaves: signals, closed pipes, one line an error, exit codes."""

from __future__ import annotations

import codecs
import errno
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Container
from contextlib import suppress
from types import FrameType, TracebackType
from typing import NoReturn, Self, TextIO

from charrnn.errors import CharrnnError, ConfigError, ExitCode, printable
from charrnn.system import atomic

DEBUG = bool(os.environ.get("CHARRNN_DEBUG"))  # show the traceback behind an error's one line
FLUSH_SECONDS = 0.05  # text waits no longer than this before a pipe's reader sees it

# SIGHUP says that the terminal is closed; Windows has none.
_HANGUP = getattr(signal, "SIGHUP", None)
_STOPPING = (signal.SIGINT, signal.SIGTERM, *([_HANGUP] if _HANGUP is not None else []))
_LATE_SECONDS = 0.3  # after which a signal is answered for the main thread
_answered = 0  # signals


class ClosedPipe(Exception):  # noqa: N818 - an ordinary end, no error
    """The reader of stdout has gone, as `head` does when it has seen enough."""


class UsageError(CharrnnError):
    """The command line itself cannot be understood."""

    exit_code = ExitCode.USAGE


def say(line: str, end: str = "\n", *, command: bool = False) -> None:
    """Write one line to stderr. A reader who has gone is no reason to stop.

    A terminal shows it in as many lines as it takes, unless it holds a command, which may be copied.
    """
    with suppress(OSError, ValueError):
        if sys.stderr is not None:
            if end and not command:
                line = _folded(line, _columns(sys.stderr))
            sys.stderr.write(line + end)
            sys.stderr.flush()


def is_terminal(stream: TextIO | None) -> bool:
    """Whether a picture that moves, with colours, is welcome on `stream`."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return stream is not None and stream.isatty() and not plain


def _columns(stream: TextIO) -> int:
    """Of the terminal that it is; 0 where it is none, or one that does not say."""
    try:
        return os.get_terminal_size(stream.fileno()).columns if stream.isatty() else 0
    except (OSError, ValueError):
        return 0


def _folded(text: str, width: int) -> str:
    """In lines of at most `width` characters, broken between words; a longer word, as a path is, stays whole.

    With no width, the text as it is.
    """
    if not width:
        return text
    from textwrap import fill

    lines = text.split("\n")
    return "\n".join(fill(line, width, break_long_words=False, break_on_hyphens=False) for line in lines)


def say_at_once(text: str) -> None:
    """Write to stderr from a signal handler, past the buffers that may be in use beneath it."""
    with suppress(OSError):
        os.write(2, text.encode())


# What a terminal would obey: control characters, but for those that every text has.
_CONTROLS = {n: ascii(chr(n))[1:-1] for n in (*range(32), *range(127, 160)) if chr(n) not in "\t\n\r"}


class Output:
    """stdout as it is: UTF-8 whatever the locale, or the raw bytes of a `--bytes` model.

    A model may come from a stranger: on a terminal, control characters are written as \\x1b and the like.

    Raises from each method:
        ClosedPipe: the reader has gone.
        CharrnnError: stdout is closed, or its disk is full.
    """

    def __init__(self, *, raw_bytes: bool = False, errors: str = "strict", colored: bool = False) -> None:
        if sys.stdout is None:
            raise CharrnnError("stdout is closed", "there is nowhere to write to")
        self._stream = sys.stdout.buffer
        self._errors = errors  # what becomes of a character that is none, see str.encode
        self._each = sys.stdout.isatty()  # a person watches: every character as it comes
        self._visible = self._each and not colored  # what is coloured has made its own controls visible
        self._encoding = "latin-1" if raw_bytes and not self._each else "utf-8"
        # Bytes are UTF-8 to a terminal; what is none of it cannot be shown.
        self._as_text = codecs.getincrementaldecoder("utf-8")("replace") if raw_bytes and self._each else None
        self._due = 0.0

    def write(self, text: str) -> None:
        """Write `text`; it is flushed at once, or in a pipe every FLUSH_SECONDS."""
        if self._as_text is not None:
            text = self._as_text.decode(text.encode("latin-1"))
        if self._visible:
            text = text.translate(_CONTROLS)
        try:
            self._stream.write(text.encode(self._encoding, self._errors))
        except OSError as problem:
            raise writing_failed(problem, to_terminal=self._each) from None
        now = time.monotonic()
        if self._each or now >= self._due:
            self.flush()
            self._due = now + FLUSH_SECONDS

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError as problem:
            raise writing_failed(problem, to_terminal=self._each) from None


def writing_failed(problem: OSError, *, to_terminal: bool = False) -> Exception:
    """The error for stdout that cannot be written: ClosedPipe, or a CharrnnError that says why."""
    # Windows reports a closed pipe as EINVAL; a terminal that was closed is EIO.
    closed = {errno.EPIPE, errno.EINVAL} if sys.platform == "win32" else {errno.EPIPE}
    if to_terminal:
        closed.add(errno.EIO)
    if problem.errno in closed:
        return ClosedPipe()
    return CharrnnError("cannot write to stdout", problem.strerror or str(problem))


class StopRequest:
    """Makes the first signal that stops a request to save and stop; a second does not wait.

    Unless that is SIGHUP: a terminal that is closed sends several, its own and those of the shell in it,
    and nobody is left who could be impatient.

    Called by the training loop between steps, it gives the signal's name, or None to go on. Before
    `saveable` is set there is nothing worth saving, and the first signal does not wait either.
    """

    def __init__(self, announce: Callable[[], None], restore: Callable[[], None]) -> None:
        self._announce = announce  # called inside the signal handler, as is restore
        self._restore = restore  # the terminal, before leaving at once
        self._previous: dict[signal.Signals, object] = {}
        self.saveable = False
        self.reason: str | None = None
        self.exit_code = ExitCode.DONE

    def __call__(self) -> str | None:
        return self.reason

    def ask(self, reason: str, exit_code: ExitCode) -> None:
        """The first reason stands."""
        if self.reason is None:
            self.reason, self.exit_code = reason, exit_code

    def __enter__(self) -> Self:
        self._previous = install(self._on_signal)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def at_once(self, number: int) -> bool:
        """Whether this signal, if it comes now, ends the process without a save."""
        return not self.saveable or (self.reason is not None and number != _HANGUP)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        global _answered
        _answered += 1
        if self.at_once(number):
            self._restore()
            leave_on_signal(number)
        if self.reason is None:
            self.ask(signal.Signals(number).name, ExitCode(128 + number))
            self._announce()


def run(program: Callable[[list[str]], int], args: list[str], commands: Container[str]) -> NoReturn:
    """Run `program(args)`, turn what went wrong into one line on stderr, and end the process.

    `commands` are the words that `args` may begin with, so that a line can point to their help.
    """
    _keep_standard_descriptors()
    install(leave_on_signal)
    _watch_signals()
    if not (DEBUG or sys.warnoptions):
        warnings.simplefilter("ignore")  # they are about our code, not about the user's text
    _leave(outcome(program, args, commands))


def outcome(program: Callable[[list[str]], int], args: list[str], commands: Container[str]) -> int:
    """The exit code of `program(args)`, after one line on stderr about what went wrong."""
    try:
        return program(args)
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except ClosedPipe:
        return ExitCode.DONE
    except SystemExit as end:
        # Typer ends so when its help meets a closed pipe, and after installing completion.
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
    """End at once: nothing is left to do, and the interpreter's own ending could only complain.

    It would flush into pipes that are closed, and stop a thread in the middle of importing Numba.
    """
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            with suppress(OSError, ValueError):
                stream.flush()
    os._exit(code)


def leave_on_signal(number: int, frame: FrameType | None = None) -> NoReturn:
    """End at once, but for what is half written, which goes."""
    atomic.abandon()
    os._exit(128 + number)


def _watch_signals() -> None:
    """Answer signals also while the main thread is in a long call, such as one into LAPACK.

    Python calls the handlers on the main thread alone, between two of its instructions.
    """
    if sys.platform == "win32":  # tells only sockets of signals
        return
    read, write = os.pipe()
    os.set_blocking(write, False)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)

    def watch() -> None:
        came = 0
        while True:
            (number,) = os.read(read, 1)
            if number not in _STOPPING:
                continue
            came += 1
            time.sleep(_LATE_SECONDS)
            handler = signal.getsignal(number)
            request = getattr(handler, "__self__", None)
            waits = isinstance(request, StopRequest) and not request.at_once(number)
            if _answered < came and not waits and callable(handler):
                handler(number, None)

    threading.Thread(target=watch, name="charrnn-signals", daemon=True).start()


def install(
    handler: Callable[[int, FrameType | None], None],
) -> dict[signal.Signals, object]:
    """Set `handler` for the stopping signals and return what was there before.

    A signal that the parent had ignored (`nohup`, a job in the background) stays ignored.
    """
    previous: dict[signal.Signals, object] = {}
    for number in _STOPPING:
        before = signal.getsignal(number)
        if before is signal.SIG_IGN:
            continue
        with suppress(ValueError):  # only the main thread may
            signal.signal(number, handler)
            previous[number] = before
    return previous


def _keep_standard_descriptors() -> None:
    """Fill closed standard streams, or the next file opened would become stdout or stderr."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free: this one
