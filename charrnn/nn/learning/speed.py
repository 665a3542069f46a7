"""How fast networks learn on this machine, or on several."""

from __future__ import annotations

import time
from itertools import pairwise

import numpy as np

from charrnn.config import ModelConfig, TrainConfig
from charrnn.nn.learning.learners import learner_of
from charrnn.nn.network import Model
from charrnn.nn.workers import Workers

LEAST_STEPS, LEAST_SECONDS = 3, 0.15  # to measure the speed


def characters_per_second(
    network: ModelConfig, batch_size: int, seq_len: int, *, bfloat16: bool, workers: Workers, shards: int = 1
) -> float:
    """The speed of training with windows of this size: that of the fastest of a few steps.

    Kernels that are not yet compiled are compiled first.
    """
    train = TrainConfig(steps=1, shards=shards)
    learner = learner_of(Model(network, workers=workers, bfloat16=bfloat16), train, batch_size)
    x = np.random.default_rng(1).integers(network.vocab_size, size=(seq_len, batch_size), dtype=np.int32)
    times: list[float] = []  # of each step's end; the first step also allocates buffers
    while len(times) <= LEAST_STEPS or times[-1] - times[0] < LEAST_SECONDS:
        learner.train_step((x, x, None), None, 0.0, 0)
        times.append(time.perf_counter())
    return x.size / min(after - before for before, after in pairwise(times))
