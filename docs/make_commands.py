"""Writes docs/commands.md from what `--help` says: python docs/make_commands.py"""

from __future__ import annotations

import io
import os
import sys
from contextlib import redirect_stdout
from pathlib import Path
from unittest.mock import patch

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from charrnn.cli import parsing  # noqa: E402
from charrnn.cli.commands import COMMANDS  # noqa: E402

PAGE = Path(__file__).parent / "commands.md"


def page() -> str:
    """The whole page."""
    parts = [
        "# Commands",
        "Made from `--help` by `python docs/make_commands.py`; a test holds that it is up to date.",
        f"```\n{help_of()}\n```",
    ]
    for command, (place, _) in COMMANDS.items():
        parts += [f"## charrnn {command}", f"```\n{help_of(command)}\n```"]
        for inner in place if isinstance(place, dict) else ():
            parts += [f"### charrnn {command} {inner}", f"```\n{help_of(command, inner)}\n```"]
    return "\n\n".join(parts) + "\n"


def help_of(*command: str) -> str:
    """What a terminal of 80 columns shows."""
    said = io.StringIO()
    with redirect_stdout(said), patch.dict(os.environ, {"COLUMNS": "80", "NO_COLOR": "1"}):
        parsing.invoke([*command, "--help"])
    lines = said.getvalue().splitlines()
    return "\n".join(line.rstrip() for line in lines).strip()


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8", newline="\n")
