"""Compiles, on two cores, what most tests call, before two workers of pytest would both compile it.

Nor do tests then write and read in NumPy, which takes far longer, for as long as the loop for it is compiled.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.environment import ROOT, environment

WARMING = (sys.executable, "-m", "support.warming")
# pytest rewrites the assertions of each module, once: two workers would both do so at the same time.
ALONE = ("-p", "no:xdist", "-p", "no:cacheprovider")
COLLECTING = (sys.executable, "-m", "pytest", "--collect-only", *ALONE, "tests")


def warm_up(config: pytest.Config) -> None:
    """Where all tests are to run, on several workers. What is compiled already takes a second."""
    selects = config.option.keyword or config.option.markexpr
    is_whole = config.args_source is pytest.Config.ArgsSource.TESTPATHS and not selects
    if is_whole and config.getoption("dist", "no") != "no":
        variables = environment(PYTHONPATH=os.pathsep.join((ROOT, os.path.join(ROOT, "tests"))))
        commands = [(*WARMING, part) for part in PARTS]
        if not [*Path(ROOT, "tests", "__pycache__").glob("test_*-pytest-*.pyc")]:
            commands.append(COLLECTING)
        processes = [
            subprocess.Popen(command, env=variables, cwd=ROOT, stdout=subprocess.DEVNULL)
            for command in commands
        ]
        for process in processes:
            process.wait()


def training() -> None:
    """In float32, as users train, and in float64, as finite differences need it."""
    import numpy as np
    from support.cells import CELLS

    from charrnn.config import ModelConfig
    from charrnn.nn.learning.compilation import compile_kernels
    from charrnn.nn.network import Model
    from charrnn.nn.workers import Workers

    x = y = np.zeros((2, 1), np.int32)
    reset = np.zeros((2, 1), np.bool_)
    for cell, nonlinearity in CELLS:
        for embedding_size in (0, 1):
            for _ in compile_kernels(ModelConfig(2, cell, nonlinearity, embedding_size=embedding_size)):
                pass
            config = ModelConfig(2, cell, nonlinearity, 2, embedding_size=2 * embedding_size, dropout=0.5)
            model = Model(config, workers=Workers(1), dtype=np.float64)
            model.gradient(x, y, None, reset, dropout_seed=1)


def writing() -> None:
    from support.cells import CELLS
    from support.toy_models import toy

    from charrnn.inference.engines import Kind, Loader
    from charrnn.inference.numpy_network import PlainNetwork

    for cell, nonlinearity in CELLS:
        for kind in (Kind(predicts=True), Kind(steered=True)):
            loader = Loader(kind)
            loader.account(100.0, 1000)  # so slow that to compile is worth it
            loader.consider(1000, PlainNetwork(toy(cell=cell, nonlinearity=nonlinearity)))
            assert loader._thread is not None
            loader._thread.join()
            assert loader.kernels is not None


def reading() -> None:
    """What stands beside a network, too."""
    import numpy as np
    from support.toy_models import toy

    from charrnn import api
    from charrnn.counts import trial
    from charrnn.counts.growing import GrowingCounts

    model, ids = toy(), np.zeros(2, np.int32)
    api.score(model, "ab\na\n")
    trial.try_out(len(model.vocabulary))
    counts = GrowingCounts(model.vocabulary, model.text)
    counts.read(np.zeros((2, len(model.vocabulary)), np.float32), ids, ids, ids == 1, counts.nothing())


PARTS = {"learning": (training,), "using": (writing, reading)}

if __name__ == "__main__":
    for part in PARTS[sys.argv[1]]:
        part()
