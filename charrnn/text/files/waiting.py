"""Waiting for input that another thread reads, after a callback.

A filter's peer may send the next line only after the answer to the last one, so no output may stay in a
buffer during a wait. Readers therefore take a `before_waiting`, for which commands pass the flush of their
output. It is not called while input is available.
"""

from __future__ import annotations

import queue
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")
BeforeWaiting = Callable[[], None]
_PATIENCE = 0.1  # seconds: Windows sees Ctrl-C only between waits


def take(items: queue.Queue[T], before_waiting: BeforeWaiting) -> T:
    """The next item; if none is available yet, calls `before_waiting()` before it waits."""
    with suppress(queue.Empty):
        return items.get_nowait()
    before_waiting()
    while True:
        with suppress(queue.Empty):
            return items.get(timeout=_PATIENCE)
