"""The process that a launcher starts and, when another rank has died, kills at once.

The work is done by a child in a session of its own, which has the time to say what has happened. Such a child
ends with its shepherd, however that ends.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType

AFTER = 9.0  # seconds that the other ranks have to miss one that was killed, before the launcher kills them
STOPPED = 5.0  # seconds after which a child that was stopped is killed: it could not end by itself
_LOOK = 0.25  # seconds


def herd() -> int | None:
    """In the child, which is to work: a descriptor whose end comes when the shepherd has gone.

    The shepherd does not return. None: this system has no such processes.
    """
    if not hasattr(os, "fork"):
        return None
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(write)
        os.setsid()
        return read
    os.close(read)

    def pass_on(number: int, frame: FrameType | None) -> None:
        with suppress(ProcessLookupError):
            os.kill(child, number)

    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        number = getattr(signal, name)
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, pass_on)
    # The launcher waits for the ends of these, too, and the child has its own.
    for descriptor in (0, 1, 2):
        os.close(descriptor)
    code = _code_of(child)
    if code < 0:
        time.sleep(AFTER)
        code = 128 - code
    os._exit(code)


def _code_of(child: int) -> int:
    """The exit code of the child, or the signal that has killed it, negative."""
    while True:
        _, status = os.waitpid(child, os.WUNTRACED)
        if not os.WIFSTOPPED(status):
            return os.waitstatus_to_exitcode(status)
        stopped = 0.0  # counted, since this process may be stopped, too
        while stopped < STOPPED:
            time.sleep(_LOOK)
            stopped += _LOOK
            pid, status = os.waitpid(child, os.WCONTINUED | os.WNOHANG)
            if pid and not os.WIFCONTINUED(status):
                return os.waitstatus_to_exitcode(status)
            if pid:
                break
        else:
            os.kill(child, signal.SIGKILL)


def watch(descriptor: int, gone: Callable[[], None]) -> None:
    """Call `gone` when the shepherd has ended. To be run in a thread."""
    os.read(descriptor, 1)
    gone()
