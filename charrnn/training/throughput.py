"""How fast this machine trains a network, measured by a few steps of it."""

from __future__ import annotations

import math
import time

import numpy as np

from charrnn.config import ModelConfig, TrainConfig
from charrnn.nn.network import Model
from charrnn.nn.optimizer import AdamW
from charrnn.nn.workers import Workers

LEAST_STEPS, LEAST_SECONDS = 3, 0.15


def characters_per_second(
    network: ModelConfig, batch_size: int, seq_len: int, *, bfloat16: bool, workers: Workers
) -> float:
    """The speed of training steps on windows of such a size; the best of a few, after one that is not timed.

    Kernels that are not compiled yet are compiled first.
    """
    model = Model(network, workers=workers, bfloat16=bfloat16)
    optimizer = AdamW(model.parameters, TrainConfig(steps=1), workers)
    x = np.random.default_rng(1).integers(network.vocab_size, size=(seq_len, batch_size), dtype=np.int32)
    best, began, steps = math.inf, math.inf, -1
    while steps < LEAST_STEPS or time.perf_counter() - began < LEAST_SECONDS:
        before = time.perf_counter()
        model.gradient(x, x, dropout_seed=1, then=optimizer.phases(model.gradients, 0.0))
        after = time.perf_counter()
        steps += 1
        if steps == 0:
            began = after  # buffers are in memory now
        else:
            best = min(best, after - before)
    return x.size / best
