"""Compiling before the first step: what is on the list, what the cache keeps, and the helping process."""

from __future__ import annotations

import ctypes
import gc
import inspect
import io
import json
import os
import runpy
import shutil
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest
from numba import types
from numba.core.dispatcher import Dispatcher
from support.compiled_loop import compiled_only
from support.environment import environment

from charrnn import api
from charrnn.config import ModelConfig
from charrnn.counts import trial
from charrnn.errors import CorpusError
from charrnn.events import Finished, Started
from charrnn.kernels import loss, norm, rows, updates
from charrnn.kernels.loops import recurrent
from charrnn.kernels.loops.beside import context_tree, grams, mixing
from charrnn.kernels.machine import jit
from charrnn.kernels.machine.jit import Task
from charrnn.kernels.products import gemm
from charrnn.nn.cells import learning
from charrnn.nn.learning import compilation
from charrnn.nn.learning.compilation import compile_kernels, start_helper
from charrnn.tasks import counting

KERNELS = [
    kernel
    for module in (context_tree, gemm, grams, loss, mixing, norm, recurrent, rows, updates)
    for kernel in vars(module).values()
    if hasattr(kernel, "signatures") and kernel.__module__ == module.__name__
]


def add_one(x, n):
    for j in range(n):
        x[j] += 1


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(jit, "CACHE_DIR", tmp_path)
    return tmp_path


# --- what is compiled, and kept -----------------------------------------------------------------


@compiled_only
@pytest.mark.parametrize("cell", learning())
@pytest.mark.parametrize("embedding_size", [0, 5])
def test_training_compiles_nothing_once_the_list_is_done(cell, embedding_size, tmp_path):
    network = ModelConfig(7, cell, embedding_size=embedding_size)
    for _ in compile_kernels(network, beside=trial.__name__):
        pass
    before = [list(kernel.signatures) for kernel in KERNELS]
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("to be or not to be, that is the question\n" * 20, encoding="utf-8")
    settings = {"hidden_size": 3, "num_layers": 3, "dropout": 0.2, "steps": 2, "batch_size": 4}
    events = api.train(
        corpus, out=tmp_path / "m.safetensors", cell=cell, embedding_size=embedding_size, **settings
    )
    assert type(list(events)[-1]).__name__ == "Finished"
    assert [list(kernel.signatures) for kernel in KERNELS] == before


@compiled_only
def test_nor_does_training_in_shards(tmp_path):
    for _ in compile_kernels(ModelConfig(7), sharded=True):
        pass
    before = [list(kernel.signatures) for kernel in KERNELS]
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("to be or not to be, that is the question\n" * 20, encoding="utf-8")
    settings = {"hidden_size": 3, "num_layers": 1, "steps": 2, "batch_size": 4, "seq_len": 8, "shards": 3}
    events = list(api.train(corpus, out=tmp_path / "m.safetensors", **settings))
    assert isinstance(events[-1], Finished)
    assert [list(kernel.signatures) for kernel in KERNELS] == before


@compiled_only
def test_nor_do_counts_beside_the_network(tmp_path, monkeypatch):
    monkeypatch.setattr(counting, "LEAST", 100)  # so that a gate is fitted
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("to be or not to be, that is the question\n" * 20, encoding="utf-8")
    settings = {"hidden_size": 3, "num_layers": 1, "steps": 2, "batch_size": 4, "seq_len": 8, "counts": 0.2}
    before = []
    for event in api.train(corpus, out=tmp_path / "m.safetensors", **settings):
        if isinstance(event, Started):
            for _ in compile_kernels(event.model, beside=trial.__name__):
                pass
            before = [list(kernel.signatures) for kernel in KERNELS]
    assert isinstance(event, Finished)
    assert [list(kernel.signatures) for kernel in KERNELS] == before


@compiled_only
def test_progress_rises_to_the_number_of_kernels(monkeypatch):
    done: set[str] = set()

    def task(name: str) -> Task:
        def run() -> None:
            time.sleep(0.15)
            done.add(name)

        return Task(name, run, done=lambda: name in done)

    tasks = tuple(task(f"rows.{n}") for n in range(6))
    monkeypatch.setattr(compilation, "_tasks", lambda config, bfloat16, **how: tasks)
    seen = list(compile_kernels(ModelConfig(7, "rnn", norm=False)))
    assert seen, "compiling takes a while, and nothing was said"
    assert seen == sorted(seen)
    assert {(total, kept) for _, total, kept in seen} == {(6, jit.CACHE_DIR is not None)}


