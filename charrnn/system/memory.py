"""The memory: its size, which limits how much text is read, and what is given back to it."""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress
from pathlib import Path

_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")  # of a container


def total_memory() -> int | None:
    """Bytes of the machine's memory or of a container's limit. None: unknown."""
    found = []
    with suppress(AttributeError, OSError, ValueError):  # Windows has no sysconf
        found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    for limit in _LIMITS:
        with suppress(OSError, ValueError):  # "max": no limit
            found.append(int(Path(limit).read_text(encoding="ascii")))
    return min((size for size in found if size > 0), default=None)


def give_back() -> None:
    """Give freed memory back to the system, where glibc keeps what lies between blocks that are in use."""
    # Other libraries have no such call, and Windows has none for the library itself.
    with suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)
