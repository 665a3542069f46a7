"""A network that learns: gradient, clipping and update in one step, and what it needs to go on later."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping

import numpy as np

from charrnn.config import ModelConfig, TrainConfig
from charrnn.nn.compilation import compile_kernels
from charrnn.nn.network import Model, State, mix
from charrnn.nn.optimizer import AdamW
from charrnn.nn.parameters import Array
from charrnn.nn.workers import Workers

LEAST_STEPS, LEAST_SECONDS = 3, 0.15  # to measure the speed


class Learner:
    """A model and its optimizer. A batch is x, y and reset of `Model.gradient`, each (T, B)."""

    def __init__(self, model: Model, train: TrainConfig, B: int) -> None:
        self.model, self.seed, self.B = model, train.seed, B
        self.optimizer = AdamW(model.parameters, train, model.workers)

    @property
    def updates(self) -> int:
        """How often the weights were changed."""
        return self.optimizer.steps

    def compile(self) -> Iterator[tuple[int, int, bool]]:
        """Compile what a step calls; see compile_kernels."""
        return compile_kernels(self.model.config, self.model.bfloat16)

    def train_step(
        self, batch: tuple[Array, Array, Array | None], carry: State | None, rate: float, step: int
    ) -> tuple[float, float, State]:
        """The loss, the gradient's norm before clipping, and the state after the batch."""
        x, y, reset = batch
        update = self.optimizer.phases(self.model.gradients, rate)
        loss, state = self.model.gradient(x, y, carry, reset, mix(self.seed, step), then=update)
        return loss, self.optimizer.finish(), state

    def is_finite(self) -> bool:
        """Whether all weights are numbers. They may overflow where the losses do not."""
        return bool(np.isfinite(self.model.parameters.flat).all())

    def tensors(self) -> dict[str, Array]:
        """Copies of the weights in PyTorch's names and layout."""
        return self.model.tensors()

    def state_dict(self, carry: State | None) -> dict[str, Array]:
        """Weights, moments and state themselves, to be written to a file before the next step."""
        state = self.model.zero_state(self.B) if carry is None else carry
        moments = {"adam.m": self.optimizer.m, "adam.v": self.optimizer.v}
        return {"parameters": self.model.parameters.flat, **moments, **state.tensors()}

    def load_state_dict(self, tensors: Mapping[str, Array], updates: int) -> State:
        """Go on where `state_dict` was called, after so many updates.

        Raises:
            KeyError, ValueError: it is that of another network; nothing has changed.
        """
        state = self.model.zero_state(self.B)
        own = self.state_dict(state)
        for name, array in own.items():
            if (tensors[name].shape, tensors[name].dtype) != (array.shape, array.dtype):
                raise ValueError(name)
        for name, array in own.items():
            array[:] = tensors[name]
        self.optimizer.steps = updates
        return state


def characters_per_second(
    network: ModelConfig, batch_size: int, seq_len: int, *, bfloat16: bool, workers: Workers
) -> float:
    """How fast this machine trains on windows of such a size: the best of a few steps, after an untimed one.

    Kernels that are not compiled yet are compiled first.
    """
    learner = Learner(Model(network, workers=workers, bfloat16=bfloat16), TrainConfig(steps=1), batch_size)
    x = np.random.default_rng(1).integers(network.vocab_size, size=(seq_len, batch_size), dtype=np.int32)
    best, began, steps = math.inf, math.inf, -1
    while steps < LEAST_STEPS or time.perf_counter() - began < LEAST_SECONDS:
        before = time.perf_counter()
        learner.train_step((x, x, None), None, 0.0, 0)
        after = time.perf_counter()
        steps += 1
        if steps == 0:
            began = after  # buffers are in memory now
        else:
            best = min(best, after - before)
    return x.size / best
