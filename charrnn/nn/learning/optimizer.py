"""What optimizers have in common; AdamW on the flat parameter vector; and the learning-rate schedule."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable

import numpy as np

from charrnn.config import TrainConfig
from charrnn.kernels import updates
from charrnn.kernels.machine.aligned import aligned
from charrnn.kernels.updates import BLOCK
from charrnn.nn.operands import Share
from charrnn.nn.parameters import Array, Parameters
from charrnn.nn.workers import Phase, Workers

# Of the mean of norms, what an update keeps, so that it is of about the last hundred. However small that is,
# a norm may be the share LEAST of `clip`, so that learning goes on where nothing was to be learned for long.
MEAN_KEPT, LEAST = 0.99, 1e-4
SWAPPED = 1 << 20  # parameters that change places with their mean at a time, for which there is room twice


def learning_rate(config: TrainConfig, progress: float) -> float:
    """The rate at `progress` (0 to 1) of the budget.

    It rises linearly over the first `warmup` of the budget to its peak, then falls along a half cosine
    (Loshchilov & Hutter 2017) to `final_learning_rate` of the peak.
    """
    peak, low = config.learning_rate, config.final_learning_rate
    if progress < config.warmup:
        return peak * progress / config.warmup
    rest = (progress - config.warmup) / (1.0 - config.warmup) if config.warmup < 1 else 1.0
    return peak * (low + (1.0 - low) * 0.5 * (1.0 + math.cos(math.pi * min(rest, 1.0))))


class Optimizer(ABC):
    """Updates parameters in place, and averages them where the settings ask for it.

    The mean counts the parameters after step k as 1 / (1 + average (k - 1)), so that it is of about the share
    `average` of all steps so far, however many these are (Shamir & Zhang 2013).
    """

    def __init__(self, parameters: Parameters, config: TrainConfig, workers: Workers) -> None:
        self.parameters, self.config, self.workers = parameters, config, workers
        self.steps = 0  # taken so far
        size = parameters.flat.shape if config.average else (0,)
        self.mean = aligned(size, parameters.flat.dtype)
        self._partial = np.zeros(-(-len(parameters.flat) // BLOCK))

    def tensors(self) -> dict[str, Array]:
        """The arrays from which updates go on."""
        return self._moments() | ({"average": self.mean} if self.config.average else {})

    @abstractmethod
    def _moments(self) -> dict[str, Array]:
        """Those of this optimizer."""

    @abstractmethod
    def _update(self, gradients: Parameters, rate: float) -> Iterable[Phase]:
        """What follows when `_norm` is known; if that is not finite, no parameter changes."""

    def phases(self, gradients: Parameters, rate: float) -> tuple[Phase, ...]:
        """A step as phases for `Workers.run`, perhaps after others; call `finish` afterwards."""

        def sum_squares(share: Share) -> None:
            updates.squared_norms(self._partial, gradients.flat, *share.of(len(self._partial)))

        averaging = (self._average,) if self.config.average else ()
        return (sum_squares, *self._update(gradients, rate), *averaging)

    def _average(self, share: Share) -> None:
        if math.isfinite(self._norm()):
            n0, n1 = share.of(len(self.mean))
            weight = 1.0 / (1.0 + self.config.average * self.steps)
            updates.average(self.mean, self.parameters.flat, n0, n1, weight)

    def swap(self) -> None:
        """Let the parameters and their mean change places, if there is one."""
        if self.config.average and self.steps:
            flat = self.parameters.flat
            for first in range(0, len(flat), SWAPPED):
                some = slice(first, first + SWAPPED)
                flat[some], self.mean[some] = self.mean[some].copy(), flat[some].copy()

    def step(self, gradients: Parameters, rate: float) -> float:
        """Update the parameters, if the gradient is finite. Returns its norm, before any clipping."""
        self.workers.run(*self.phases(gradients, rate))
        return self.finish()

    def finish(self) -> float:
        """Count the step whose phases have run, if the gradient was finite. Returns the gradient's norm."""
        norm = self._norm()
        if math.isfinite(norm):
            self.steps += 1
        return norm

    def _norm(self) -> float:
        """The Euclidean norm of all gradients, from the partial sums in a fixed order."""
        return math.sqrt(float(np.add.reduce(self._partial)))


class AdamW(Optimizer):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019), bias-corrected.

    A gradient is scaled to a norm of at most `clip`, and of at most `clip_ratio` times the running mean of
    the norms so far, each as it was scaled (after Seetharaman et al. 2020, who take a percentile). Decay and
    L1 shrinkage act on matrices, not on biases and norms.
    """

    def __init__(self, parameters: Parameters, config: TrainConfig, workers: Workers) -> None:
        super().__init__(parameters, config, workers)
        self.m = aligned(parameters.flat.shape, parameters.flat.dtype)
        self.v = aligned(parameters.flat.shape, parameters.flat.dtype)
        self.mean_norm = np.full(1, config.clip, np.float32)  # is used, and changes, with a clip_ratio alone

    def _moments(self) -> dict[str, Array]:
        running = {"adam.mean_norm": self.mean_norm} if self.config.clip_ratio else {}
        return {"adam.m": self.m, "adam.v": self.v, **running}

    def finish(self) -> float:
        norm = super().finish()
        if self.config.clip_ratio and math.isfinite(norm):
            self.mean_norm += (1.0 - MEAN_KEPT) * (min(norm, self._limit()) - self.mean_norm)
        return norm

    def _limit(self) -> float:
        """The largest norm of the next gradient."""
        clip, ratio = self.config.clip, self.config.clip_ratio
        return min(clip, max(LEAST * clip, ratio * float(self.mean_norm[0]))) if ratio else clip

    def _update(self, gradients: Parameters, rate: float) -> Iterable[Phase]:
        c, step = self.config, self.steps + 1
        corrections = 1.0 - c.beta1**step, 1.0 - c.beta2**step
        arrays = self.parameters.flat, gradients.flat, self.m, self.v
        end, decayed = len(self.m), self.parameters.decayed

        def update(share: Share) -> None:
            norm = self._norm()
            if not math.isfinite(norm):
                return
            limit = self._limit()
            scale = limit / norm if norm > limit else 1.0
            for low, high, decay, l1 in ((0, decayed, c.weight_decay, c.l1), (decayed, end, 0.0, 0.0)):
                n0, n1 = share.of(high - low)
                numbers = updates.AdamWStep(scale, rate, c.beta1, c.beta2, *corrections, c.epsilon, decay, l1)
                updates.adamw(*arrays, low + n0, low + n1, numbers)

        return (update,)
