"""Writes docs/commands.md from what `--help` says: python docs/make_commands.py"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

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
    environment = {**os.environ, "COLUMNS": "80", "PYTHONPATH": str(ROOT), "NO_COLOR": "1"}
    arguments = [sys.executable, "-m", "charrnn", *command, "--help"]
    result = subprocess.run(arguments, env=environment, capture_output=True, check=True, timeout=60)
    lines = result.stdout.decode().splitlines()
    return "\n".join(line.rstrip() for line in lines).strip()


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8", newline="\n")
