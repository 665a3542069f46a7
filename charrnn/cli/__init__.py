"""The command line: parse, call charrnn.api, render. stdout is for results alone.

Besides api, it may import types, names and wording from other rooms, but nothing that computes.
"""

from __future__ import annotations

import os
import sys

try:
    from typing import NoReturn

    from charrnn.cli import process
    from charrnn.cli.commands import COMMANDS
except KeyboardInterrupt:  # before the signal handlers are installed
    os._exit(130)


def main() -> NoReturn:
    """Run the command in `sys.argv` and end the process with its exit code."""
    process.run(_command, sys.argv[1:], COMMANDS)


def _command(args: list[str]) -> int:
    from charrnn.cli import parsing  # imports Typer, so only after the signal handlers are installed

    return parsing.invoke(args)
