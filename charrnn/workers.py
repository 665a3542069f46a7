"""A few threads that run compiled kernels side by side (the kernels release the GIL)."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable

from charrnn.errors import ConfigError
from charrnn.kernels.floats import flush_denormals

Task = Callable[[int], None]


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
        self._inboxes: list[queue.SimpleQueue[tuple[Task, queue.SimpleQueue[BaseException | None]] | None]]
        self._inboxes = [queue.SimpleQueue() for _ in range(self.size)]
        for number, inbox in enumerate(self._inboxes):
            threading.Thread(
                target=_work, args=(number, inbox), name=f"charrnn-{number}", daemon=True
            ).start()

    def run(self, task: Task) -> None:
        """Call task(worker) on every thread; the first exception that one raises is raised here."""
        # A queue for each call: after an interrupted wait, late answers reach nobody else.
        answers: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
        for inbox in self._inboxes:
            inbox.put((task, answers))
        errors = [_wait_for(answers) for _ in self._inboxes]
        for error in errors:
            if error is not None:
                raise error

    def __del__(self) -> None:
        for inbox in getattr(self, "_inboxes", ()):
            inbox.put(None)


def _wait_for(answers: queue.SimpleQueue[BaseException | None]) -> BaseException | None:
    while True:
        try:
            return answers.get(timeout=0.2)  # Windows sees Ctrl-C only between waits
        except queue.Empty:
            continue


def _work(
    number: int,
    inbox: queue.SimpleQueue[tuple[Task, queue.SimpleQueue[BaseException | None]] | None],
) -> None:
    flush_denormals()
    while (item := inbox.get()) is not None:
        task, answers = item
        try:
            task(number)
        except BaseException as error:
            answers.put(error)
        else:
            answers.put(None)
        del item, task, answers
