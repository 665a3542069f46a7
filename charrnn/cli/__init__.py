"""The command line: parse, call charrnn.api, render. stdout is for what was asked for."""

from __future__ import annotations

import sys
from typing import NoReturn

from charrnn.cli import process

COMMANDS = ("train", "sample", "enumerate", "fill", "eval", "info")


def main() -> NoReturn:
    """Run the command in `sys.argv` and end the process with its exit code."""
    process.run(_command, sys.argv[1:], COMMANDS)


def _command(args: list[str]) -> int:
    from charrnn.cli import parsing  # Typer, once the signals are in our hands

    return parsing.invoke(args)
