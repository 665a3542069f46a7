"""How fast networks learn on this machine, or on several, and what an exchange between these takes."""

from __future__ import annotations

import time
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from charrnn.config import ModelConfig, TrainConfig
from charrnn.nn.learning.apart import VECTORS
from charrnn.nn.learning.learners import learner_of
from charrnn.nn.learning.sums import GRAIN, ShardSum
from charrnn.nn.network import Model
from charrnn.nn.parameters import Array
from charrnn.nn.passes import Parametrized
from charrnn.nn.workers import Workers
from charrnn.ranks.ranks import Ranks

LEAST_STEPS, LEAST_SECONDS = 3, 0.15  # to measure the speed
FEWEST_SENT = 1024 * GRAIN  # numbers, to measure an exchange
LONG_ENOUGH, TIMES = 0.05, 2  # seconds of an exchange, and exchanges of a size
BACKWARD = 2 / 3  # of a step follow the forward pass


class Pace(NamedTuple):
    """What a step takes where nothing is sent, and what ranks take to add up a vector like the weights.

    `hidden` is how much of an exchange in every step goes on while gradients are computed.
    """

    step: float  # seconds
    exchange: float
    hidden: float = 0.0

    def with_exchanges(self, every: int) -> float:
        """The seconds of a step with its share of an exchange, which follows every so many steps."""
        if every == 1:
            return self.step + self.exchange - self.hidden
        return self.step + self.exchange * VECTORS / every


def hidden(model: Parametrized[Any], step: float, exchange: Any) -> Any:
    """How much of exchanges goes on while a step computes gradients: that of the stages above, at most."""
    if not model.learns_side_by_side:
        return 0.0 * exchange
    sizes = [sum(last - first for first, last in places) for places in model.places_of_stages()]
    above, later = 1 - sizes[0] / sum(sizes), BACKWARD * (1 - 1 / len(sizes))
    return np.minimum(above * exchange, later * step)


def characters_per_second(
    network: ModelConfig, batch_size: int, seq_len: int, *, bfloat16: bool, workers: Workers, shards: int = 1
) -> float:
    """The speed of training with windows of this size: that of the fastest of a few steps.

    Kernels that are not yet compiled are compiled first.
    """
    train = TrainConfig(steps=1, shards=shards)
    learner = learner_of(Model(network, workers=workers, bfloat16=bfloat16), train, batch_size)
    x = _text(network, (seq_len, batch_size))
    times: list[float] = []  # of each step's end; the first step also allocates buffers
    while len(times) <= LEAST_STEPS or times[-1] - times[0] < LEAST_SECONDS:
        learner.train_step((x, x, None), None, 0.0, 0)
        times.append(time.perf_counter())
    return x.size / min(after - before for before, after in pairwise(times))


def pace(
    network: ModelConfig, batch_size: int, seq_len: int, *, bfloat16: bool, workers: Workers, shards: int
) -> Pace:
    """That of shards that learn apart, on all ranks at once, and of an exchange of such weights."""
    exchange = _exchange_seconds(network.num_parameters, workers)
    train = TrainConfig(steps=1, shards=shards, sync_every=2)
    learner = learner_of(Model(network, workers=workers, bfloat16=bfloat16), train, batch_size)
    x = _text(network, (seq_len, batch_size))

    def taken(steps: int) -> float:
        began = time.perf_counter()
        for _ in range(steps):
            learner.train_step((x, x, None), None, 0.0, 0)
        _exchange(GRAIN, workers.ranks)  # when the last rank has made them
        return time.perf_counter() - began

    taken(1)  # which also allocates buffers
    steps = LEAST_STEPS
    while (seconds := taken(steps)) < LEAST_SECONDS:
        steps *= 2
    step = seconds / steps
    return Pace(step, exchange, float(hidden(learner.model, step, exchange)))


def _text(network: ModelConfig, size: tuple[int, int]) -> Array:
    return np.random.default_rng(1).integers(network.vocab_size, size=size, dtype=np.int32)


def _exchange_seconds(numbers: int, workers: Workers) -> float:
    """What it takes to add up vectors of so many numbers, from shorter ones if those take long enough."""
    ranks, sent = workers.ranks, FEWEST_SENT

    def taken(n: int) -> float:
        return min(_exchange(n, ranks) for _ in range(TIMES))

    least = taken(GRAIN * ranks.size)
    while (seconds := taken(sent)) < LONG_ENOUGH and sent < numbers:
        sent *= 2
    return least + max(seconds - least, 0.0) * numbers / sent


def _exchange(numbers: int, ranks: Ranks) -> float:
    """The seconds in which ranks have added up vectors of so many numbers."""
    began = time.perf_counter()
    with ranks.asking(add_up, [(numbers,)] * ranks.size):
        add_up(ranks, None, numbers)
    return time.perf_counter() - began


def add_up(ranks: Ranks, held: Any, numbers: int) -> Any:
    """On any rank: an exchange, after which the leader knows that all have had it."""
    workers = Workers(1, ranks)
    ShardSum(ranks.size, np.zeros(numbers, np.float32), ranks, workers).add_up(lambda low, high: None)
    ranks.gather(None)
    return held
