"""A cell is one module: one that charrnn does not have is added here, and one that it has is taken away."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.cells import MATRIX, SLSTM
from support.central_differences import check_gradients, random_state
from support.compiled_loop import compiled_only
from support.environment import environment
from support.own_parts import SIZES, check_compression, check_learning, check_mixture, check_numbers
from support.processes import copy_package

from charrnn import api
from charrnn.checkpoint.model_file import Checkpoint
from charrnn.config import ModelConfig, SampleConfig, TextConfig
from charrnn.inference import numpy_network
from charrnn.inference.engines import CompiledPath, Cursor, PlainPath
from charrnn.inference.mixture import MixedNetwork, blend
from charrnn.inference.numpy_network import PlainNetwork
from charrnn.kernels import activations, exact_layers
from charrnn.kernels.machine.jit import njit
from charrnn.nn import cells as table
from charrnn.nn.cell import Cell, Stage
from charrnn.nn.network import Model, initial_tensors
from charrnn.nn.workers import Workers
from charrnn.vocabulary import Vocabulary


def forward(of: Any) -> tuple[Stage, ...]:
    """The minimal gated unit (Zhou et al. 2016), its recurrent product before its gate, as in PyTorch's GRU.

    f = sigma(W_if x + b_if + W_hf h + b_hf)
    n = tanh(W_in x + b_in + f (W_hn h + b_hn))
    h' = (1 - f) h + f n
    """
    tanh, blend = of.tanh, of.blend

    def renew(f: Any, n: Any, n_h: Any, h: Any) -> Any:
        n = tanh(n + f * n_h)
        return n, blend(h, n, f)

    return (Stage(renew, ("n", "h")),)


def backward(of: Any) -> Stage:
    through_tanh, complement = of.through_tanh, of.complement

    def gradients(f: Any, n: Any, n_h: Any, h: Any, d_h: Any) -> Any:
        d_n = through_tanh(d_h * f, n)
        return d_n * n_h + d_h * (n - h), d_n, d_n * f, d_h * complement(f)

    return Stage(gradients, ("f", "n", "n_h", "h"))


MGU = Cell(
    kind="mgu",
    place=9,
    gates={"f": "sigmoid", "n": None},
    separate_hidden_bias=True,
    forward=forward,
    backward=backward,
)


def two_memories(of: Any) -> tuple[Stage, ...]:
    """Nobody's cell: three gates of three kinds, two memories, and gates that are left to the equations."""
    sigmoid, tanh = of.sigmoid, of.tanh

    def remember(a: Any, b: Any, r: Any, p: Any, q: Any) -> Any:
        return p * a + b, q * a + r

    def show(e: Any, p: Any, q: Any) -> Any:
        s, t = sigmoid(e + p), tanh(q)
        return s, t, s * t

    return Stage(remember, ("p", "q")), Stage(show, ("s", "t", "h"))


def through_two_memories(of: Any) -> Stage:
    through_sigmoid, through_tanh = of.through_sigmoid, of.through_tanh

    def gradients(
        a: Any, p: Any, q: Any, s: Any, t: Any, d_h: Any, d_p: Any, d_q: Any
    ) -> Any:  # fmt: skip
        d_e = through_sigmoid(d_h * t, s)
        d_p, d_q = d_p + d_e, d_q + through_tanh(d_h * s, t)
        return d_p * p + d_q * q, d_p, d_q, d_e, d_p * a, d_q * a

    return Stage(gradients, ("a", "b", "r", "e", "p", "q"))


MEMORIES = Cell(
    kind="memories",
    place=10,
    gates={"a": "sigmoid", "b": "tanh", "r": "relu", "e": None},
    state=("h", "p", "q"),
    kept=("s", "t"),
    forward=two_memories,
    backward=through_two_memories,
)
OWN = [MGU, MEMORIES, MATRIX, SLSTM]


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "CELLS", dict(table.CELLS))
    for cell in OWN:
        table.register(cell)


@pytest.fixture(scope="module")
def workers() -> Workers:
    return Workers(2)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "corpus.txt"
    path.write_text("to be or not to be, that is the question\n" * 60, encoding="utf-8")
    return path


def train(corpus: Path, out: Path, cell: Cell, **settings: Any) -> list[Any]:
    return list(api.train(corpus, out=out, cell=cell.kind, **SIZES, steps=30, evaluations=3, **settings))


@compiled_only
@pytest.mark.parametrize("cell", OWN, ids=lambda cell: cell.kind)
def test_a_cell_of_ones_own_learns_and_goes_on_after_an_interruption(cell, tmp_path):
    check_learning(tmp_path, {}, cell=cell.kind)


def untrained(cell: Cell, characters: str = "\nabcdef", **settings: Any) -> Checkpoint:
    config = ModelConfig(len(characters), cell.kind, hidden_size=18, embedding_size=5, **settings)
    return Checkpoint(config, Vocabulary(characters), TextConfig(), initial_tensors(config, 1))


