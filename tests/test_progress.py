"""What a run has shown of itself, and what follows from it."""

from __future__ import annotations

import math

from charrnn.cli.views.progress import RunHistory, indexing
from charrnn.events import Step


def step(seconds: float, progress: float) -> Step:
    return Step(1, None, 0.1, seconds, progress, 2.0, 1e5, 1e-3, 1.0)


def test_what_is_left_follows_from_the_pace_of_the_steps_alone():
    run = RunHistory()
    for event in (step(5.0, 0.001), step(6.0, 0.041)):  # five seconds of compiling
        run.take(event)
    assert run.time_left(step(6.0, 0.041)) == "24 s left"
    assert run.time_left(step(17.5, 0.501)) == "12 s left"


def test_at_the_first_step_and_at_the_end_nothing_is_said():
    run = RunHistory()
    assert run.time_left(step(5.0, 0.1)) == ""
    run.take(step(5.0, 0.1))
    assert run.time_left(step(5.0, 0.1)) == ""
    assert run.time_left(step(50.0, 1.0)) == run.time_left(step(50.0, math.nan)) == ""


def test_an_index_for_novel_samples_is_only_spoken_of_where_a_model_samples():
    assert "--novel" in indexing("writer")
    assert "grams" in indexing("classifier")
    assert "--novel" not in indexing("classifier")
