"""A few threads that run compiled kernels side by side (the kernels release the GIL)."""

from __future__ import annotations

import math
import os
import queue
import threading
from collections.abc import Callable

from charrnn.errors import ConfigError
from charrnn.kernels.machine.barrier import Barrier
from charrnn.kernels.machine.denormals import flush_denormals
from charrnn.nn.operands import Share
from charrnn.system.quota import cpu_quota

Phase = Callable[[int], None]


class _NotReached(Exception):  # noqa: N818 - no error of its own
    """Another worker failed, so that a phase was not begun."""


class _Order:
    """Phases for some workers. Made for each call: after an interrupted wait, late threads meet nobody."""

    def __init__(self, phases: tuple[Phase, ...], workers: int) -> None:
        self.phases, self.workers = phases, workers
        self.barrier = Barrier(workers)
        self._errors: list[BaseException | None] = []
        self._all_ended: queue.SimpleQueue[None] = queue.SimpleQueue()

    def carry_out(self, worker: int) -> None:
        """One worker's part."""
        try:
            for count, phase in enumerate(self.phases):
                if count > 0 and not self.barrier.wait():
                    raise _NotReached
                phase(worker)
        except BaseException as error:
            self.barrier.break_up()
            self._end(error)
        else:
            self._end(None)

    def _end(self, error: BaseException | None) -> None:
        self._errors.append(error)
        if len(self._errors) == self.workers:  # to wake who waits for each would take his CPU from the last
            self._all_ended.put(None)

    def wait(self) -> None:
        """Until all workers have ended; raises the first exception of one of them."""
        while True:
            try:
                self._all_ended.get(timeout=0.2)  # Windows sees Ctrl-C only between waits
                break
            except queue.Empty:
                continue
        for error in self._errors:
            if error is not None and not isinstance(error, _NotReached):
                raise error


def available_threads() -> int:
    """As many as the CPUs that this process may use, and not more than its quota of them pays for."""
    cpus: int | None
    if hasattr(os, "process_cpu_count"):  # of Python 3.13, which also hears PYTHON_CPU_COUNT
        cpus = os.process_cpu_count()
    elif hasattr(os, "sched_getaffinity"):
        cpus = len(os.sched_getaffinity(0))
    else:
        cpus = os.cpu_count()
    quota = cpu_quota()
    paid = math.ceil(quota) if quota is not None else cpus
    return max(1, min(cpus or 1, paid or 1))


def share(n: int, worker: int, workers: int) -> tuple[int, int]:
    """The range of n items that is this worker's; the ranges are even and cover all."""
    return Share(worker, workers).of(n)


class Workers:
    """`run(task)` calls task(0), .. task(size - 1), each on a thread of its own, and waits.

    The calling thread only waits, so that Ctrl-C is seen while a kernel runs. The threads are daemons:
    they end with the process, or when the object goes.
    """

    def __init__(self, size: int | None = None) -> None:
        self.size = available_threads() if size is None else size
        if not 1 <= self.size <= 1024:
            raise ConfigError(f"threads is {self.size}", "give a whole number from 1 to 1024")
        self._inboxes: list[queue.SimpleQueue[_Order | None]]
        self._inboxes = [queue.SimpleQueue() for _ in range(self.size)]
        for number, inbox in enumerate(self._inboxes):
            threading.Thread(
                target=_work, args=(number, inbox), name=f"charrnn-{number}", daemon=True
            ).start()

    def run(self, *phases: Phase) -> None:
        """Call each phase with every worker's number; a phase begins when all are done with the one before.

        The first exception that one raises is raised here; the phases after it are not begun.
        """
        order = _Order(phases, self.size)
        for inbox in self._inboxes:
            inbox.put(order)
        order.wait()

    def __del__(self) -> None:
        for inbox in getattr(self, "_inboxes", ()):
            inbox.put(None)


def _work(number: int, inbox: queue.SimpleQueue[_Order | None]) -> None:
    flush_denormals()
    while (order := inbox.get()) is not None:
        order.carry_out(number)
        del order