@compiled_only
def test_nothing_is_said_where_everything_is_there():
    config = ModelConfig(7, "rnn", norm=False)
    for _ in compile_kernels(config):
        pass
    assert list(compile_kernels(config)) == []


def test_what_others_need_comes_before_them():
    names = [task.name.partition("(")[0] for task in compilation._tasks(ModelConfig(7, "gru"))]
    needed = ("tile.float32", "gemm.multiply")
    needing = [
        n for n, name in enumerate(names) if name.startswith(("gemm.", "recurrent.")) and name not in needed
    ]
    assert set(names) >= set(needed)
    assert all(n > names.index(name) for n in needing for name in needed)


def test_an_error_while_compiling_is_raised(monkeypatch):
    def fail() -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(compilation, "_tasks", lambda config, bfloat16, **how: (Task("rows.add", fail),))
    with pytest.raises(ZeroDivisionError):
        list(compile_kernels(ModelConfig(7)))


@compiled_only
def test_a_recorded_kernel_is_not_called(cache):
    kernel, x = jit.njit()(add_one), np.zeros(3)
    (task,) = jit.record(lambda: [kernel(x, 3), kernel(x, 2)])
    assert not x.any()
    assert not task.done()
    task.run()
    assert task.done()
    assert len(list(cache.rglob("*.nbc"))) == 1
    assert jit.record(lambda: kernel(x, 3)) == []  # it is there, so it is called
    assert x.tolist() == [1, 1, 1]


def test_what_a_skipped_kernel_leaves_as_it_was_causes_no_warning():
    garbage = np.array([np.inf], np.float32)
    assert jit.record(lambda: garbage - garbage) == []


@compiled_only
@pytest.mark.parametrize("collects", [True, False])
def test_no_garbage_is_collected_while_a_kernel_is_compiled_and_then_as_before(cache, monkeypatch, collects):
    kernel, compile_it, seen = jit.njit()(add_one), Dispatcher.compile, []

    def watched(self: Any, signature: Any) -> Any:
        seen.append(gc.isenabled())
        return compile_it(self, signature)

    monkeypatch.setattr(Dispatcher, "compile", watched)
    before = gc.isenabled()
    try:
        (gc.enable if collects else gc.disable)()
        kernel(np.zeros(3), 1)
        (task,) = jit.record(lambda: kernel(np.zeros(3, np.float32), 1))
        task.run()
        assert gc.isenabled() == collects
    finally:
        (gc.enable if before else gc.disable)()
    assert seen == [False, False]


@compiled_only
def test_only_what_is_called_at_an_address_has_machine_code(cache):
    def _halved(x: float) -> float:
        return x / 2

    _half = jit.njit()(_halved)

    def halved(x: float) -> float:
        return _half(x)

    kernel = jit.njit()(halved)
    others = numba.njit(lambda x: x / 2)  # of somebody who uses Numba, too
    assert kernel(3.0) == others(3.0) == 1.5
    has_code = [
        library.codegen._engine.is_symbol_defined(compiled.fndesc.llvm_func_name)
        for function in (_half, kernel, others)
        for compiled in function.overloads.values()
        for library in [compiled.library]
    ]
    assert has_code == [False, True, True]


@compiled_only
def test_the_cache_serves_another_process_and_each_type_alike(cache):
    x, y = np.zeros(3), np.zeros(3, np.float32)
    first = jit.njit()(add_one)
    first(x, 3)
    first(y, 2)
    again = jit.njit()(add_one)
    again(y, 1)
    again(x, 1)
    assert x.tolist() == [2, 1, 1]
    assert y.tolist() == [2, 1, 0]
    assert sum(again.stats.cache_hits.values()) == 2
    assert not again.stats.cache_misses


@compiled_only
def test_the_cache_serves_a_copy_of_the_source_alike(cache, tmp_path):
    for folder in ("here", "there"):
        path = tmp_path / folder / "source.py"
        path.parent.mkdir()
        path.write_text(inspect.getsource(add_one), encoding="utf-8")
        kernel, x = jit.njit()(runpy.run_path(str(path), run_name="source")["add_one"]), np.zeros(3)
        kernel(x, 2)
        assert x.tolist() == [1, 1, 0]
    assert sum(kernel.stats.cache_hits.values()) == 1


