"""A few threads that run compiled kernels side by side (the kernels release the GIL)."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable

from charrnn.errors import ConfigError
from charrnn.kernels.barrier import Barrier
from charrnn.kernels.floats import flush_denormals

Phase = Callable[[int], None]
Answers = queue.SimpleQueue[BaseException | None]
Order = tuple[tuple[Phase, ...], Barrier, Answers]  # what a worker is told to do; None: go


class _NotReached(Exception):  # noqa: N818 - no error of its own
    """Another worker failed, so that a phase was not begun."""


def available_threads() -> int:
    """The CPUs that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def share(n: int, worker: int, workers: int) -> tuple[int, int]:
    """The range of n items that is this worker's; the ranges are even and cover all."""
    return n * worker // workers, n * (worker + 1) // workers


class Workers:
    """`run(task)` calls task(0), .. task(size - 1), each on a thread of its own, and waits.

    The calling thread only waits, so that Ctrl-C is seen while a kernel runs. The threads are daemons:
    they end with the process, or when the object goes.
    """

    def __init__(self, size: int | None = None) -> None:
        self.size = available_threads() if size is None else size
        if not 1 <= self.size <= 1024:
            raise ConfigError(f"threads is {self.size}", "give a whole number from 1 to 1024")
        self._inboxes: list[queue.SimpleQueue[Order | None]]
        self._inboxes = [queue.SimpleQueue() for _ in range(self.size)]
        for number, inbox in enumerate(self._inboxes):
            threading.Thread(
                target=_work, args=(number, inbox), name=f"charrnn-{number}", daemon=True
            ).start()

    def run(self, *phases: Phase) -> None:
        """Call each phase with every worker's number; a phase begins when all are done with the one before.

        The first exception that one raises is raised here; the phases after it are not begun.
        """
        # All anew for each call: after an interrupted wait, late threads meet nobody else.
        answers: Answers = queue.SimpleQueue()
        barrier = Barrier(self.size)
        for inbox in self._inboxes:
            inbox.put((phases, barrier, answers))
        errors = [_wait_for(answers) for _ in self._inboxes]
        for error in errors:
            if error is not None and not isinstance(error, _NotReached):
                raise error

    def __del__(self) -> None:
        for inbox in getattr(self, "_inboxes", ()):
            inbox.put(None)


def _wait_for(answers: Answers) -> BaseException | None:
    while True:
        try:
            return answers.get(timeout=0.2)  # Windows sees Ctrl-C only between waits
        except queue.Empty:
            continue


def _work(number: int, inbox: queue.SimpleQueue[Order | None]) -> None:
    flush_denormals()
    while (order := inbox.get()) is not None:
        phases, barrier, answers = order
        try:
            for count, phase in enumerate(phases):
                if count > 0 and not barrier.wait():
                    raise _NotReached
                phase(number)
        except BaseException as error:
            barrier.break_up()
            answers.put(error)
        else:
            answers.put(None)
        del order, phases, barrier, answers
