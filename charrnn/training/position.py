"""The position of a run: all that a resume file has beside the tensors."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from charrnn.checkpoint.model_file import checked_history
from charrnn.events import ByPart


@dataclass
class Position:
    """The progress of a run, its losses and its history."""

    step: int = 0
    epoch: int = 0
    window: int = 0  # the next batch of this epoch
    seconds: float = 0.0  # since the command began
    prelude: float = 0.0  # of these, before the first step
    running_loss: float = math.nan
    loss_sum: float = 0.0  # since the last evaluation
    loss_count: int = 0
    evaluated_step: int = -1
    evaluation_seconds: float = 0.0  # duration of the last evaluation
    evaluated_at: float = 0.0  # in seconds
    worse: int = 0  # evaluations in a row clearly worse than the best, or the same
    best_val_loss: float | None = None
    best_parts: ByPart = ()  # see Evaluated.parts
    best_accuracy: float | None = None  # see Evaluated.accuracy
    history: list[dict[str, Any]] = field(default_factory=list)

    @property
    def best_loss(self) -> float:
        """The lowest loss of an evaluation so far, inf before the first one."""
        return math.inf if self.best_val_loss is None else self.best_val_loss

    def advance(self, loss: float, batches: int) -> None:
        """Count a step with this loss, where an epoch has this number of batches."""
        self.step += 1
        self.window += 1
        if self.window == batches:
            self.epoch, self.window = self.epoch + 1, 0
        self.loss_sum += loss
        self.loss_count += 1
        keep = min(0.98, 1.0 - 1.0 / self.step)  # the mean of all, then of about the last fifty
        self.running_loss = loss if self.step == 1 else keep * self.running_loss + (1.0 - keep) * loss

    def to_record(self) -> dict[str, Any]:
        """As JSON, which has no NaN."""
        record = {**asdict(self), "running_loss": self.running_loss if self.step else None}
        for name in ("best_parts", "best_accuracy"):
            if not record[name] and record[name] != 0:  # as in earlier versions
                del record[name]
        return record

    @classmethod
    def from_record(cls, record: object) -> Position:
        """The inverse of `to_record`. ValueError: the record is invalid."""
        if not isinstance(record, dict):
            raise ValueError("position")
        record = {"best_parts": (), "best_accuracy": None, **record}
        if record.keys() != {f.name for f in fields(cls)}:
            raise ValueError("position")
        for name, default in asdict(cls()).items():
            value, kinds = record[name], (int,) if isinstance(default, int) else (int, float)
            optional = name in ("running_loss", "best_val_loss", "best_accuracy")
            number = type(value) in kinds or (optional and value is None)
            if name not in ("history", "best_parts") and not number:
                raise ValueError(name)
            if isinstance(default, int) and value < default:  # where a run begins
                raise ValueError(name)
        if record["running_loss"] is None:
            record = {**record, "running_loss": math.nan}
        checked_history(record["history"])
        parts = tuple((name, loss) for name, loss in record["best_parts"])
        if not all(isinstance(name, str) and isinstance(loss, float) for name, loss in parts):
            raise ValueError("best_parts")
        return cls(**{**record, "best_parts": parts})
