"""Compiles, on two cores, what most tests call, before two workers of pytest would both compile it.

Nor do tests then write and read in NumPy, which takes far longer, for as long as the loop for it is compiled.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from support.environment import ROOT, environment


def warm_up(config: pytest.Config) -> None:
    """Where all tests are to run, on several workers. What is compiled already takes a second."""
    selects = config.option.keyword or config.option.markexpr
    is_whole = config.args_source is pytest.Config.ArgsSource.TESTPATHS and not selects
    if is_whole and config.getoption("dist", "no") != "no":
        variables = environment(PYTHONPATH=os.pathsep.join((ROOT, os.path.join(ROOT, "tests"))))
        words = (sys.executable, "-m", "support.warming")
        for process in [subprocess.Popen([*words, part], env=variables) for part in PARTS]:
            process.wait()


def training() -> None:
    from support.cells import CELLS
    from support.toy_models import toy

    from charrnn import api
    from charrnn.config import ModelConfig
    from charrnn.nn.learning.compilation import compile_kernels

    for cell, nonlinearity in CELLS:
        for embedding_size in (0, 1):
            for _ in compile_kernels(ModelConfig(2, cell, nonlinearity, embedding_size=embedding_size)):
                pass
    api.score(toy(), "ab\na\n")


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


PARTS = {"training": training, "writing": writing}

if __name__ == "__main__":
    PARTS[sys.argv[1]]()
