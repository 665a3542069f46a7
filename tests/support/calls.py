"""The command line within this process: what one of its own would print, without the time to start it."""

from __future__ import annotations

import io
import signal
import sys
from typing import NamedTuple

from charrnn.cli import parsing, process
from charrnn.cli.commands import COMMANDS


class Result(NamedTuple):
    """What a command came to."""

    code: int
    stdout: bytes
    stderr: str


def call(*words: object, stdin: bytes = b"") -> Result:
    """Run `charrnn` with these words in the current folder, its standard streams no terminals."""
    streams = sys.stdin, sys.stdout, sys.stderr
    handlers = {number: signal.getsignal(number) for number in process._STOPPING}
    out, said = io.BytesIO(), io.StringIO()
    sys.stdin = io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8")
    sys.stdout, sys.stderr = io.TextIOWrapper(out, encoding="utf-8", write_through=True), said
    try:
        code = int(process.outcome(parsing.invoke, [str(word) for word in words], COMMANDS))
        sys.stdout.flush()
        return Result(code, out.getvalue(), said.getvalue())
    finally:
        sys.stdin, sys.stdout, sys.stderr = streams
        for number, handler in handlers.items():
            signal.signal(number, handler)
