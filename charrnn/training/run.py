"""Training as an iterator of events. It prints nothing and knows no terminal.

Everything that decides how a run goes on is in `_Position` and the tensors beside it: the resume file
holds them, so that a resumed run is bit for bit the run that was never interrupted.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from charrnn.checkpoint.container import DamageError
from charrnn.checkpoint.model_file import Checkpoint, checked_history, save
from charrnn.config import ModelConfig, TrainConfig, format_version, to_dict
from charrnn.errors import SaveError, TrainingError, decimal
from charrnn.events import (
    Compiling,
    Evaluated,
    Event,
    Finished,
    Indexing,
    Measure,
    Reason,
    Sampled,
    Saved,
    Step,
    Unsaved,
)
from charrnn.nn.compilation import compile_kernels
from charrnn.nn.network import Model, State, mix
from charrnn.nn.optimizer import AdamW, learning_rate
from charrnn.nn.parameters import Array
from charrnn.nn.workers import Workers
from charrnn.tasks.evaluation import evaluate
from charrnn.text.corpus import Batches, Corpus
from charrnn.text.novelty import Novelty
from charrnn.text.validation import split
from charrnn.training.run_files import Outputs

REPORT_SECONDS = 0.1  # between two Step events
SAVE_SECONDS = 60.0  # between two resume files at the most, and two tries to write one
PREVIEW_SECONDS = 10.0  # between two samples
CLEARLY_WORSE = 1.01  # an evaluation this many times the best counts towards an early stop
NOTHING_LEFT = 5e-5  # a loss below this is shown as 0.0000
EVALUATION_SHARE = 0.08  # of the time that training takes, at the most
QUICKLY_EVALUATED = 20_000  # characters, which take no second
# Reading one character after another costs about as much as training on so many.
EVALUATION_COST = 2
LARGEST_MEASURED = 200_000  # characters, or twice the share that is kept for validation

Stop = Callable[[], str | None]
Preview = Callable[[Checkpoint], str]


def fingerprint(corpus: Corpus, model: ModelConfig, train: TrainConfig, init: str) -> str:
    """What makes two runs the same: corpus, network, settings and the weights it starts from."""
    parts = [corpus.fingerprint(), to_dict(model), to_dict(train), init]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


@dataclass
class _Position:
    """Where a run is, but for its tensors."""

    step: int = 0
    epoch: int = 0
    window: int = 0  # the next one of this epoch
    seconds: float = 0.0  # since the command began
    prelude: float = 0.0  # of them, before the first step
    running_loss: float = math.nan
    loss_sum: float = 0.0  # since the last evaluation
    loss_count: int = 0
    evaluated_step: int = -1
    evaluation_seconds: float = 0.0  # what the last one took
    evaluated_at: float = 0.0  # in seconds
    worse: int = 0  # evaluations in a row clearly worse than the best, or the same
    best_val_loss: float | None = None
    history: list[dict[str, Any]] = field(default_factory=list)

    def to_record(self) -> dict[str, Any]:
        """As plain JSON, which has no NaN."""
        return {**asdict(self), "running_loss": self.running_loss if self.step else None}

    @classmethod
    def from_record(cls, record: object) -> _Position:
        """What `to_record` gave. ValueError: it is something else."""
        if not isinstance(record, dict) or record.keys() != {f.name for f in fields(cls)}:
            raise ValueError("position")
        for name, default in asdict(cls()).items():
            value, kinds = record[name], (int,) if isinstance(default, int) else (int, float)
            optional = name in ("running_loss", "best_val_loss")
            if name != "history" and not (type(value) in kinds or (optional and value is None)):
                raise ValueError(name)
            if isinstance(default, int) and value < default:  # where a run begins
                raise ValueError(name)
        if record["running_loss"] is None:
            record = {**record, "running_loss": math.nan}
        checked_history(record["history"])
        return cls(**record)


class Run:
    """One training run of `config` on `corpus`, which writes its best model to `out`.

    `validation` is a text of its own that it is judged by, with the corpus's vocabulary; else a part of the
    corpus is, which it does not learn from. `keep` is how many of the models evaluated last stay beside
    `out`. `tensors` are the parameters it starts from, `init` names the model they came from. `began` is when
    the clock of a budget in minutes began to run (time.monotonic). `stop` is asked after each step: a text
    ends the run, saved. `preview` writes a sample of a checkpoint.
    """

    def __init__(
        self,
        corpus: Corpus,
        config: ModelConfig,
        train: TrainConfig,
        *,
        out: Path,
        tensors: dict[str, Array],
        init: str,
        fingerprint: str,
        workers: Workers,
        validation: Corpus | None = None,
        keep: int = 0,
        began: float | None = None,
        stop: Stop = lambda: None,
        preview: Preview | None = None,
    ) -> None:
        self.corpus, self.config, self.train = corpus, config, train
        self.outputs, self.init, self.fingerprint = Outputs(out, keep), init, fingerprint
        self.stop, self.preview = stop, preview
        newline = corpus.vocabulary.characters.find("\n")
        self.text, self.validation = split(corpus.documents, train, newline)
        if validation is not None:
            self.validation = validation.documents
        if not len(self.text):
            raise TrainingError("no text is left for training", "give a smaller --val-fraction")
        self.batches = Batches(self.text, train.batch_size, train.seq_len, train.seed)
        # With --lines, one line may be nearly all of the text: the only one, or one for validation.
        self.measured_on: Measure
        if len(self.validation):
            share = round(2 * train.val_fraction * len(corpus.documents))
            most = max(LARGEST_MEASURED, share) if validation is None else len(self.validation)
            self.measured_on, measured = "validation", self.validation
        else:
            self.measured_on, measured, most = "training", self.text, LARGEST_MEASURED
        self.measured = measured.head(most)
        self.steps = train.steps
        if train.epochs is not None:
            self.steps = max(1, round(train.epochs * self.batches.windows_per_epoch))
        self.model = Model(config, workers=workers, bfloat16=train.precision == "bfloat16")
        self.model.load_tensors(tensors)
        self.optimizer = AdamW(self.model.parameters, train, workers)
        self.state: State | None = None
        self._novelty: Novelty | None = None
        self.position = _Position(seconds=0.0 if began is None else time.monotonic() - began)
        self._started = math.nan  # on time.monotonic()'s clock; since `events` was called
        self._saved_at = -math.inf
        self._previewed_at = 0.0
        self._complete = False
        self._evaluation_interval = self._steps_between_evaluations()

    # --- the loop -------------------------------------------------------------------------------

    def events(self) -> Iterator[Event]:
        """Train until the budget is spent, validation stops improving, or `stop` says so."""
        p = self.position
        self._started = time.monotonic() - p.seconds
        if self._complete:
            yield self._finished("complete", "the run was complete already")
            return
        yield from self._save_resume()  # at once, so that a disk that cannot be written is an error here
        for compiled in compile_kernels(self.config, self.model.bfloat16):
            yield Compiling(*compiled)
            if self.stop():
                break
        yield from self._index()
        if p.step == 0:
            p.evaluated_at = p.prelude = self._seconds()
        else:  # all that was done already when the run began
            self._started = time.monotonic() - p.seconds
        reported, characters, speed = time.monotonic(), 0, math.nan
        while self._novelty is not None and not self.stop():
            if self._evaluation_due():
                before = time.monotonic()
                yield from self._evaluate()
                reported += time.monotonic() - before  # not part of the speed
                if p.evaluated_step != p.step:
                    break  # told to stop in the middle; the resumed run evaluates here
            if p.evaluated_step == p.step:  # just now, or before the run was killed and resumed
                if why := self._why_early():
                    yield from self._finish("early-stop", why)
                    return
                if self._progress(p.step) >= 1.0:
                    yield from self._finish("budget")
                    return

            progress = min(self._progress(p.step + 1), 1.0)
            rate = learning_rate(self.train, progress)
            loss, norm = self._step(rate)
            if not (math.isfinite(loss) and math.isfinite(norm)):
                raise self._diverged("the gradient" if math.isfinite(loss) else "the loss")
            characters += self.batches.batch_size * self.batches.seq_len
            elapsed = time.monotonic() - reported
            if elapsed >= REPORT_SECONDS or p.step == 1:
                now = characters / elapsed
                speed = now if math.isnan(speed) else 0.8 * speed + 0.2 * now
                reported, characters = reported + elapsed, 0
                yield Step(
                    p.step, self.steps, self._epoch(), self._seconds(), progress,
                    p.running_loss, speed, rate, norm,
                )  # fmt: skip
                yield from self._now_and_then()
        if p.step and not self.outputs.worth_keeping:
            # Nothing was evaluated yet, but there is something to write with.
            self._check_weights()
            save(self._checkpoint(None, self._novelty), self.outputs.model)
        if p.step:
            yield from self._save_resume()
        else:  # there is nothing to go on with
            self.outputs.remove_resume()
        yield self._finished("interrupted", f"stopped at step {p.step}")

    def _step(self, rate: float) -> tuple[float, float]:
        """One window: gradient, update, on to the next. Returns the loss and the gradient's norm."""
        p = self.position
        x, y, reset = self.batches.window(p.epoch, p.window)
        state = self.state if p.window else None  # an epoch starts from zero
        loss, self.state = self.model.gradient(
            x, y, state, reset, mix(self.train.seed, p.step),
            then=self.optimizer.phases(self.model.gradients, rate),
        )  # fmt: skip
        norm = self.optimizer.finish()
        p.step += 1
        p.window += 1
        if p.window == self.batches.windows_per_epoch:
            p.epoch, p.window = p.epoch + 1, 0
        p.loss_sum += loss
        p.loss_count += 1
        keep = min(0.98, 1.0 - 1.0 / p.step)  # the mean of all, then of about the last fifty
        p.running_loss = loss if p.step == 1 else keep * p.running_loss + (1.0 - keep) * loss
        return loss, norm

    def _now_and_then(self) -> Iterator[Event]:
        seconds = self._seconds()
        if self.preview is not None and seconds - self._previewed_at >= PREVIEW_SECONDS:
            yield Sampled(self.position.step, self.preview(self._checkpoint(None, None)))
            self._previewed_at = self._seconds()
        if time.monotonic() - self._saved_at >= SAVE_SECONDS:
            yield from self._try(self._save_resume)

    # --- the budget -----------------------------------------------------------------------------

    def _seconds(self) -> float:
        return time.monotonic() - self._started

    def _epoch(self) -> float:
        return self.position.epoch + self.position.window / self.batches.windows_per_epoch

    def _progress(self, step: int) -> float:
        """How much of the budget is spent once `step` steps are done; 1 or more: all of it.

        A budget in minutes is the time of everything, from reading the text to the last evaluation; but at
        least half of it is for training.
        """
        if self.steps is not None:
            return step / self.steps
        assert self.train.minutes is not None
        p, budget = self.position, 60.0 * self.train.minutes
        training = max(budget - p.prelude - self._evaluation_seconds(), 0.5 * budget)
        spent = (self._seconds() - p.prelude) / training
        if self.train.most_epochs is None:
            return spent
        return max(spent, step / max(1, round(self.train.most_epochs * self.batches.windows_per_epoch)))

    # --- evaluation -----------------------------------------------------------------------------

    def _steps_between_evaluations(self) -> int:
        """With a budget in steps: often enough, but never so often that it takes most of the time."""
        if self.steps is None:
            return 0
        window = self.batches.batch_size * self.batches.seq_len
        cost = EVALUATION_COST * max(len(self.measured) - QUICKLY_EVALUATED, 0) / window
        evenly = -(-self.steps // self.train.evaluations)
        return max(evenly, round(cost / EVALUATION_SHARE))

    def _evaluation_seconds(self) -> float:
        """What the last evaluation took; before the first one, what it will take at the speed of training."""
        p = self.position
        if p.evaluation_seconds or not p.step:
            return p.evaluation_seconds
        learned = p.step * self.batches.batch_size * self.batches.seq_len
        return EVALUATION_COST * len(self.measured) * (self._seconds() - p.prelude) / learned

    def _evaluation_due(self) -> bool:
        p = self.position
        if p.evaluated_step == p.step or p.step == 0:
            return False
        if self._progress(p.step) >= 1.0:
            return True
        if self.steps is not None:
            return p.step % self._evaluation_interval == 0
        progress = max(self._progress(p.step), 1e-9)
        whole = (self._seconds() - p.prelude) / progress
        even = whole / self.train.evaluations
        apart = max(even, self._evaluation_seconds() / EVALUATION_SHARE)
        if (1.0 - progress) * whole < 0.75 * apart:
            return False  # the last one is near
        return self._seconds() - p.evaluated_at >= apart

    def _evaluate(self) -> Iterator[Event]:
        p = self.position
        before = self._seconds()
        result = evaluate(self.model, self.measured, self.stop)
        if result is None:
            return
        if not math.isfinite(result.loss):
            raise self._diverged("the loss")
        self._check_weights()
        train_loss = p.loss_sum / p.loss_count if p.loss_count else p.running_loss
        best = p.best_val_loss is None or result.loss < p.best_val_loss
        # Exactly the best again: the weights do not matter any more, as where float32 has no better loss.
        worse = p.best_val_loss is not None and (
            result.loss > CLEARLY_WORSE * p.best_val_loss or result.loss == p.best_val_loss
        )
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
            p.best_val_loss = result.loss
            if result.loss < self.outputs.evaluated:
                self.outputs.keep(self._checkpoint(result.loss, self._novelty))
                outcomes = list(self._try(self._save_model))
        saved = not any(isinstance(outcome, Unsaved) for outcome in outcomes)
        outcomes += self._try(lambda: self._keep_another(result.loss))
        yield Evaluated(
            p.step, self._epoch(), self._seconds(), train_loss, result.loss, result.bpc, best,
            best and saved, self.measured_on,
        )  # fmt: skip
        yield from outcomes
        # After the model: a run that is killed in between repeats the evaluation.
        if saved:
            yield from self._try(self._save_resume)

    # --- the end --------------------------------------------------------------------------------

    def _finish(self, reason: Reason, message: str = "") -> Iterator[Event]:
        yield from self._save_model()
        self.outputs.complete(self.position.history)
        self.outputs.remove_resume()
        yield self._finished(reason, message)

    def _finished(self, reason: Reason, message: str) -> Finished:
        p = self.position
        best = min(math.inf if p.best_val_loss is None else p.best_val_loss, self.outputs.evaluated)
        best = best if best < math.inf else math.nan
        return Finished(
            p.step, self._epoch(), self._seconds(), reason, message, self.outputs.model,
            self.config.num_parameters, best, best / math.log(2), p.running_loss, self.measured_on,
        )  # fmt: skip

    def _why_early(self) -> str:
        """Why more training would be of no use; empty where it may be."""
        p = self.position
        if p.best_val_loss is not None and p.best_val_loss < NOTHING_LEFT:
            return (
                f"stopped early: the {self.measured_on} loss is {decimal(p.best_val_loss)}, as low as it gets"
            )
        if p.worse < self.train.patience:
            return ""
        best = min(p.history, key=lambda entry: entry["val_loss"])
        return (
            f"stopped early: the {self.measured_on} loss has not improved since step {best['step']}; "
            "the best model is kept"
        )

    def _check_weights(self) -> None:
        """They may overflow where the losses do not: a saturated network has the same from any weights."""
        if not np.isfinite(self.model.parameters.flat).all():
            raise self._diverged("a weight")

    def _diverged(self, what: str) -> TrainingError:
        """A loss, gradient or weight that is no number: what is in memory is lost, the model file is not."""
        try:
            self.outputs.flush()
        except SaveError as error:
            kept = str(error)
        else:
            written = self.outputs.worth_keeping
            kept = f"the best model so far is in {self.outputs.model}" if written else "no model was written"
            self.outputs.remove_resume()  # it leads here again
        return TrainingError(
            f"{what} is no longer a finite number at step {self.position.step}; {kept}",
            f"try a --lr below {self.train.learning_rate:g} or a --clip below {self.train.clip:g}",
        )

    # --- files ----------------------------------------------------------------------------------

    def _checkpoint(self, val_loss: float | None, novelty: Novelty | None) -> Checkpoint:
        """The model as it is now. No time and no date: the same run gives the same bytes."""
        return Checkpoint(
            config=self.config,
            vocabulary=self.corpus.vocabulary,
            text=self.corpus.text,
            tensors=self.model.tensors(),
            history=list(self.position.history),
            best_val_loss=val_loss,
            run=self.fingerprint,
            settings=to_dict(self.train),
            novelty=novelty,
        )

    def _index(self) -> Iterator[Indexing]:
        """Of the text, for what is saved; before the first step, so that a budget in minutes knows its cost.

        It is not made when told to stop meanwhile.
        """
        made, told, total = self.corpus.novelty(), time.monotonic(), len(self.corpus.documents)
        while not self.stop():
            try:
                done = next(made)
            except StopIteration as end:
                self._novelty = end.value
                return
            if time.monotonic() - told >= REPORT_SECONDS:
                yield Indexing(min(done, total), total)
                told = time.monotonic()

    def _try(self, save: Callable[[], Iterator[Saved]]) -> Iterator[Saved | Unsaved]:
        """Training goes on where a file cannot be written, until that is the last thing to do."""
        try:
            yield from save()
        except SaveError as error:
            yield Unsaved(self.position.step, str(error))

    def _save_model(self) -> Iterator[Saved]:
        """The best model, where it is not in its file yet."""
        saved = self.outputs.flush()
        if saved is not None:
            yield saved

    def _keep_another(self, loss: float) -> Iterator[Saved]:
        """The model as it is, beside those that were evaluated last, where that was asked for."""
        if self.outputs.keeps:
            path = self.outputs.keep_another(self._checkpoint(loss, self._novelty))
            yield Saved(self.position.step, path, loss, "kept")

    def _save_resume(self) -> Iterator[Saved]:
        """What `--resume` needs, after the model that it speaks of."""
        p = self.position
        p.seconds = self._seconds()
        tensors: dict[str, Array] = {"parameters": self.model.parameters.flat}
        tensors |= self.optimizer.tensors()
        state = self.state if self.state is not None else self.model.zero_state(self.batches.batch_size)
        tensors |= state.tensors()
        record = {
            "run": self.fingerprint,
            "init": self.init,
            "vocabulary": self.corpus.vocabulary.characters,
            "model": to_dict(self.config),
            "train": to_dict(self.train),
            "text": to_dict(self.corpus.text),
            "updates": self.optimizer.steps,
            "position": p.to_record(),
        }
        self._saved_at = time.monotonic()  # or tried to
        yield from self._save_model()
        self.outputs.save_resume(tensors, record, format_version(self.config, self.train, self.corpus.text))
        loss = math.nan if p.best_val_loss is None else p.best_val_loss
        yield Saved(p.step, self.outputs.resume, loss, "resume")

    def keep(self, model: Checkpoint) -> None:
        """The model file holds `model`, which this run wrote earlier: only a better one replaces it."""
        if model.best_val_loss is not None:
            self.outputs.evaluated = model.best_val_loss

    def set_complete(self, model: Checkpoint) -> None:
        """There is nothing left to do: `model` is what this run wrote."""
        self._complete = True
        self.position.best_val_loss = model.best_val_loss
        self.position.step = model.history[-1]["step"] if model.history else 0

    def resume(self, tensors: dict[str, Array], record: dict[str, Any]) -> None:
        """Go on where a resume file of the same run was written; after `keep`, if there is a model.

        Raises:
            TrainingError: the file's contents do not fit the run.
        """
        try:
            position = _Position.from_record(record["position"])
            if not (0 <= position.window < self.batches.windows_per_epoch and record["updates"] >= 0):
                raise ValueError("window")
            state = self.model.zero_state(self.batches.batch_size)
            flat = self.model.parameters.flat
            wanted = {"parameters": flat, "adam.m": flat, "adam.v": flat, **state.tensors()}
            for name, array in wanted.items():
                if (tensors[name].shape, tensors[name].dtype) != (array.shape, array.dtype):
                    raise ValueError(name)
            flat[:] = tensors["parameters"]
            self.optimizer.load_tensors(tensors, int(record["updates"]))
            self.state = state.with_tensors(tensors)
        except (KeyError, TypeError, ValueError, DamageError) as error:
            raise TrainingError(
                f"{self.outputs.resume} does not fit this run", "start anew with --force"
            ) from error
        if not self.outputs.worth_keeping:  # the model has gone: the next evaluation writes a new one
            position.best_val_loss = None
            position.evaluated_step = -1
        self.position = position
        self._previewed_at = position.seconds