@compiled_only
@pytest.mark.parametrize("cell", OWN, ids=lambda cell: cell.kind)
@pytest.mark.parametrize("norm", [False, True])
def test_a_cell_of_ones_own_writes_the_same_bits_on_both_paths(cell, norm):
    from charrnn.inference import writing_loop as kernels

    network = PlainNetwork(untrained(cell, norm=norm))
    V = network.vocab_size
    paths = PlainPath(network, SampleConfig()), CompiledPath(network, SampleConfig(), kernels, threads=1)
    random = np.random.default_rng(1)
    numbers = [random.random(n) for n in (40, 200, 90)]  # one after another is done: rows change places
    written, cursors = [], []
    for path in paths:
        cursors.append([Cursor(V, network.initial_state()) for _ in numbers])
        written.append(path.write(cursors[-1], numbers, -1))
    for own, other in zip(*written, strict=True):
        assert np.array_equal(own, other)
    assert len(set(written[0][1].tolist())) > 2
    for own, other in zip(*cursors, strict=True):
        assert own.state.tobytes() == other.state.tobytes()
        assert np.isfinite(own.state).all()


@compiled_only
@pytest.mark.parametrize("cell", OWN, ids=lambda cell: cell.kind)
def test_a_mixture_with_a_cell_of_ones_own_writes_the_same_on_both_paths(cell):
    check_mixture(MixedNetwork(blend([(untrained(cell), 1), (untrained(MGU, "\nabxy"), 2)])))


@compiled_only
@pytest.mark.parametrize("cell", OWN, ids=lambda cell: cell.kind)
def test_a_cell_of_ones_own_compresses_to_the_same_bytes_on_both_paths(cell, monkeypatch):
    check_compression(untrained(cell), monkeypatch)


@compiled_only
@pytest.mark.parametrize("cell", OWN, ids=lambda cell: cell.kind)
def test_training_and_writing_compute_the_same_numbers(cell, workers):
    check_numbers(untrained(cell), workers)


@compiled_only
@pytest.mark.parametrize("cell", OWN, ids=lambda cell: cell.kind)
def test_the_gradient_of_a_cell_of_ones_own_is_central_differences(cell, workers):
    rng = np.random.default_rng(3)
    config = ModelConfig(4, cell.kind, hidden_size=4, num_layers=2, embedding_size=3)
    model = Model(config, workers=workers, dtype=np.float64)
    shapes = config.parameter_shapes()
    model.load_tensors({name: 0.5 * rng.standard_normal(shape) for name, shape in shapes.items()})
    x, y = rng.integers(0, 4, (2, 5, 2), np.int32)
    reset = np.zeros((5, 2), np.bool_)
    reset[2, 1] = True
    check_gradients(model, x, y, random_state(rng, model, 2), reset)


def test_every_family_of_functions_has_what_equations_use():
    used = "sigmoid", "tanh", "relu", "exp", "blend", "number", "row_sums"
    for family in (activations, exact_layers, numpy_network):
        assert all(callable(getattr(family, name)) for name in used)
    for name in ("complement", "through_sigmoid", "through_tanh", "through_relu"):
        assert callable(getattr(activations, name))


def test_exp_has_the_same_bits_on_both_paths():
    exp = njit()(lambda x: exact_layers.exp(x))
    x = np.float32([0, -0.0, -1e-9, -0.3466, -1, -86.9, -87, -88, -np.inf, *-np.geomspace(1e-6, 90, 2000)])
    own = np.array([exp(one) for one in x], np.float32)
    assert own.tobytes() == numpy_network.exp(x).tobytes()
    np.testing.assert_allclose(own, np.exp(np.maximum(x, -87), dtype=np.float64), rtol=2e-7)


# --- a cell that is taken away -----------------------------------------------------------------


@pytest.fixture
def without_lstm(tmp_path: Path) -> Path:
    """A folder with a copy of the package that has no LSTM."""
    copy_package(tmp_path)
    (tmp_path / "charrnn" / "nn" / "cells" / "lstm.py").unlink()
    return tmp_path


def test_a_cell_whose_file_is_deleted_is_no_choice_any_more_while_all_else_works(without_lstm, corpus):
    def run(*words: Any) -> Any:
        variables = environment(PYTHONPATH=os.fspath(without_lstm))
        return subprocess.run(
            [sys.executable, "-m", "charrnn", *map(str, words)],
            cwd=without_lstm, env=variables, capture_output=True, text=True, timeout=200,
        )  # fmt: skip

    assert "--cell NAME Recurrent layer: gru, rnn, esn, ntm" in " ".join(
        run("train", "--help").stdout.split()
    )
    refused = run("train", corpus, "--cell", "lstm")
    assert refused.returncode == 2
    assert "gru" in refused.stderr
    out = without_lstm / "m.safetensors"
    small = ("--hidden-size", 4, "--num-layers", 1, "--steps", 2, "-q", "-o", out)
    assert (trained := run("train", corpus, *small)).returncode == 0, trained.stderr
    assert json.loads(run("info", out, "--json").stdout)["model"]["cell"] == "gru"
    assert len(run("sample", "-m", out, "--length", 20, "--seed", 1).stdout) >= 20
    assert run("eval", out, corpus).returncode == 0
