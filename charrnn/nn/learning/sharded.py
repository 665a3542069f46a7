"""Learning from batches that are cut into shards, by one process or by several ranks, to the same bytes.

A shard is some columns of the batch. Its gradient is computed alone, with dropout of its own, and depends on
nothing else; the sum has a fixed order (charrnn.nn.learning.sums), and each rank applies it to weights of its
own, which therefore stay the same.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

from charrnn.config import ModelConfig, TrainConfig
from charrnn.errors import TrainingError
from charrnn.nn.learning.compilation import compile_kernels, model_of
from charrnn.nn.learning.learner import AnyModel, Learner
from charrnn.nn.learning.sums import ShardSum
from charrnn.nn.learning.together import reading_together
from charrnn.nn.network import State
from charrnn.nn.parameters import Array
from charrnn.nn.passes import mix
from charrnn.nn.workers import Workers
from charrnn.ranks.ranks import Ranks, share

WIDTHS = 2  # of windows of shards
NO_LIMIT = 1 << 62
Carry = list[State] | None  # of each shard of this rank


class ShardedLearner(Learner[AnyModel]):
    """See Learner. The leader is used like any learner; the others do what it asks them for."""

    def __init__(self, model: AnyModel, train: TrainConfig, B: int, beside: str | None = None) -> None:
        super().__init__(model, train, B, beside)
        self._learning, self._ranks = model, model.workers.ranks
        if model.windows_kept < WIDTHS:
            model.windows_kept, model.bytes_kept = WIDTHS, NO_LIMIT
        shards = min(train.shards, B)
        self._columns = list(pairwise(B * shard // shards for shard in range(shards + 1)))
        self._sum = ShardSum(shards, model.gradients.flat, self._ranks, model.workers)
        self._places = model.places_of_stages()
        self._carry: Carry = None
        if self._ranks.size > 1 and self._ranks.rank == 0:
            how = model.config, train, B, model.bfloat16, beside, model.workers.wanted, model.parameters.flat
            with self._ranks.asking(_begin, [(type(self), *how)] * self._ranks.size):
                self.model = reading_together(model)

    def compile(self) -> Iterator[tuple[int, int, bool]]:
        """The leader first: where they share a folder, the others find all in it."""
        yield from compile_kernels(self.model.config, self.model.bfloat16, self._beside, sharded=True)
        with self._ranks.asking(_compile, [()] * self._ranks.size):
            self._ranks.gather(None)

    def train_step(self, batch: Any, carry: State | None, rate: float, step: int) -> tuple[float, float, Any]:
        ranks, parts = self._ranks, self._parts(batch)
        how = self._learning.weight_of(batch), rate, step, carry is None
        with ranks.asking(_step, [(part, *how) for part in parts]):
            norm = self.step(parts[0], *how)
            losses = [loss for own in ranks.gather(self._losses) for loss in own]
        return sum(losses), norm, self._carry

    def _parts(self, batch: Any) -> list[list[Any]]:
        """The shards of each rank."""
        shards = [self._learning.columns_of(batch, *columns) for columns in self._columns]
        ranks = self._ranks.size
        return [shards[slice(*share(len(shards), rank, ranks))] for rank in range(ranks)]

    def step(self, shards: list[Any], whole: float, rate: float, step: int, begins: bool) -> float:
        """Learn from this rank's shards and those of the others. Returns the gradient's norm."""
        model, carry = self._learning, None if begins else self._carry
        key, (first, last) = mix(self.seed, step), self._sum.own
        keys = [mix(key, shard) for shard in range(first, last)]
        begun: list[Any] = [None for _ in shards] if carry is None else [*carry]
        told: list[tuple[float, Any]] = []
        if model.learns_side_by_side:
            sums = [(low - first, high - first) for low, high in self._sum.nodes]
            with self._sum.exchanging(self._places) as then:
                if shards:
                    told = model.learn_side_by_side(shards, begun, keys, whole, sums, then)
                else:  # of a batch with fewer columns than ranks
                    model.workers.run(*(then(k, -1) for k in reversed(range(len(self._places)))))
        else:

            def learn(shard: int) -> None:
                n = shard - first
                told.append(model.learn(shards[n], begun[n], keys[n], (), whole))

            self._sum.add_up(self._sum.one_by_one(learn))
        self._losses, self._carry = [loss for loss, _ in told], [state for _, state in told]
        model.workers.run(*self.optimizer.phases(model.gradients, rate))
        return self.optimizer.finish()

    def swap(self) -> None:
        if not self.optimizer.config.average:
            return
        with self._ranks.asking(_swap, [()] * self._ranks.size):
            self.optimizer.swap()

    def state_dict(self, carry: Any) -> dict[str, Array]:
        if carry is None:
            return super().state_dict(None)
        with self._ranks.asking(_tell_state, [()] * self._ranks.size):
            told = self._ranks.gather(self.told())
        for rank, (_, sum_) in enumerate(told):
            if sum_ != told[0][1]:
                raise TrainingError(
                    f"the weights of rank {rank} are no longer those of rank 0",
                    "its memory or processor may be faulty: go on without it, with --resume",
                )
        return self._vectors() | State.joined([state for states, _ in told for state in states]).tensors()

    def told(self) -> tuple[list[State], int]:
        """The states of this rank's shards, and a checksum of the weights."""
        assert self._carry is not None
        return self._carry, zlib.crc32(self.model.parameters.flat.data)

    def load_state_dict(self, tensors: Mapping[str, Array], updates: int) -> Any:
        state = super().load_state_dict(tensors, updates)
        ranks, states = self._ranks, [state.columns(*columns) for columns in self._columns]
        own = [slice(*share(len(states), rank, ranks.size)) for rank in range(ranks.size)]
        with ranks.asking(_load, [(self._vectors(), updates, states[some]) for some in own]):
            self._carry = states[own[0]]
        return self._carry

    def load(self, vectors: dict[str, Array], updates: int, states: list[State]) -> None:
        """What the leader has loaded."""
        for name, array in self._vectors().items():
            array[:] = vectors[name]
        self.optimizer.steps, self._carry = updates, states


# --- what the leader asks other ranks for -------------------------------------------------------


def _begin(
    ranks: Ranks,
    held: Any,
    kind: type[ShardedLearner[Any]],
    config: ModelConfig,
    train: TrainConfig,
    *how: Any,
) -> ShardedLearner[Any]:
    B, bfloat16, beside, threads, flat = how
    model: Any = model_of(config, workers=Workers(threads, ranks), bfloat16=bfloat16)
    model.parameters.flat[:] = flat
    return kind(model, train, B, beside)


def _compile(ranks: Ranks, held: ShardedLearner[Any]) -> ShardedLearner[Any]:
    for _ in compile_kernels(held.model.config, held.model.bfloat16, sharded=True):
        pass
    ranks.gather(None)
    return held


def _step(ranks: Ranks, held: ShardedLearner[Any], *how: Any) -> ShardedLearner[Any]:
    held.step(*how)
    ranks.gather(held._losses)
    return held


def _swap(ranks: Ranks, held: ShardedLearner[Any]) -> ShardedLearner[Any]:
    held.optimizer.swap()
    return held


def _tell_state(ranks: Ranks, held: ShardedLearner[Any]) -> ShardedLearner[Any]:
    ranks.gather(held.told())
    return held


def _load(ranks: Ranks, held: ShardedLearner[Any], *how: Any) -> ShardedLearner[Any]:
    held.load(*how)
    return held
