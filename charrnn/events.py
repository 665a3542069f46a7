"""What training reports, as plain data: `charrnn.train()` is an iterator of these."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from charrnn.config import ModelConfig, TrainConfig
    from charrnn.text.corpus import Corpus

Measure = Literal["validation", "training"]
Reason = Literal["budget", "early-stop", "interrupted", "complete"]


@dataclass(frozen=True, slots=True)
class Started:
    """Once, before the first step: what will be trained on what."""

    corpus: Corpus
    different: int  # characters in the corpus; the model may know others, too
    validation: Corpus | None  # where that is a text of its own
    model: ModelConfig
    train: TrainConfig
    train_characters: int
    val_characters: int
    threads: int
    out: Path  # the model file
    resumed_step: int  # 0: from the beginning
    notes: tuple[str, ...]  # to be said once
    planned: str  # in a line, what was chosen for this corpus; empty when nothing was


@dataclass(frozen=True, slots=True)
class Compiling:
    """While kernels are compiled, which happens once on each machine, where a folder can keep them."""

    kernels_done: int
    kernels_total: int
    kept: bool = True  # for the next run


@dataclass(frozen=True, slots=True)
class Indexing:
    """Several times a second, while the index of a long text is made that a model file carries."""

    characters_done: int
    characters_total: int


@dataclass(frozen=True, slots=True)
class Step:
    """Several times a second: the state after a step."""

    step: int
    steps: int | None  # of the whole run, where the budget says it
    epoch: float
    seconds: float  # since the start, without the time between interruption and resumption
    progress: float  # 0 to 1, of the budget
    train_loss: float  # nats a character, a running mean
    chars_per_second: float
    learning_rate: float
    grad_norm: float  # before clipping


@dataclass(frozen=True, slots=True)
class Evaluated:
    """The loss over all of the validation text; or, where there is none, over the training text."""

    step: int
    epoch: float
    seconds: float
    train_loss: float  # mean since the evaluation before
    val_loss: float  # nats a character
    val_bpc: float  # bits a character
    best: bool  # of all so far
    saved: bool  # in the model file by now
    measured_on: Measure


@dataclass(frozen=True, slots=True)
class Sampled:
    """From time to time: what the network writes by now."""

    step: int
    text: str


@dataclass(frozen=True, slots=True)
class Saved:
    """A file was written: the best model so far, what `--resume` needs, or the model evaluated just now."""

    step: int
    path: Path
    val_loss: float
    kind: Literal["model", "resume", "kept"]


@dataclass(frozen=True, slots=True)
class Unsaved:
    """A file could not be written; what it held is whole. It is tried again, once more at the end."""

    step: int
    message: str  # which file, why, and what to do, in a line


@dataclass(frozen=True, slots=True)
class Finished:
    """Once, at the end."""

    step: int
    epoch: float
    seconds: float
    reason: Reason
    message: str  # why, in a line, where that is no matter of course
    checkpoint: Path
    parameters: int
    best_val_loss: float  # NaN where it was never measured
    best_val_bpc: float
    train_loss: float
    measured_on: Measure


Event = Started | Compiling | Indexing | Step | Evaluated | Sampled | Saved | Unsaved | Finished
