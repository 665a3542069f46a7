"""How much of a run is done, and when the next evaluation is due."""

from __future__ import annotations

from collections.abc import Callable

from charrnn.config import TrainConfig
from charrnn.tasks.task import Task
from charrnn.training.position import Position

EVALUATION_SHARE = 0.08  # of the training time, at most
LEAST_TRAINING = 0.25  # of the minutes
QUICKLY_EVALUATED = 20_000  # characters; these take less than a second
# Evaluating one character costs no more than training on this many. This sets how many steps lie between two
# evaluations, so that it stays as it is: the same command evaluates the same models.
EVALUATION_COST = 2
# The same with the clock as the budget, until an evaluation has shown it; many streams are read side by side.
FORESEEN_COST = 0.8


class Budget:
    """The budget of a run, as `train` sets it; `seconds` returns the time since its start."""

    def __init__(self, train: TrainConfig, task: Task, seconds: Callable[[], float]) -> None:
        self.train, self.task, self._seconds = train, task, seconds
        self.steps = train.steps  # None: the budget is time
        if train.epochs is not None:
            self.steps = max(1, round(train.epochs * task.batches))
        if self.steps is not None:
            # As often as wanted, unless evaluations would take too much of the time.
            cost = EVALUATION_COST * max(task.measured_characters - QUICKLY_EVALUATED, 0)
            evenly = -(-self.steps // train.evaluations)
            interval = max(evenly, round(cost / task.batch_characters / EVALUATION_SHARE))
            self._interval = -(-interval // train.sync_every) * train.sync_every

    def progress(self, p: Position, step: int) -> float:
        """The share of the budget that is spent after `step` steps; 1 or more: all of it.

        A budget in minutes covers everything, from reading the text to writing the last model. Training has
        what is left of it, but at least a quarter.
        """
        if self.steps is not None:
            return step / self.steps
        spent = (self._seconds() - p.prelude) / self._training_seconds(p)
        if self.train.most_epochs is None:
            return spent
        return max(spent, step / max(1, round(self.train.most_epochs * self.task.batches)))

    def evaluation_due(self, p: Position) -> bool:
        """Whether the model should be evaluated now."""
        if p.evaluated_step == p.step or p.step == 0:
            return False
        if self.progress(p, p.step) >= 1.0:
            return True
        if self.steps is not None:
            return p.step % self._interval == 0
        if p.step % self.train.sync_every:
            return False
        progress = max(self.progress(p, p.step), 1e-9)
        whole, cost = (self._seconds() - p.prelude) / progress, self._evaluation_seconds(p)
        apart = max(whole / self.train.evaluations, cost / EVALUATION_SHARE)
        if not p.evaluation_seconds and cost < whole / 2:
            # Soon enough to show what the last one will take.
            apart = min(apart, whole / 2)
        if (1.0 - progress) * whole < 0.75 * apart:
            return False  # the last evaluation is near
        return self._seconds() - p.evaluated_at >= apart

    def _training_seconds(self, p: Position) -> float:
        """The time for training, with all evaluations but the last, of a budget in minutes."""
        assert self.train.minutes is not None
        budget = 60.0 * self.train.minutes
        step = (self._seconds() - p.prelude) / max(p.step, 1)  # which may begin just before the end
        return max(budget - p.prelude - self._evaluation_seconds(p) - step, LEAST_TRAINING * budget)

    def _evaluation_seconds(self, p: Position) -> float:
        """How long the last evaluation took, with writing the model; before the first one, an estimate."""
        if p.evaluation_seconds or not p.step:
            return p.evaluation_seconds
        learned = p.step * self.task.batch_characters
        return FORESEEN_COST * self.task.measured_characters * (self._seconds() - p.prelude) / learned
