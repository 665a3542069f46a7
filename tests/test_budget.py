"""How much of a run is done, and when it is evaluated, by a clock that the test turns."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from charrnn.config import TrainConfig
from charrnn.training.budget import Budget
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
    p = Position(step=1, prelude=60.0, evaluation_seconds=40.0)
    clock.now = 60.0 + 250.0
    assert made.progress(p, 1) == pytest.approx(0.5)  # 500 s are left for training
    assert made.progress(Position(step=1, prelude=500.0, evaluation_seconds=40.0), 1) < 0  # not begun
    clock.now = 500.0 + 150.0
    assert made.progress(Position(step=1, prelude=500.0, evaluation_seconds=40.0), 1) == pytest.approx(0.5)


def test_minutes_end_sooner_where_a_text_was_read_often_enough() -> None:
    made, clock = budget(minutes=10, most_epochs=2.0)
    clock.now = 1.0
    assert made.progress(Position(step=100, evaluation_seconds=1.0), 100) == 1.0


def test_before_the_first_evaluation_its_time_is_foreseen() -> None:
    """10 steps of 100 characters took 10 s: 7,500 characters, each as two, will take 150 s."""
    made, clock = budget(7_500, minutes=10)
    clock.now = 10.0
    assert made.progress(Position(step=10), 10) == pytest.approx(10.0 / 450.0)


def test_with_minutes_evaluations_keep_their_distance() -> None:
    made, clock = budget(minutes=10, evaluations=10)
    p = Position(step=1, evaluation_seconds=1.0, evaluated_step=0)
    for seconds, due in ((50.0, False), (61.0, True), (560.0, False), (600.0, True)):
        clock.now = seconds
        p.evaluated_at = 0.0 if seconds < 100.0 else 500.0
        assert made.evaluation_due(p) == due, seconds
    p.evaluation_seconds, p.evaluated_at, clock.now = 10.0, 100.0, 200.0
    assert not made.evaluation_due(p)  # 8 % of the time: 125 s apart
    clock.now = 226.0
    assert made.evaluation_due(p)
