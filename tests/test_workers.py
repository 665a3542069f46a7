"""Threads that run kernels side by side."""

from __future__ import annotations

import threading

import pytest

from charrnn.errors import ConfigError
from charrnn.nn.operands import Share
from charrnn.nn.workers import Workers
from charrnn.system.quota import available_threads


def test_each_worker_runs_the_task_once_on_a_thread_of_its_own():
    workers, seen, together = Workers(3), [], threading.Barrier(3, timeout=10)

    def task(share):
        together.wait()  # passes only if all three run at the same time
        seen.append((share, threading.current_thread().name))

    workers.run(task)
    assert sorted(share for share, _ in seen) == [(0, 3), (1, 3), (2, 3)]
    assert len({name for _, name in seen}) == 3
    assert threading.current_thread().name not in {name for _, name in seen}


def test_an_exception_reaches_the_caller_and_the_workers_live_on():
    workers = Workers(2)

    def task(share):
        if share.worker == 1:
            raise ValueError("of worker 1")

    with pytest.raises(ValueError, match="of worker 1"):
        workers.run(task)
    done = []
    workers.run(done.append)
    assert sorted(done) == [(0, 2), (1, 2)]


@pytest.mark.parametrize(("n", "workers"), [(0, 3), (1, 3), (7, 3), (9, 3), (100, 7)])
def test_shares_are_even_and_cover_everything(n, workers):
    ranges = [Share(worker, workers).of(n) for worker in range(workers)]
    assert [i for low, high in ranges for i in range(low, high)] == list(range(n))
    sizes = [high - low for low, high in ranges]
    assert max(sizes) - min(sizes) <= 1


def test_a_number_of_threads_that_makes_no_sense_is_refused():
    for size in (0, -1, 10_000):
        with pytest.raises(ConfigError, match="threads"):
            Workers(size)
    assert Workers().size == available_threads() >= 1


def test_a_phase_begins_when_all_are_done_with_the_one_before():
    for size in (1, 2, 3, 8):
        workers, seen = Workers(size), []
        for _ in range(20):
            seen.clear()
            workers.run(*[lambda _, seen=seen, phase=phase: seen.append(phase) for phase in range(4)])
            assert seen == [phase for phase in range(4) for _ in range(size)]


def test_after_an_error_no_later_phase_begins_and_nobody_waits():
    workers, later = Workers(3), []

    def first(share):
        if share.worker == 2:
            raise ValueError("of worker 2")

    with pytest.raises(ValueError, match="of worker 2"):
        workers.run(first, later.append, later.append)
    assert later == []
    workers.run(later.append)
    assert sorted(later) == [(0, 3), (1, 3), (2, 3)]