@compiled_only
@pytest.mark.parametrize("damage", [b"", b"\x80", b"no pickle at all"])
def test_a_damaged_file_is_compiled_anew(cache, damage):
    jit.njit()(add_one)(np.zeros(3), 1)
    (path,) = cache.rglob("*.nbc")
    path.write_bytes(damage)
    x = np.zeros(3)
    jit.njit()(add_one)(x, 3)
    assert x.tolist() == [1, 1, 1]
    again = jit.njit()(add_one)
    again(x, 1)
    assert x.tolist() == [2, 1, 1]
    assert sum(again.stats.cache_hits.values()) == 1


@compiled_only
@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
@pytest.mark.parametrize(
    "held",
    ["numba.core.compiler_lock.global_compiler_lock", "charrnn.kernels.machine.native_calls._compiling"],
)
def test_a_child_that_is_forked_while_a_thread_compiles_can_compile(held, tmp_path):
    module, _, lock = held.rpartition(".")
    program = f"""
import os, signal, threading, time
import numpy as np
from {module} import {lock} as lock
from charrnn.kernels.machine import jit, native_calls

@jit.njit()
def add_one(x):
    x[0] += 1

def nothing(n: int) -> None:
    pass

compiles = threading.Event()
def compile():
    with lock:
        compiles.set()
        time.sleep(0.3)

threading.Thread(target=compile, daemon=True).start()
compiles.wait()
child = os.fork()
if not child:
    signal.alarm(30)
    x = np.zeros(3)
    add_one(x)
    native_calls.address_of(nothing)
    os._exit(int(x[0]))
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    path = tmp_path / "program.py"
    path.write_text(program, encoding="utf-8")
    words = [sys.executable, "-W", "ignore", str(path)]  # later versions warn of such a fork
    variables = environment(CHARRNN_CACHE_DIR=str(tmp_path / "cache"))
    run = subprocess.run(words, capture_output=True, text=True, env=variables, timeout=120)
    assert run.stdout == "1\n", run.stderr


@compiled_only
def test_what_killed_processes_left_in_the_cache_goes(cache):
    kernel, x = jit.njit()(add_one), np.zeros(3)
    old, new = cache / "a.tmp", cache / "b.tmp"
    for path, age in ((old, 2 * jit.LITTER_SECONDS), (new, 1.0)):
        path.write_bytes(b"half")
        os.utime(path, (time.time() - age, time.time() - age))
    kernel(x, 3)
    assert {path.suffix for path in cache.iterdir() if path.is_file()} == {".tmp", ".nbc"}
    assert new.exists()  # another process may be writing it
    assert not old.exists()


@compiled_only
def test_a_full_disk_is_no_error(cache, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    kernel, x = jit.njit()(add_one), np.zeros(3)
    monkeypatch.setattr(os, "replace", full)
    kernel(x, 3)
    assert x.tolist() == [1, 1, 1]
    assert not [path for path in cache.rglob("*") if path.is_file()]


@compiled_only
@pytest.mark.parametrize("damage", [b"", b"\x80", None])
def test_code_with_an_address_is_kept_likewise(cache, monkeypatch, damage):
    """`damage` is what the cache's file holds; None: the disk is full."""

    def called() -> list[float]:
        x = np.zeros(3)
        code = jit.cfunc(types.void(types.CPointer(types.float64), types.intp), add_one)
        code.compile()
        ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_ssize_t)(code.address)(x.ctypes.data, 2)
        return x.tolist()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    if damage is None:
        monkeypatch.setattr(os, "replace", full)
    assert called() == [1, 1, 0]
    files = [path for path in cache.rglob("*") if path.is_file()]
    assert len(files) == (damage is not None)
    for path in files:
        path.write_bytes(damage)
    assert called() == [1, 1, 0]


@compiled_only
def test_without_a_cache_folder_everything_works(monkeypatch):
    monkeypatch.setattr(jit, "CACHE_DIR", None)
    kernel, x = jit.njit()(add_one), np.zeros(3)
    (task,) = jit.record(lambda: kernel(x, 3))
    assert not task.done()
    kernel(x, 3)
    assert task.done()
    assert x.tolist() == [1, 1, 1]


# --- the helper ---------------------------------------------------------------------------------


class FakeProcess:
    """What Popen would have started."""

    def __init__(self, command):
        self.command, self.stdin = command, io.BytesIO()

    def wait(self):
        return 0


