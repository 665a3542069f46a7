"""Compile the kernels before the first training step, in two processes, and report the progress.

Numba compiles under a global lock, so a second core only helps through a second process. Both work through
the same list, this process from the start and a helper from the end, and exchange results through the cache
alone: without the helper, or with a slow one, this process simply compiles more of the list.
"""

from __future__ import annotations

import _thread
import functools
import importlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from charrnn.config import ModelConfig, TrainConfig
from charrnn.kernels.machine import jit
from charrnn.kernels.machine.jit import Task
from charrnn.nn.learning.optimizer import AdamW, Optimizer
from charrnn.nn.network import Model
from charrnn.nn.operands import Share
from charrnn.nn.passes import Parametrized
from charrnn.nn.workers import Phase, Workers
from charrnn.system.quota import available_threads

if TYPE_CHECKING:
    from charrnn.nn.reader import Reader

# The first modules of the list; products and cells follow. The helper, which first has to import Numba,
# starts at the end. Quick kernels are in the middle, where both may compile the same one.
_FIRST = ("norm", "loss", "updates", "rows")
_HELPER = """
import json, sys
path, config, bfloat16, beside = json.loads(sys.argv[1])
sys.path[:] = path
from charrnn.nn.learning.compilation import run_helper
run_helper(config, bfloat16, beside)
"""


def start_helper(
    held: ExitStack,
    config: ModelConfig,
    threads: int | None = None,
    bfloat16: bool = False,
    beside: str | None = None,
) -> None:
    """Start a process that compiles the kernels for training such a network, whatever its size.

    It ends by itself, with this process, or when `held` is closed. It only saves time: if it cannot start, or
    would not help, nothing happens. `beside` as in `compile_kernels`.
    """
    cpus = available_threads()
    if jit.CACHE_DIR is None or min(cpus, threads or cpus) < 2:
        return
    if not sys.executable or getattr(sys, "frozen", False):
        return  # no interpreter to start
    if not _missing(_all(config, bfloat16, beside)):
        return
    argument = json.dumps([sys.path, config.to_dict(), bfloat16, beside])
    try:
        # -P: import nothing from the current folder.
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", _HELPER, argument],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )  # fmt: skip
    except OSError:
        return
    assert process.stdin is not None
    held.callback(process.stdin.close)
    # Reap the process when it exits, or it would remain as a zombie.
    threading.Thread(target=process.wait, name="charrnn-helper", daemon=True).start()


def run_helper(config: dict[str, Any], bfloat16: bool, beside: str | None) -> None:
    """The helper's main function: compile the kernels that others need, then the list from its end."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)  # which removes half-written files
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        tasks = _all(ModelConfig(**config), bfloat16, beside)
        for task in (task for task in tasks if task.needed):
            task.run()
        for task in reversed(tasks):
            if not task.done():
                task.run()
    except KeyboardInterrupt:
        pass


def _end_with_parent() -> None:
    os.read(0, 1)  # returns when the pipe's other end is closed, even by a crash
    _thread.interrupt_main()
    time.sleep(2)
    os._exit(1)


def compile_kernels(
    config: ModelConfig, bfloat16: bool = False, beside: str | None = None, *, sharded: bool = False
) -> Iterator[tuple[int, int, bool]]:
    """Compile, or load from the cache, all kernels for training such a network.

    While any has to be compiled, yields (number done, number in all, whether a cache keeps them) several
    times a second. `beside` is a module whose `try_out`, given the number of the network's outputs, calls the
    kernels of what stands beside it. If it is `sharded`, gradients are sums over parts of a batch.
    """
    smallest = _smallest(config)
    tasks = _all(config, bfloat16, beside, sharded=sharded)
    compiling = bool(_missing(tasks))
    errors: list[BaseException] = []

    def work() -> None:
        try:
            for task in tasks:
                task.run()
            _step(smallest, bfloat16, Workers(1), sharded=sharded)  # for kernels that the list lacks
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work, name="charrnn-compile", daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(0.2)
        if compiling and thread.is_alive():
            yield len(tasks) - len(_missing(tasks)), len(tasks), jit.CACHE_DIR is not None
    if errors:
        raise errors[0]


def _smallest(config: ModelConfig) -> ModelConfig:
    """The smallest network that calls the same kernels, and dropout's, which a later run may need."""
    width = 2 if config.kind == "writer" else 4  # of a layer: with a skip connection around the first one
    D = width if config.embedding_size else 0
    return replace(
        config,
        vocab_size=2,
        hidden_size=2,
        embedding_size=D,
        num_layers=2,
        dropout=0.5,
        labels=(),
        targets=(2,) * bool(config.targets),
    )


def _all(
    config: ModelConfig, bfloat16: bool, beside: str | None, *, sharded: bool = False
) -> tuple[Task, ...]:
    """The kernels for training this network, and those of what stands beside it."""
    tasks = _tasks(_smallest(config), bfloat16, sharded=sharded)
    return tasks if beside is None else tasks + _tasks_beside(beside, config.outputs)


@functools.cache
def _tasks_beside(module: str, outputs: int) -> tuple[Task, ...]:
    return tuple(jit.record(lambda: importlib.import_module(module).try_out(outputs)))


@functools.cache
def _tasks(config: ModelConfig, bfloat16: bool = False, *, sharded: bool = False) -> tuple[Task, ...]:
    """The kernels for training this network."""
    return _in_order(jit.record(lambda: _step(config, bfloat16, _ThisThread(), sharded=sharded)))


def _in_order(tasks: list[Task]) -> tuple[Task, ...]:
    """The tasks, each after those that it needs."""

    def place(task: Task) -> int:
        module = task.name.partition(".")[0]
        return _FIRST.index(module) if module in _FIRST else len(_FIRST) + (not task.needed)

    return tuple(sorted(tasks, key=place))


def _missing(tasks: tuple[Task, ...]) -> list[Task]:
    """The tasks whose result is neither in this process nor in the cache."""
    return [task for task in tasks if not task.done()]


def _step(config: ModelConfig, bfloat16: bool, workers: Workers, *, sharded: bool) -> None:
    """A training step and an evaluation."""
    model: Parametrized[Any] = model_of(config, workers=workers, bfloat16=bfloat16)
    if sharded and model.learns_side_by_side:
        model.try_out_side_by_side()
    model.try_out()
    optimizer_of(model, TrainConfig(steps=1, average=1.0)).step(model.gradients, 0.0)


def optimizer_of(model: Parametrized[Any], config: TrainConfig) -> Optimizer:
    """What updates a model's parameters: of a read-out alone, Newton's steps."""
    if not model.config.recurrence.is_made:
        return AdamW(model.parameters, config, model.workers)
    from charrnn.nn.learning.newton import BoundedNewton

    assert isinstance(model, Model)
    return BoundedNewton(model.parameters, config, model.workers, model.features)


def model_of(config: ModelConfig, **how: Any) -> Model | Reader:
    """The model of a configuration; `how` as Model and Reader take it."""
    if config.kind == "writer":
        return Model(config, **how)
    from charrnn.nn.reader import Reader

    return Reader(config, **how)


class _ThisThread(Workers):
    """One worker, the calling thread, so that jit.record sees its calls."""

    def __init__(self) -> None:
        self.size = 1

    def run(self, *phases: Phase) -> None:
        for phase in phases:
            phase(Share(0, 1))
