"""A network that learns: gradient, clipping and update in one step, and the data to continue from later."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

import numpy as np

from charrnn.config import TrainConfig
from charrnn.nn.learning.compilation import compile_kernels, optimizer_of
from charrnn.nn.network import State
from charrnn.nn.parameters import Array
from charrnn.nn.passes import Parametrized, mix

AnyModel = TypeVar("AnyModel", bound=Parametrized[Any])


class Learner(Generic[AnyModel]):
    """A model and its optimizer. A batch is what the model's `learn` takes.

    `beside` names what stands beside the model, for `compile`.
    """

    def __init__(self, model: AnyModel, train: TrainConfig, B: int, beside: str | None = None) -> None:
        self.model, self.seed, self.B, self._beside = model, train.seed, B, beside
        self.optimizer = optimizer_of(model, train)

    @property
    def updates(self) -> int:
        """The number of updates of the weights so far."""
        return self.optimizer.steps

    def compile(self) -> Iterator[tuple[int, int, bool]]:
        """Compile what a step calls; see compile_kernels."""
        return compile_kernels(self.model.config, self.model.bfloat16, self._beside)

    def train_step(
        self, batch: Any, carry: State | None, rate: float, step: int
    ) -> tuple[float, float, State]:
        """The loss, the gradient's norm before clipping, and the state after the batch."""
        update = self.optimizer.phases(self.model.gradients, rate)
        loss, state = self.model.learn(batch, carry, mix(self.seed, step), update)
        return loss, self.optimizer.finish(), state

    def exchange(self) -> bool:
        """Nothing: each step has left the same weights everywhere."""
        return True

    def is_finite(self) -> bool:
        """Whether all weights are finite. They may overflow though the losses do not."""
        return bool(np.isfinite(self.model.parameters.flat).all())

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Within it, weights are their mean over many steps, if the settings ask for it, as files have it."""
        self.swap()
        try:
            yield
        finally:
            self.swap()

    def swap(self) -> None:
        """Let weights and their mean change places."""
        self.optimizer.swap()

    def tensors(self) -> dict[str, Array]:
        """Copies of the weights, or of their mean, in PyTorch's names and layout."""
        with self.averaged():
            return self.model.tensors()

    def state_dict(self, carry: State | None) -> dict[str, Array]:
        """The arrays of weights, moments and state themselves, to be written before the next step."""
        state: State = self.model.zero_state(self.B) if carry is None else carry
        return self._vectors() | state.tensors()

    def _vectors(self) -> dict[str, Array]:
        """Weights and moments."""
        return {"parameters": self.model.parameters.flat, **self.optimizer.tensors()}

    def load_state_dict(self, tensors: Mapping[str, Array], updates: int) -> State:
        """Continue from a `state_dict` that was taken after `updates` updates. Returns the carry.

        Raises:
            KeyError, ValueError: it belongs to another network; nothing has changed.
        """
        state: State = self.model.zero_state(self.B)
        own = self._vectors() | state.tensors()
        for name, array in own.items():
            if (tensors[name].shape, tensors[name].dtype) != (array.shape, array.dtype):
                raise ValueError(name)
        for name, array in own.items():
            array[:] = tensors[name]
        self.optimizer.steps = updates
        return state