@pytest.fixture
def started(monkeypatch):
    """The helpers that were asked for, on two CPUs and with nothing cached."""
    processes: list[FakeProcess] = []

    def start(command, **options):
        processes.append(FakeProcess(command))
        return processes[-1]

    monkeypatch.setattr(subprocess, "Popen", start)
    monkeypatch.setattr(jit, "CACHE_DIR", Path("anywhere"))
    monkeypatch.setattr(compilation, "available_threads", lambda: 2)
    monkeypatch.setattr(
        compilation, "_tasks", lambda config, bfloat16, **how: (Task("rows.add", print, done=lambda: False),)
    )
    monkeypatch.setattr(compilation, "_tasks_beside", lambda module, outputs: ())
    return processes


def test_the_helper_is_told_the_network_and_the_precision(started):
    config = ModelConfig(7, "gru", norm=False)
    with ExitStack() as held:
        start_helper(held, config, bfloat16=True, beside="some.module")
        (process,) = started
        assert json.loads(process.command[-1]) == [sys.path, config.to_dict(), True, "some.module"]
        assert not process.stdin.closed
    assert process.stdin.closed


def test_no_helper_starts_where_it_is_of_no_use(started, monkeypatch):
    held = ExitStack()
    start_helper(held, ModelConfig(7), threads=1)
    for name, value in (
        ("jit.CACHE_DIR", None),
        ("available_threads", lambda: 1),
        ("_tasks", lambda config, bfloat16, **how: (Task("rows.add", print),)),
        ("sys.executable", None),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(f"charrnn.nn.learning.compilation.{name}", value)
            start_helper(held, ModelConfig(7))
    assert started == []


def test_a_helper_that_cannot_start_is_no_error(started, monkeypatch):
    asked = []

    def refuse(command: list[str], **_: object) -> None:
        asked.append(command)
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    with ExitStack() as held:
        start_helper(held, ModelConfig(7))
    assert len(asked) == 1


def test_a_run_that_does_not_begin_lets_the_helper_end(started, tmp_path):
    (tmp_path / "empty.txt").touch()
    with pytest.raises(CorpusError):
        next(api.train(tmp_path / "empty.txt", out=tmp_path / "m.safetensors"))
    (process,) = started
    assert process.stdin.closed


def helping(cache: Path, beside: str | None = None, **settings: object) -> subprocess.Popen[bytes]:
    """A helper's process, whose stdin is the pipe that it watches."""
    config = ModelConfig(1, **settings)  # type: ignore[arg-type]
    told = json.dumps([sys.path, config.to_dict(), False, beside])
    return subprocess.Popen(
        [sys.executable, "-P", "-c", compilation._HELPER, told],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env=environment(CHARRNN_CACHE_DIR=str(cache)),
    )  # fmt: skip


@compiled_only
def test_the_helper_ends_with_its_parent_and_leaves_no_litter(tmp_path):
    with helping(tmp_path) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        while not list(tmp_path.rglob("*.nb*")):  # it is at work
            assert process.poll() is None
        process.stdin.close()
        assert process.stdout.read() == b""
        assert process.wait(60) == 0
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) < 10
    assert not [path for path in files if path.suffix not in (".nbc", ".nbi")]


@compiled_only
def test_the_helper_compiles_all_that_training_calls(tmp_path):
    settings = {"cell": "rnn", "norm": False, "residual": False, "embedding_size": 0}
    for _ in compile_kernels(ModelConfig(1, **settings), beside=trial.__name__):
        pass
    assert jit.CACHE_DIR is not None
    # All but what others need, what is called at its address, and kernels: the helper need not compile each.
    missing = ("gemm.multiply-*", "equations.*", "rows.*", "grams.merge-*", "mixing.inputs-*")
    cache = tmp_path / jit.CACHE_DIR.name
    shutil.copytree(jit.CACHE_DIR, cache, ignore=shutil.ignore_patterns("*.tmp", *missing))
    with helping(tmp_path, trial.__name__, **settings) as process:
        assert process.stdout is not None
        assert process.stdout.read() == b""  # until it ends by itself: its stdin stays open
        assert process.wait(60) == 0
    assert all(list(cache.glob(pattern)) for pattern in missing)
    program = f"""
from charrnn.nn.learning import compilation
from charrnn.config import ModelConfig
tasks = compilation._all(ModelConfig(5, **{settings}), False, {trial.__name__!r})
print(sum(task.done() for task in tasks), len(tasks))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True,
        env=environment(CHARRNN_CACHE_DIR=str(tmp_path)),
    )  # fmt: skip
    count, total = done.stdout.split()
    assert count == total != "0"
