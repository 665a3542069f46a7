"""Kernels are compiled before the first step, so that it can be said how far that is."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from charrnn.config import ModelConfig, TrainConfig
from charrnn.kernels import adamw, gemm, gru, loss, lstm, norm, rnn, rows
from charrnn.model import Model
from charrnn.optimizer import AdamW
from charrnn.workers import Workers

_CELLS = {"lstm": lstm, "gru": gru, "rnn": rnn}


def compile_kernels(config: ModelConfig, bfloat16: bool = False) -> Iterator[tuple[int, int]]:
    """Compile, or load from the cache, all that training such a network calls, in the precision it has.

    Yields (done, total) several times a second while something has to be compiled.
    """
    kernels = [
        kernel
        for module in (gemm, rows, loss, adamw, _CELLS[config.cell], *([norm] if config.norm else []))
        for name, kernel in vars(module).items()
        if hasattr(kernel, "signatures") and name[0] != "_" and kernel.__module__ == module.__name__
    ]
    errors: list[BaseException] = []

    def work() -> None:
        try:
            _call_all(config, bfloat16)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work, name="charrnn-compile", daemon=True)
    thread.start()
    while True:
        thread.join(0.2)
        if not thread.is_alive():
            break
        if any(sum(kernel.stats.cache_misses.values()) for kernel in kernels):
            yield sum(bool(kernel.signatures) for kernel in kernels), len(kernels)
    if errors:
        raise errors[0]


def _call_all(config: ModelConfig, bfloat16: bool) -> None:
    """A training step and an evaluation of the smallest network that uses the same kernels."""
    D: Any = 2 if config.embedding_size else 0
    tiny = replace(config, vocab_size=2, hidden_size=2, embedding_size=D, num_layers=2)
    workers = Workers(1)
    model = Model(tiny, workers=workers, bfloat16=bfloat16)
    x = np.zeros((1, 1), np.int32)
    model.gradient(x, x, dropout_seed=0)
    AdamW(model.parameters, TrainConfig(steps=1), workers).step(model.gradients, 0.0)
    model.losses(x, x)
