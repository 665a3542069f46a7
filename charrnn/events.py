"""The events of a training run, as plain data: `charrnn.train()` is an iterator of these."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from charrnn.config import ModelConfig, TrainConfig
    from charrnn.text.corpus import Corpus

Measure = Literal["validation", "training"]
Reason = Literal["budget", "early-stop", "interrupted", "complete"]
ByPart = tuple[tuple[str, float], ...]  # the losses of parts of a text, by name


@dataclass(frozen=True, slots=True)
class Started:
    """Once, before the first step: the model, the text and the settings."""

    corpus: Corpus
    different: int  # distinct characters in the corpus; the model's vocabulary may have more
    validation: Corpus | None  # a separate text, if one was given
    model: ModelConfig
    train: TrainConfig
    train_characters: int
    val_characters: int
    threads: int
    out: Path  # the model file
    resumed_step: int  # 0: a new run
    notes: tuple[str, ...]  # messages for the user
    planned: str  # the settings chosen for this corpus, on one line; empty if there are none
    ranks: int = 1  # the processes that share the work, each with so many threads


@dataclass(frozen=True, slots=True)
class Compiling:
    """While kernels are compiled: once on each machine if they can be cached in a folder."""

    kernels_done: int
    kernels_total: int
    kept: bool = True  # cached for the next run


@dataclass(frozen=True, slots=True)
class Indexing:
    """Several times a second, while the novelty index of a long text is built, or its grams are counted."""

    characters_done: int
    characters_total: int


@dataclass(frozen=True, slots=True)
class Step:
    """Several times a second: the run's figures after a step."""

    step: int
    steps: int | None  # of the whole run, if the budget fixes it
    epoch: float
    seconds: float  # of training, without the pause before a resumption
    progress: float  # 0 to 1, share of the budget
    train_loss: float  # nats a character, running mean
    chars_per_second: float
    learning_rate: float
    grad_norm: float  # before clipping


@dataclass(frozen=True, slots=True)
class Evaluated:
    """The loss over the whole validation text or, if there is none, over the training text."""

    step: int
    epoch: float
    seconds: float
    train_loss: float  # mean since the previous evaluation
    val_loss: float  # nats a character
    val_bpc: float  # bits a character
    best: bool  # the best so far
    saved: bool  # written to the model file
    measured_on: Measure
    parts: ByPart = ()  # of a corpus with shares: the loss of each path's own text, which `val_loss` weighs
    accuracy: float | None = None  # the share of right answers, of networks that read
    network_loss: float | None = None  # where counts stand beside the network: its own, as `train_loss` is


@dataclass(frozen=True, slots=True)
class Sampled:
    """From time to time: a sample of the network's text."""

    step: int
    text: str


@dataclass(frozen=True, slots=True)
class Saved:
    """A file was written: the best model so far, the resume file, or a copy of the model just evaluated."""

    step: int
    path: Path
    val_loss: float
    kind: Literal["model", "resume", "kept"]


@dataclass(frozen=True, slots=True)
class Unsaved:
    """A file could not be written; its old contents are intact. Writing is retried, also at the end."""

    step: int
    message: str  # which file, why, and what to do, on one line


@dataclass(frozen=True, slots=True)
class Finished:
    """Once, at the end."""

    step: int
    epoch: float
    seconds: float
    reason: Reason
    message: str  # the reason on one line; empty for the usual one
    checkpoint: Path
    parameters: int
    best_val_loss: float  # NaN if never measured
    best_val_bpc: float
    train_loss: float
    measured_on: Measure
    parts: ByPart = ()  # of the best model, as in Evaluated
    accuracy: float | None = None  # likewise


Event = Started | Compiling | Indexing | Step | Evaluated | Sampled | Saved | Unsaved | Finished
