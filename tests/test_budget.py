"""How much of a run is done, and when it is evaluated, by a clock that the test turns."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from charrnn.config import TrainConfig
from charrnn.training.budget import FORESEEN_COST, Budget
from charrnn.training.position import Position


def budget(measured: int = 1000, now: float = 0.0, **settings: Any) -> tuple[Budget, SimpleNamespace]:
    """For epochs of 50 batches of 100 characters; and its clock."""
    clock = SimpleNamespace(now=now)
    task: Any = SimpleNamespace(batches=50, batch_characters=100, measured_characters=measured)
    return Budget(TrainConfig(**settings), task, lambda: clock.now), clock


def evaluations(made: Budget, steps: int) -> list[int]:
    """The steps after which an evaluation is due, where each takes no time."""
    p, found = Position(), []
    for p.step in range(steps + 1):
        if made.evaluation_due(p):
            found.append(p.step)
            p.evaluated_step = p.step
    return found


@pytest.mark.parametrize(
    ("settings", "steps"), [({"steps": 30}, 30), ({"epochs": 1.5}, 75), ({"epochs": 1e-6}, 1)]
)
def test_steps_and_epochs_are_counted(settings: dict[str, Any], steps: int) -> None:
    made, _ = budget(**settings)
    assert made.steps == steps
    assert made.progress(Position(), steps) == 1.0
    assert made.progress(Position(), steps - 1) < 1.0


def test_evaluations_come_evenly_and_at_the_end() -> None:
    assert evaluations(budget(steps=40, evaluations=4)[0], 40) == [10, 20, 30, 40]
    assert evaluations(budget(steps=45, evaluations=4)[0], 45) == [12, 24, 36, 45]


def test_a_long_text_is_evaluated_less_often_than_asked_for() -> None:
    """60,000 characters cost as much as 1,200 steps, of which they may take 8 %; 20,000 are free."""
    assert evaluations(budget(80_000, steps=40_000, evaluations=100)[0], 40_000) == [15_000, 30_000, 40_000]


def test_minutes_hold_training_and_what_is_not() -> None:
    made, clock = budget(minutes=10)
    assert made.steps is None
    p = Position(step=10**6, prelude=60.0, evaluation_seconds=40.0)
    clock.now = 60.0 + 250.0
    assert made.progress(p, 1) == pytest.approx(0.5)  # 500 s are left for training
    p.prelude = 500.0
    assert made.progress(p, 1) < 0  # not begun
    clock.now = 500.0 + 75.0
    assert made.progress(p, 1) == pytest.approx(0.5)  # a quarter of the minutes, at least


def test_no_step_begins_that_would_not_be_over_in_time() -> None:
    """Steps take 20 s, and the last evaluation 100 s: after 480 s, there is no time for another step."""
    made, clock = budget(minutes=10)
    p = Position(step=23, evaluation_seconds=100.0)
    clock.now = 460.0
    assert made.progress(p, 23) < 1.0
    p.step, clock.now = 24, 480.0
    assert made.progress(p, 24) == 1.0


def test_minutes_end_sooner_where_a_text_was_read_often_enough() -> None:
    made, clock = budget(minutes=10, most_epochs=2.0)
    clock.now = 1.0
    assert made.progress(Position(step=100, evaluation_seconds=1.0), 100) == 1.0


def test_before_the_first_evaluation_its_time_is_foreseen() -> None:
    """1,000 steps of 100 characters took 10 s: 1,500,000 take 0.8 times as long as they would to learn."""
    made, clock = budget(1_500_000, minutes=10)
    clock.now = 10.0
    left = 600.0 - 120.0 - 0.01
    assert made.progress(Position(step=1000), 1000) == pytest.approx(10.0 / left)


def test_with_minutes_evaluations_keep_their_distance() -> None:
    made, clock = budget(minutes=10, evaluations=10)
    p = Position(step=10**6, evaluation_seconds=1.0, evaluated_step=0)
    for seconds, due in ((50.0, False), (61.0, True), (560.0, False), (600.0, True)):
        clock.now = seconds
        p.evaluated_at = 0.0 if seconds < 100.0 else 500.0
        assert made.evaluation_due(p) == due, seconds
    p.evaluation_seconds, p.evaluated_at, clock.now = 10.0, 100.0, 200.0
    assert not made.evaluation_due(p)  # 8 % of the time: 125 s apart
    clock.now = 226.0
    assert made.evaluation_due(p)


def end_of(prelude: float, step: float, evaluation: float, **settings: Any) -> tuple[float, list[float]]:
    """When a run of a minute ends whose parts take so many seconds, and when its evaluations begin."""
    made, clock = budget(minutes=1, now=prelude, **settings)
    p, begun = Position(prelude=prelude, evaluated_at=prelude), []
    while True:  # as in Run.events
        if made.evaluation_due(p):
            begun.append(clock.now)
            clock.now += evaluation
            p.evaluated_step, p.evaluated_at, p.evaluation_seconds = p.step, clock.now, evaluation
        if p.evaluated_step == p.step and made.progress(p, p.step) >= 1.0:
            return clock.now, begun
        clock.now += step
        p.step += 1


@pytest.mark.parametrize("prelude", [0.5, 8.0, 28.0])
@pytest.mark.parametrize("step", [0.01, 0.3, 1.5])
@pytest.mark.parametrize("evaluation", [0.01, 0.5, 3.0, 10.0, 15.0])
@pytest.mark.parametrize("foreseen", [0.1, 1.0, 3.0])
def test_a_run_ends_with_its_minutes_whatever_its_parts_take(
    prelude: float, step: float, evaluation: float, foreseen: float
) -> None:
    """Where the minutes hold two evaluations. `foreseen` is the first one's estimated time, for its own."""
    measured = round(foreseen * evaluation / step * 100 / FORESEEN_COST)
    end, evaluations = end_of(prelude, step, evaluation, measured=measured)
    assert 60.0 - evaluation - 2 * step < end <= 60.0 + 1e-6
    assert len(evaluations) >= 2 or evaluation >= 10.0  # of which there may be no time for another


def test_evaluations_that_do_not_fit_twice_happen_once() -> None:
    end, evaluations = end_of(5.0, 0.1, 40.0, measured=round(400 * 100 / FORESEEN_COST))
    assert evaluations == pytest.approx([20.0], abs=0.2)  # a quarter of the minutes is for training
    assert end == pytest.approx(60.0, abs=0.2)
