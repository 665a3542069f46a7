"""Threads that run compiled kernels in parallel (the kernels release the GIL)."""

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

Phase = Callable[[Share], None]


class _Job:
    """One call of `Workers.run`: threads still busy with an interrupted call do not disturb the next."""

    def __init__(self, phases: tuple[Phase, ...], workers: int) -> None:
        self.phases, self.workers = phases, workers
        self.barrier = Barrier(workers)
        self._errors: list[BaseException | None] = []
        self._all_ended: queue.SimpleQueue[None] = queue.SimpleQueue()

    def run(self, worker: int) -> None:
        """Run one worker's share of each phase."""
        share, error = Share(worker, self.workers), None
        try:
            for count, phase in enumerate(self.phases):
                if count > 0 and not self.barrier.wait():
                    break  # another worker failed
                phase(share)
        except BaseException as raised:
            self.barrier.break_up()
            error = raised
        self._errors.append(error)
        if len(self._errors) == self.workers:  # earlier wake-ups would take CPU time from the last worker
            self._all_ended.put(None)  # perhaps twice, if two workers append at the same time

    def wait(self) -> None:
        """Wait until all workers have ended; raises their first exception."""
        while True:
            try:
                self._all_ended.get(timeout=0.2)  # Windows sees Ctrl-C only between waits
                break
            except queue.Empty:
                continue
        for error in self._errors:
            if error is not None:
                raise error


def available_threads() -> int:
    """The number of CPUs that this process may use, limited by its CPU quota."""
    if hasattr(os, "process_cpu_count"):  # from Python 3.13 on; respects PYTHON_CPU_COUNT
        cpus = os.process_cpu_count() or 1
    elif hasattr(os, "sched_getaffinity"):
        cpus = len(os.sched_getaffinity(0))
    else:
        cpus = os.cpu_count() or 1
    quota = cpu_quota()
    return max(1, cpus if quota is None else min(cpus, math.ceil(quota)))


class Workers:
    """A pool of threads: `run(phase)` calls phase(share) on each, with its share of the work, and waits.

    The calling thread only waits, so that it handles Ctrl-C while a kernel runs. The threads are daemons:
    they end with the process, or when this object is deleted.
    """

    def __init__(self, size: int | None = None) -> None:
        self.size = available_threads() if size is None else size
        if not 1 <= self.size <= 1024:
            raise ConfigError(f"threads is {self.size}", "give a whole number from 1 to 1024")
        self._inboxes: list[queue.SimpleQueue[_Job | None]] = [queue.SimpleQueue() for _ in range(self.size)]
        for number, inbox in enumerate(self._inboxes):
            threading.Thread(
                target=_work, args=(number, inbox), name=f"charrnn-{number}", daemon=True
            ).start()

    def run(self, *phases: Phase) -> None:
        """Call each phase on every worker; a phase begins when all have finished the one before.

        The first exception in a phase is raised here, and no later phase begins.
        """
        job = _Job(phases, self.size)
        for inbox in self._inboxes:
            inbox.put(job)
        job.wait()

    def __del__(self) -> None:
        for inbox in getattr(self, "_inboxes", ()):
            inbox.put(None)


def _work(number: int, inbox: queue.SimpleQueue[_Job | None]) -> None:
    flush_denormals()
    while (job := inbox.get()) is not None:
        job.run(number)
        del job
