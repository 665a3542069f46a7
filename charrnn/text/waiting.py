"""Waiting for input that another thread reads, and telling whoever writes of it first.

A filter answers each line, perhaps to somebody who sends the next one only then: what it has written must not
stay in a buffer while it waits. So whatever reads asks for `before_waiting`, which a command gives as the
flush of its output. While input is there already nothing is flushed for its sake.
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
    """The next item; when it is not there yet, `before_waiting()` comes first, on the same thread."""
    with suppress(queue.Empty):
        return items.get_nowait()
    before_waiting()
    while True:
        with suppress(queue.Empty):
            return items.get(timeout=_PATIENCE)
