"""Threads that run compiled kernels in parallel (the kernels release the GIL)."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

from charrnn.errors import ConfigError
from charrnn.kernels.machine.barrier import Barrier
from charrnn.kernels.machine.denormals import flush_denormals
from charrnn.nn.operands import Share
from charrnn.ranks.ranks import ALONE, Ranks
from charrnn.system.quota import available_threads

Phase = Callable[[Share], None]


class Job:
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


class Workers:
    """A pool of threads: `run(phase)` calls phase(share) on each, with its share of the work, and waits.

    The calling thread only waits, so that it handles Ctrl-C while a kernel runs. The threads are daemons:
    they end with the process, or when this object is deleted. `ranks` are the processes that share the work.
    """

    def __init__(self, size: int | None = None, ranks: Ranks = ALONE) -> None:
        self.wanted, self.ranks = size, ranks  # the size may be that which suits the machine
        self.size = (ranks.threads or available_threads()) if size is None else size
        if not 1 <= self.size <= 1024:
            raise ConfigError(f"threads is {self.size}", "give a whole number from 1 to 1024")
        self._inboxes: list[queue.SimpleQueue[Job | None]] = [queue.SimpleQueue() for _ in range(self.size)]
        for number, inbox in enumerate(self._inboxes):
            threading.Thread(
                target=_work, args=(number, inbox), name=f"charrnn-{number}", daemon=True
            ).start()

    def run(self, *phases: Phase) -> None:
        """Call each phase on every worker; a phase begins when all have finished the one before.

        The first exception in a phase is raised here, and no later phase begins.
        """
        self.start(*phases).wait()

    def start(self, *phases: Phase) -> Job:
        """The same without waiting. It begins when what was started before has ended."""
        job = Job(phases, self.size)
        for inbox in self._inboxes:
            inbox.put(job)
        return job

    def __del__(self) -> None:
        for inbox in getattr(self, "_inboxes", ()):
            inbox.put(None)


def _work(number: int, inbox: queue.SimpleQueue[Job | None]) -> None:
    flush_denormals()
    while (job := inbox.get()) is not None:
        job.run(number)
        del job
