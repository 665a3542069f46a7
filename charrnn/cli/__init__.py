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
    from charrnn.ranks.launch import launched
except KeyboardInterrupt:  # before the signal handlers are installed
    os._exit(130)


def main() -> NoReturn:
    """Run the command in `sys.argv` and end the process with its exit code."""
    launch = launched()
    if launch is None or launch.size == 1:
        process.run(_command, sys.argv[1:], COMMANDS)
    from charrnn.cli import together

    shepherd = together.begin(launch)

    def command(args: list[str]) -> int:
        together.join(launch, shepherd)
        return _command(args)

    process.run(command, sys.argv[1:], COMMANDS)


def _command(args: list[str]) -> int:
    from charrnn.cli import parsing  # imports Typer, so only after the signal handlers are installed

    return parsing.invoke(args)
