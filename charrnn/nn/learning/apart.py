"""Shards that learn apart for many steps, and are brought together by an outer step (Douillard et al. 2023).

Each shard takes steps of AdamW on weights and moments of its own, so that no rank waits for another. An
exchange moves the common weights by Nesterov's momentum against the mean of what shards have moved away, and
all go on from there. Unlike in the paper, the moments are averaged, too: then all that training goes on from
is common after an exchange, and a file of a run is no larger for many shards. That changed no loss by 0.006.
"""

from __future__ import annotations

import math
from typing import Any

from charrnn.config import TrainConfig
from charrnn.kernels.machine.aligned import aligned
from charrnn.nn.learning.compilation import model_of
from charrnn.nn.learning.learner import AnyModel
from charrnn.nn.learning.optimizer import AdamW
from charrnn.nn.learning.sharded import ShardedLearner
from charrnn.nn.network import State
from charrnn.nn.parameters import Array
from charrnn.nn.passes import Parametrized, mix
from charrnn.ranks.ranks import Ranks

# Shakespeare, LSTM 2 x 64, 4 shards of 8 columns, 600 steps of 48 characters, in nats: 1.650 where shards
# meet in every step; every 50 steps 1.705, with the paper's 0.7 and 0.9 1.786, without momentum 1.764.
OUTER_RATE, OUTER_MOMENTUM = 1.0, 0.7
VECTORS = 3  # that an exchange adds up: weights and two moments


class _Apart:
    """A shard that learns alone: its weights, its moments, and the state of its texts."""

    def __init__(self, model: Parametrized[Any], train: TrainConfig, *, alone: bool) -> None:
        self._model, used = model, model.parameters.flat
        self.weights = used if alone else aligned(used.shape, used.dtype)
        self.optimizer = AdamW(model.parameters, train, model.workers)
        self.carry: State | None = None
        self.loss, self.norm, self.is_finite = 0.0, 0.0, True

    def begin(self, weights: Array, common: AdamW, carry: State | None) -> None:
        """Go on from what all have in common."""
        self.weights[:] = weights
        for name, array in self.optimizer.tensors().items():
            array[:] = common.tensors()[name]
        self.optimizer.steps, self.carry = common.steps, carry

    def learn(self, batch: Any, rate: float, key: int, *, begins: bool) -> None:
        """Take a step."""
        model, used = self._model, self._model.parameters.flat
        whole = model.weight_of(batch) or 1.0  # nothing of it may be to be learned
        if self.weights is not used:
            used[:] = self.weights
        update = self.optimizer.phases(model.gradients, rate)
        self.loss, self.carry = model.learn(batch, None if begins else self.carry, key, update, whole)
        self.norm = self.optimizer.finish()
        if self.weights is not used:
            self.weights[:] = used
        self.is_finite &= math.isfinite(self.loss) and math.isfinite(self.norm)


class LocalLearner(ShardedLearner[AnyModel]):
    """See Learner. The weights and moments of the model and the optimizer are those of the last exchange.

    A rank has beside them the weights and moments of each of its shards, the weights and gradient of the one
    that learns, and the outer momentum.
    """

    optimizer: AdamW

    def __init__(self, model: AnyModel, train: TrainConfig, B: int, beside: str | None = None) -> None:
        super().__init__(model, train, B, beside)
        self._common = model.parameters.flat
        self._momentum = aligned(self._common.shape, self._common.dtype)
        learning: Any = model_of(model.config, workers=model.workers, bfloat16=model.bfloat16)
        learning.windows_kept, self._learning = model.windows_kept, learning
        first, last = self._sum.own
        self._shards = [_Apart(learning, train, alone=last == first + 1) for _ in range(first, last)]
        self._steps = 0  # since the last exchange

    def train_step(self, batch: Any, carry: State | None, rate: float, step: int) -> tuple[float, float, Any]:
        """As that of Learner; loss and norm are of the first shard, so that no rank waits for another."""
        parts, how = self._parts(batch), (0.0, rate, step, carry is None)
        with self._ranks.asking(_step, [(part, *how) for part in parts]):
            self.step(parts[0], *how)
        first = self._shards[0]
        return first.loss, first.norm, [shard.carry for shard in self._shards]

    def step(self, shards: list[Any], whole: float, rate: float, step: int, begins: bool) -> float:
        """Learn from this rank's shards, each for itself. Returns the norm of the first gradient."""
        if not self._steps:
            for n, shard in enumerate(self._shards):
                shard.begin(self._common, self.optimizer, None if self._carry is None else self._carry[n])
        self._steps += 1
        key = mix(self.seed, step)
        for number, (shard, batch) in enumerate(zip(self._shards, shards, strict=True), self._sum.own[0]):
            shard.learn(batch, rate, mix(key, number), begins=begins)
        return self._shards[0].norm

    def exchange(self) -> bool:
        """The outer step. False: a loss or gradient was not finite since the last one."""
        with self._ranks.asking(_exchange, [()] * self._ranks.size):
            return all(self._ranks.gather(self.bring_together()))

    def bring_together(self) -> bool:
        """This rank's part in an exchange. False: one of its losses or gradients was not finite."""
        mean = self._average([self._common - shard.weights for shard in self._shards])
        self._momentum *= OUTER_MOMENTUM
        self._momentum += mean
        self._common -= OUTER_RATE * (mean + OUTER_MOMENTUM * self._momentum)
        for name, common in self.optimizer.tensors().items():
            common[:] = self._average([shard.optimizer.tensors()[name] for shard in self._shards])
        self.optimizer.steps += self._steps
        self._carry = [shard.carry for shard in self._shards if shard.carry is not None]
        self._steps = 0
        return all(shard.is_finite for shard in self._shards)

    def _average(self, own: list[Array]) -> Array:
        """The mean of a vector of each shard, of which this rank has its own; until the next one.

        They may be shorter than the weights, as the one number that a clip ratio keeps is.
        """
        total, n = self._sum.total, len(own[0])

        def copy(shard: int) -> None:
            total[:n], total[n:] = own[shard - self._sum.own[0]], 0

        self._sum.add_up(self._sum.one_by_one(copy))
        total *= 1.0 / len(self._columns)
        return total[:n]

    def state_dict(self, carry: Any) -> dict[str, Array]:
        """Of the last exchange, with which a run goes on."""
        return super().state_dict(self._carry)

    def _vectors(self) -> dict[str, Array]:
        return {**super()._vectors(), "outer.momentum": self._momentum}


def _step(ranks: Ranks, held: LocalLearner[Any], *how: Any) -> LocalLearner[Any]:
    held.step(*how)
    return held


def _exchange(ranks: Ranks, held: LocalLearner[Any]) -> LocalLearner[Any]:
    ranks.gather(held.bring_together())
    return held
