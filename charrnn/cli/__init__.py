"""The command line: parse, call charrnn.api, render. stdout is for what was asked for.

It may import whatever computes nothing itself: types, names, words for what happened.
"""

from __future__ import annotations

import os
import sys

try:
    from typing import NoReturn

    from charrnn.cli import process
    from charrnn.cli.commands import COMMANDS
except KeyboardInterrupt:  # the signals are not in our hands yet
    os._exit(130)


def main() -> NoReturn:
    """Run the command in `sys.argv` and end the process with its exit code."""
    process.run(_command, sys.argv[1:], COMMANDS)


def _command(args: list[str]) -> int:
    from charrnn.cli import parsing  # Typer, once the signals are in our hands

    return parsing.invoke(args)
