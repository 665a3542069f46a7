"""Kernels are compiled before the first step: in two processes, and so that it can be said how far that is.

Numba compiles under one lock, so that a second core can only help from a second process. Both go through one
list, this process from its start and a helper from its end, and leave what they compiled in the cache, where
the other finds it. Nothing else is agreed upon: without the helper, or with a slow one, this process simply
comes further.
"""

from __future__ import annotations

import _thread
import functools
import gc
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Self

import numpy as np

from charrnn.config import ModelConfig, TrainConfig
from charrnn.kernels.machine import jit
from charrnn.kernels.machine.jit import Task
from charrnn.nn.network import Model
from charrnn.nn.optimizer import AdamW
from charrnn.nn.workers import Phase, Workers, available_threads

# The order of the list, by module; then come products and cells. The helper, whose Numba comes up later, has
# the end of it. What compiles quickly is in the middle, where both may be at the same kernel for a moment.
_FIRST = ("norm", "loss", "updates", "rows")
_HELPER = """
import json, sys
path, config, bfloat16 = json.loads(sys.argv[1])
sys.path[:] = path
from charrnn.nn.compilation import help_out
help_out(config, bfloat16)
"""


class Helper:
    """A process that compiles what is not in the cache yet. It ends by itself, or with this process."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Let it end: nobody waits for what it compiles any more."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()

    def start(self, config: ModelConfig, threads: int | None = None, bfloat16: bool = False) -> None:
        """Compile what training a network of this kind needs, of any size, with so many threads.

        It is there for speed alone: where it cannot start, or is of no use, nothing happens.
        """
        cpus = available_threads()
        if jit.CACHE_DIR is None or min(cpus, threads or cpus) < 2:
            return
        if not sys.executable or getattr(sys, "frozen", False):
            return  # there is no interpreter to be started
        if not _missing(_tasks(_smallest(config), bfloat16)):
            return
        argument = json.dumps([sys.path, config.to_dict(), bfloat16])
        try:
            # -P: no module is imported from the current folder.
            process = subprocess.Popen(
                [sys.executable, "-P", "-c", _HELPER, argument],
                stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
            )  # fmt: skip
        except OSError:
            return
        self._process = process
        # Its exit status is taken at once, or it would stay in the list of processes.
        threading.Thread(target=process.wait, name="charrnn-helper", daemon=True).start()


def help_out(config: dict[str, Any], bfloat16: bool) -> None:
    """What the helper does: the list from its end, but first what others on it need."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)  # a half-written file is then removed
    threading.Thread(target=_end_with_parent, daemon=True).start()
    gc.disable()  # 6 % of the time; what is left behind goes with the process, in seconds
    try:
        tasks = _tasks(_smallest(ModelConfig(**config)), bfloat16)
        for task in (task for task in tasks if task.needed):
            task.run()
        for task in reversed(tasks):
            if not task.done():
                task.run()
    except KeyboardInterrupt:
        pass


def _end_with_parent() -> None:
    os.read(0, 1)  # returns when the pipe's other end is closed, however that came about
    _thread.interrupt_main()
    time.sleep(2)
    os._exit(1)


def compile_kernels(config: ModelConfig, bfloat16: bool = False) -> Iterator[tuple[int, int, bool]]:
    """Compile, or load from the cache, all that training such a network calls, in the precision it has.

    Several times a second while something has to be compiled, yields how much is done, of how much, and
    whether a cache keeps it.
    """
    smallest = _smallest(config)
    tasks = _tasks(smallest, bfloat16)
    compiling = bool(_missing(tasks))
    errors: list[BaseException] = []

    def work() -> None:
        try:
            for task in tasks:
                task.run()
            _step(smallest, bfloat16, Workers(1))  # and what is not on the list
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work, name="charrnn-compile", daemon=True)
    thread.start()
    while True:
        thread.join(0.2)
        if not thread.is_alive():
            break
        if compiling:
            yield len(tasks) - len(_missing(tasks)), len(tasks), jit.CACHE_DIR is not None
    if errors:
        raise errors[0]


def _smallest(config: ModelConfig) -> ModelConfig:
    """The smallest network that calls the same kernels, and dropout's, which another run may need."""
    D = 2 if config.embedding_size else 0
    return replace(config, vocab_size=2, hidden_size=2, embedding_size=D, num_layers=2, dropout=0.5)


@functools.cache
def _tasks(config: ModelConfig, bfloat16: bool = False) -> tuple[Task, ...]:
    """All that training this network has to have compiled, each after what it needs."""

    def place(task: Task) -> int:
        module = task.name.partition(".")[0]
        return _FIRST.index(module) if module in _FIRST else len(_FIRST) + (not task.needed)

    return tuple(sorted(jit.record(lambda: _step(config, bfloat16, _ThisThread())), key=place))


def _missing(tasks: tuple[Task, ...]) -> list[Task]:
    """What neither this process nor the cache has."""
    return [task for task in tasks if not task.done()]


def _step(config: ModelConfig, bfloat16: bool, workers: Workers) -> None:
    """A training step and an evaluation."""
    model = Model(config, workers=workers, bfloat16=bfloat16)
    x = np.zeros((1, 1), np.int32)
    model.gradient(x, x, dropout_seed=0)
    AdamW(model.parameters, TrainConfig(steps=1), workers).step(model.gradients, 0.0)
    model.losses(x, x)


class _ThisThread(Workers):
    """One worker: the calling thread, whose calls are recorded."""

    def __init__(self) -> None:
        self.size = 1

    def run(self, *phases: Phase) -> None:
        for phase in phases:
            phase(0)
