"""Training as an iterator of events. It prints nothing, and is independent of texts and kinds of networks.

All that a run's continuation depends on is in `Position` and the tensors of the network, and these are in the
resume file: so a resumed run is bit for bit the same as one that was never interrupted.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from charrnn.checkpoint.container import DamageError
from charrnn.checkpoint.model_file import Checkpoint, save
from charrnn.config import TrainConfig, format_version, to_dict
from charrnn.errors import SaveError, TrainingError, decimal
from charrnn.events import (
    Compiling,
    Evaluated,
    Event,
    Finished,
    Indexing,
    Reason,
    Sampled,
    Saved,
    Step,
    Unsaved,
)
from charrnn.nn.learning.optimizer import learning_rate
from charrnn.nn.parameters import Array
from charrnn.tasks.task import Carry, Network, Stop, Task
from charrnn.training.budget import Budget
from charrnn.training.position import Position
from charrnn.training.run_files import Outputs

REPORT_SECONDS = 0.1  # between two Step events
SAVE_SECONDS = 60.0  # at most, between two attempts to write a resume file
PREVIEW_SECONDS = 10.0  # between two samples
CLEARLY_WORSE = 1.01  # an evaluation this many times the best counts towards an early stop
NOTHING_LEFT = 5e-5  # a loss below this is shown as 0.0000


class Run:
    """One training run of a network at a task, which writes its best model to `outputs`.

    `model` holds what all models of the run have in common: configuration, vocabulary, how texts are read,
    settings and the run's fingerprint. `init` identifies the initial weights, if these are a model's, and
    `lasting` is what else a resumed run needs of that. `stop` is called after each step: when it returns a
    text, the run is saved and ends.
    """

    def __init__(
        self,
        task: Task,
        network: Network,
        train: TrainConfig,
        model: Checkpoint,
        outputs: Outputs,
        *,
        init: str = "",
        lasting: Mapping[str, Array] | None = None,
        stop: Stop = lambda: None,
    ) -> None:
        self.task, self.network, self.train = task, network, train
        self.model, self.outputs, self.init, self.stop = model, outputs, init, stop
        self._lasting = lasting or {}
        self.carry: Carry = None
        self.position = Position()
        self._common = self.position  # where shards were last brought together, from which a run goes on
        self.budget = Budget(train, task, self._seconds)
        self._started = math.nan  # on time.monotonic()'s clock; since `events` was called
        self._saved_at, self._saved_step = -math.inf, -1
        self._previewed_at = 0.0
        self._complete = False

    # --- the loop -------------------------------------------------------------------------------

    def events(self) -> Iterator[Event]:
        """Train until the budget is spent, validation stops improving, or `stop` says so."""
        p = self.position
        self._started = time.monotonic() - p.seconds
        if self._complete:
            yield self._finished("complete", "the run was complete already")
            return
        yield from self._save_resume()  # at once, so that an unwritable disk is reported here
        for compiled in self.network.compile():
            yield Compiling(*compiled)
            if self.stop():
                break
        described = yield from self._describe()
        if p.step == 0:
            p.evaluated_at = p.prelude = self._seconds()
        else:  # a resumed run has done all this before
            self._started = time.monotonic() - p.seconds
        reported, characters, speed = time.monotonic(), 0, math.nan
        while described and not self.stop():
            if self.budget.evaluation_due(p):
                before = time.monotonic()
                yield from self._evaluate()
                reported += time.monotonic() - before  # not part of the speed
                if p.evaluated_step != p.step:
                    break  # told to stop in the middle; the resumed run evaluates here
            if p.evaluated_step == p.step:  # just now, or before the run was killed and resumed
                if why := self._why_early():
                    yield from self._finish("early-stop", why)
                    return
                if self.budget.progress(p, p.step) >= 1.0:
                    yield from self._finish("budget")
                    return

            if self.train.sync_every > 1 and self._is_common():  # from here on, shards learn apart
                p.seconds = self._seconds()
                self._common = copy.deepcopy(p)
            progress = min(self.budget.progress(p, p.step + 1), 1.0)
            rate = learning_rate(self.train, progress)
            batch = self.task.batch(p.epoch, p.window)
            carry = self.carry if p.window else None  # an epoch begins without
            loss, norm, self.carry = self.network.train_step(batch, carry, rate, p.step)
            p.advance(loss, self.task.batches)
            if not (math.isfinite(loss) and math.isfinite(norm)):
                raise self._diverged("the gradient" if math.isfinite(loss) else "the loss")
            if p.step % self.train.sync_every == 0:
                self._exchange()
            characters += self.task.batch_characters
            elapsed = time.monotonic() - reported
            if elapsed >= REPORT_SECONDS or p.step == 1:
                now = characters / elapsed
                speed = now if math.isnan(speed) else 0.8 * speed + 0.2 * now
                reported, characters = reported + elapsed, 0
                yield Step(
                    p.step, self.budget.steps, self._epoch(), self._seconds(), progress,
                    p.running_loss, speed, rate, norm,
                )  # fmt: skip
                yield from self._now_and_then()
        if p.step:
            yield from self._save_resume()
        else:  # there is nothing to resume
            self.outputs.remove_resume()
        apart = not self._is_common()
        if p.step and not self.outputs.worth_keeping:
            # Not evaluated yet, but able to write.
            self._exchange()
            self._check_weights()
            save(self._checkpoint(None), self.outputs.model)
        left = f"--resume goes on from step {self._saved_step}, the last exchange of shards" if apart else ""
        yield self._finished("interrupted", left)

    def _now_and_then(self) -> Iterator[Event]:
        seconds = self._seconds()
        if self.task.preview is not None and seconds - self._previewed_at >= PREVIEW_SECONDS:
            yield Sampled(self.position.step, self.task.preview(self._checkpoint(None)))
            self._previewed_at = self._seconds()
        if time.monotonic() - self._saved_at >= SAVE_SECONDS and self._saved_step < self._common.step:
            yield from self._try(self._save_resume)

    def _is_common(self) -> bool:
        """Whether shards have learned nothing apart since the last exchange, if they do."""
        return self._common.step == self.position.step

    def _exchange(self) -> None:
        """Bring together what shards have learned apart: what is evaluated, and what is saved."""
        if self._is_common():
            return
        if not self.network.exchange():
            raise self._diverged("a gradient")
        self._common = self.position

    def _seconds(self) -> float:
        return time.monotonic() - self._started

    def _epoch(self) -> float:
        return self.position.epoch + self.position.window / self.task.batches

    # --- evaluation -----------------------------------------------------------------------------

    def _evaluate(self) -> Iterator[Event]:
        p = self.position
        before = self._seconds()
        self._exchange()
        with self.network.averaged():
            result = self.task.evaluate(self.network, self.stop)
            if result is None:
                return
            if not math.isfinite(result.loss):
                raise self._diverged("the loss")
            self._check_weights()
        train_loss = p.loss_sum / p.loss_count if p.loss_count else p.running_loss
        best = result.loss < p.best_loss
        # Exactly the best again: the weights no longer matter, for instance if float32 has no better loss.
        worse = result.loss > CLEARLY_WORSE * p.best_loss or result.loss == p.best_loss
        p.history.append(
            {
                "step": p.step,
                "epoch": round(self._epoch(), 6),
                "train_loss": train_loss,
                "val_loss": result.loss,
            }
        )
        p.worse = p.worse + 1 if worse else 0
        p.loss_sum, p.loss_count, p.evaluated_step = 0.0, 0, p.step
        p.evaluated_at = self._seconds()
        p.evaluation_seconds = p.evaluated_at - before
        outcomes: list[Saved | Unsaved] = []
        if best:
            p.best_val_loss, p.best_parts, p.best_accuracy = result.loss, result.parts, result.accuracy
            if result.loss < self.outputs.evaluated:
                self.outputs.best = self._evaluated_checkpoint(result.loss)
                outcomes = list(self._try(self.outputs.flush))
        saved = not any(isinstance(outcome, Unsaved) for outcome in outcomes)
        if self.outputs.keeps:
            outcomes += self._try(lambda: self.outputs.keep_another(self._evaluated_checkpoint(result.loss)))
        yield Evaluated(
            p.step, self._epoch(), self._seconds(), train_loss, result.loss, result.bpc, best,
            best and saved, self.task.measured_on, result.parts, result.accuracy, result.network_loss,
        )  # fmt: skip
        yield from outcomes
        # After the model: a run that is killed in between repeats the evaluation.
        if saved:
            yield from self._try(self._save_resume)
        p.evaluation_seconds = self._seconds() - before  # of the next one, too, which writes as much

    # --- the end --------------------------------------------------------------------------------

    def _finish(self, reason: Reason, message: str = "") -> Iterator[Event]:
        yield from self.outputs.flush()
        self.outputs.complete(self.position.history)
        self.outputs.remove_resume()
        yield self._finished(reason, message)

    def _finished(self, reason: Reason, message: str) -> Finished:
        p = self.position
        best = min(p.best_loss, self.outputs.evaluated)
        best = best if best < math.inf else math.nan
        return Finished(
            p.step, self._epoch(), self._seconds(), reason, message, self.outputs.model,
            self.model.config.num_parameters, best, best / math.log(2), p.running_loss, self.task.measured_on,
            p.best_parts, p.best_accuracy,
        )  # fmt: skip

    def _why_early(self) -> str:
        """The reason to stop before the budget is spent; empty if there is none."""
        p, measured_on = self.position, self.task.measured_on
        if p.best_loss < NOTHING_LEFT:
            return f"stopped early: the {measured_on} loss is {decimal(p.best_loss)}, as low as it gets"
        if p.worse < self.train.patience:
            return ""
        best = min(p.history, key=lambda entry: entry["val_loss"])
        return (
            f"stopped early: the {measured_on} loss has not improved since step {best['step']}; "
            "the best model is kept"
        )

    def _check_weights(self) -> None:
        """Weights may overflow though losses do not: saturated units hide it."""
        if not self.network.is_finite():
            raise self._diverged("a weight")

    def _diverged(self, what: str) -> TrainingError:
        """The error for a loss, gradient or weight that is not finite. The best model is kept."""
        try:
            self.outputs.flush()
        except SaveError as error:
            kept = str(error)
        else:
            written = self.outputs.worth_keeping
            kept = f"the best model so far is in {self.outputs.model}" if written else "no model was written"
            self.outputs.remove_resume()  # resuming would lead here again
        return TrainingError(
            f"{what} is no longer a finite number at step {self.position.step}; {kept}",
            f"try a --lr below {self.train.learning_rate:g} or a --clip below {self.train.clip:g}",
        )

    # --- files ----------------------------------------------------------------------------------

    def _checkpoint(self, val_loss: float | None) -> Checkpoint:
        """The current model, without time or date: the same run gives the same bytes."""
        history = list(self.position.history)
        return replace(self.model, tensors=self.network.tensors(), history=history, best_val_loss=val_loss)

    def _evaluated_checkpoint(self, val_loss: float) -> Checkpoint:
        return self.task.finished(self._checkpoint(val_loss))

    def _describe(self) -> Generator[Indexing, None, bool]:
        """Describe the text for the model file, before the first step: a budget in minutes includes it.

        False: `stop` ended it.
        """
        made, told = self.task.describe(self.model), time.monotonic()
        try:
            while not self.stop():
                done, total = next(made)
                if time.monotonic() - told >= REPORT_SECONDS:
                    yield Indexing(done, total)
                    told = time.monotonic()
        except StopIteration as end:
            self.model = end.value
            return True
        return False

    def _try(self, save: Callable[[], Iterable[Saved]]) -> Iterator[Saved | Unsaved]:
        """Save, and report a failure as an event: training continues, and saving is tried again."""
        try:
            yield from save()
        except SaveError as error:
            yield Unsaved(self.position.step, str(error))

    def _save_resume(self) -> Iterator[Saved]:
        """Write what `--resume` needs, after the model that it refers to."""
        p, model = self.position if self._is_common() else self._common, self.model
        if p is self.position:
            p.seconds = self._seconds()
        tensors = {**self.network.state_dict(self.carry), **self._lasting}
        record = {
            "run": model.run,
            "init": self.init,
            "vocabulary": model.vocabulary.characters,
            "model": to_dict(model.config),
            "train": to_dict(self.train),
            "text": to_dict(model.text),
            **({"labels": [column.to_dict() for column in model.columns]} if model.columns else {}),
            "updates": self.network.updates,
            "position": p.to_record(),
        }
        self._saved_at = time.monotonic()  # or attempted
        yield from self.outputs.flush()
        self.outputs.save_resume(tensors, record, format_version(model.config, self.train, model.text))
        self._saved_step = p.step
        loss = math.nan if p.best_val_loss is None else p.best_val_loss
        yield Saved(p.step, self.outputs.resume, loss, "resume")

    def keep(self, model: Checkpoint, *, complete: bool) -> None:
        """Keep `model`, which this run wrote earlier: its result if `complete`, else the best so far."""
        if model.best_val_loss is not None:
            self.outputs.evaluated = model.best_val_loss
        if complete:
            self._complete = True
            self.position.step = model.history[-1]["step"] if model.history else 0

    def resume(self, tensors: dict[str, Array], record: dict[str, Any]) -> None:
        """Continue from a resume file of the same run; call `keep` first, if there is a model.

        Raises:
            TrainingError: the file's contents do not fit the run.
        """
        try:
            position = Position.from_record(record["position"])
            if not (0 <= position.window < self.task.batches and record["updates"] >= 0):
                raise ValueError("window")
            self.carry = self.network.load_state_dict(tensors, int(record["updates"]))
        except (KeyError, TypeError, ValueError, DamageError) as error:
            raise TrainingError(
                f"{self.outputs.resume} does not fit this run", "start anew with --force"
            ) from error
        if not self.outputs.worth_keeping:  # the model file is missing: the next evaluation writes a new one
            position.best_val_loss, position.best_parts, position.best_accuracy = None, (), None
            position.evaluated_step = -1
        self.position = self._common = position
        self._previewed_at = position.seconds
