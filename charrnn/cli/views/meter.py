"""A progress line for commands without other output, erased at the end."""

from __future__ import annotations

import math
import sys
import time
from typing import Self

from charrnn.cli.process import is_terminal, say

AFTER = 1.0  # seconds until the meter appears
EVERY = 0.2  # seconds between updates
_ERASE = "\r\x1b[K"


class Meter:
    """Shows texts on stderr if that is a terminal, each in place of the previous one."""

    def __init__(self, *, shown: bool = True) -> None:
        self._due = time.monotonic() + AFTER if shown and is_terminal(sys.stderr) else math.inf
        self._shown = False

    def __call__(self, text: str) -> None:
        now = time.monotonic()
        if now >= self._due:
            self._due = now + EVERY
            self._shown = True
            say(_ERASE + text, end="")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Erase the line before the result or an error follows."""
        if self._shown:
            say(_ERASE, end="")
