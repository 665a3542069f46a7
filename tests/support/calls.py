"""The command line within this process: what one of its own would print, without the time to start it."""

from __future__ import annotations

import io
import signal
import subprocess
import sys
from contextlib import chdir
from pathlib import Path

from charrnn.cli import parsing, process
from charrnn.cli.commands import COMMANDS


def call(*words: object, stdin: bytes = b"", cwd: Path | str = ".") -> subprocess.CompletedProcess[bytes]:
    """Run `charrnn` with these words in this folder, its standard streams no terminals."""
    arguments = [str(word) for word in words]
    streams = sys.stdin, sys.stdout, sys.stderr
    handlers = {number: signal.getsignal(number) for number in process.STOPPING}
    out, said = io.BytesIO(), io.BytesIO()
    sys.stdin = io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8")
    sys.stdout = io.TextIOWrapper(out, encoding="utf-8", write_through=True)
    sys.stderr = io.TextIOWrapper(said, encoding="utf-8", errors="backslashreplace", write_through=True)
    try:
        with chdir(cwd):
            code = int(process.outcome(parsing.invoke, arguments, COMMANDS))
        sys.stdout.flush()
        return subprocess.CompletedProcess(arguments, code, out.getvalue(), said.getvalue())
    finally:
        sys.stdin, sys.stdout, sys.stderr = streams
        for number, handler in handlers.items():
            signal.signal(number, handler)
