"""What a diagnosis finds, as plain data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

FAINT = 0.01  # of a gradient one step back: what is less has vanished


@dataclass(frozen=True, slots=True)
class Clipping:
    """The norms of the gradients of training steps, before clipping."""

    clip: float  # the largest norm that an update may have
    steps: int
    clipped: int  # steps with a larger one
    median: float
    largest: float
    overflowed: int = 0  # steps whose norm was no finite number

    @property
    def share(self) -> float:
        """The share of steps that are clipped."""
        return self.clipped / self.steps


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer of a network."""

    units: int
    # By part of the state: the mean norm of d loss(t) / d state(t - k), for k = 1, 2, ..
    gradients: dict[str, list[float]]
    # By gate: the shares of activations at its lower and at its upper end.
    gates: dict[str, tuple[float, float]]
    idle: tuple[int, ...]  # the units that never move


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """A network, as it reads a text."""

    layers: tuple[Layer, ...]
    places: list[int]  # for each lag, how many characters have a text that goes so far back
    characters: int  # that gates and units were watched for
    clipping: Clipping
    seq_len: int  # of training
    advice: str  # one sentence

    @property
    def lags(self) -> int:
        """The largest lag."""
        return len(self.places)


@dataclass(frozen=True, slots=True)
class RunDiagnosis:
    """A training run, by the events that it has had so far."""

    clipping: Clipping
    late_share: float  # the share of clipped steps in the second half
    points: list[tuple[int, float]]  # some steps, and their norms
    advice: str


def reach(gradients: Sequence[float]) -> int:
    """The largest lag at which a gradient is not faint beside that of lag 1; 0: it is nowhere."""
    least = FAINT * gradients[0]
    return max((k for k, norm in enumerate(gradients, 1) if norm >= least and norm > 0), default=0)


def growth(gradients: Sequence[float]) -> tuple[float, int]:
    """How many times as large as at lag 1 a gradient gets, and at which lag; infinite if it overflows."""
    first = gradients[0]
    best, lag = 1.0, 1
    for k, norm in enumerate(gradients, 1):
        if not math.isfinite(norm):
            return math.inf, k
        if first > 0 and norm > best * first:
            best, lag = norm / first, k
    return best, lag


@dataclass(frozen=True, slots=True)
class Looks:
    """Where the heads of a memory look, step by step."""

    read: tuple[str, ...]  # the character that is read in each step; "": none
    told: tuple[str, ...]  # what should be told in each step; "": nothing, or that is not known
    reading: list[list[float]]  # (T, N) the weights of the head that reads
    writing: list[list[float]]  # (T, N) of that which writes
