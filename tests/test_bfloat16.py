"""Products in bfloat16 against float64, networks against float32, and what holds on a CPU without."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from support.compiled_loop import AVX2, has_longer_vectors
from support.environment import ROOT, environment
from support.processes import failed, run, run_unkept

from charrnn import api
from charrnn.checkpoint import model_file
from charrnn.checkpoint.model_file import resume_path
from charrnn.cli.views.progress import compiling
from charrnn.config import ModelConfig, TrainConfig
from charrnn.errors import ConfigError, TrainingError
from charrnn.events import Compiling, Started, Step
from charrnn.kernels.machine import jit
from charrnn.kernels.machine.aligned import aligned
from charrnn.kernels.machine.prefetch import NOTHING
from charrnn.kernels.products import bfloat16, gemm
from charrnn.kernels.products.bfloat16 import pairs, whole_pairs
from charrnn.kernels.products.gemm import PANEL, padded, panels
from charrnn.kernels.products.tile import HAS_BFLOAT16
from charrnn.nn import precision
from charrnn.nn.cells import learning
from charrnn.nn.learning.optimizer import AdamW
from charrnn.nn.network import Model, initial_tensors
from charrnn.nn.workers import Workers

TEXT = "she sells sea shells by the sea shore, and the shells she sells are sea shells.\n" * 40
SIZES = [1, 2, 15, 16, 17, 31, 32, 33, 65, 100]

needs_bfloat16 = pytest.mark.skipif(not HAS_BFLOAT16, reason="this CPU has no AVX512_BF16")

NETWORKS = {
    "lstm, all on": ModelConfig(65, hidden_size=40, embedding_size=40, dropout=0.2),
    "lstm, plain": ModelConfig(33, hidden_size=64, embedding_size=64, norm=False, residual=False),
    "lstm, one-hot, odd": ModelConfig(7, hidden_size=33, num_layers=3, embedding_size=0),
    "gru": ModelConfig(65, "gru", hidden_size=48, embedding_size=20, norm=False, dropout=0.1),
    "gru, one-hot, odd": ModelConfig(40, "gru", hidden_size=31, embedding_size=0, residual=False),
    "rnn": ModelConfig(65, "rnn", hidden_size=129, embedding_size=129),
    "rnn, relu, odd": ModelConfig(9, "rnn", "relu", 21, 2, 5, norm=False),
    "one unit": ModelConfig(2, "rnn", hidden_size=1, num_layers=1, embedding_size=1, norm=False),
}


@pytest.fixture(scope="module")
def workers() -> Workers:
    return Workers(2)


def rounded(x):
    """To the nearest bfloat16, ties to even, as float32."""
    bits = np.asarray(x, np.float32).view(np.uint32).astype(np.uint64)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16 << 16).astype(np.uint32).view(np.float32)


def unpaired(words):
    """Words (..) -> the numbers in them, (.., 2)."""
    bits = np.ascontiguousarray(words).view(np.uint32)
    return np.stack([bits << 16, bits & 0xFFFF0000], -1).view(np.float32)


def activations(rng, *shape):
    """(.., n) random numbers in rows of padded n."""
    rows = aligned((*shape[:-1], padded(shape[-1])), np.float32)
    rows[..., : shape[-1]] = rng.standard_normal(shape)
    return rows


def weight(rng, N, K):
    """A random W (N, K), and its panels."""
    W = rng.standard_normal((N, K)).astype(np.float32)
    wide = np.zeros((panels(N) * PANEL, K), np.float32)
    wide[:N] = W
    stored = aligned((panels(N), K, PANEL), np.float32)
    stored[:] = wide.reshape(panels(N), PANEL, K).transpose(0, 2, 1)
    return W, stored


def room(T, B, n):
    return aligned((T, B, whole_pairs(n) + PANEL // 2), np.float32)


# --- rounding --------------------------------------------------------------------------------------


@needs_bfloat16
def test_numbers_are_rounded_to_the_nearest_and_ties_to_even():
    ones = np.float32(1) + np.arange(64, dtype=np.float32) * np.float32(2**-9)  # all four kinds of tie
    special = np.array([0, -0.0, np.inf, -np.inf, 3.4e38, -3.4e38, 1e-38, 2e-38], np.float32)
    rows = aligned((1, 2, padded(64)), np.float32)
    rows[0, 0, :64], rows[0, 1, :8] = ones, special
    words = aligned((1, 2, padded(64)), np.float32)
    bfloat16.round_steps(words, rows, 64, 0, 2)
    got = unpaired(words[0, :, :64])
    assert (got[..., 1] == 0).all()  # there is no second step
    assert np.array_equal(got[0, :, 0], rounded(ones))
    expected = rounded(special)
    expected[6] = 0  # below the smallest normal number
    assert np.array_equal(got[1, :8, 0], expected)
    rows[0, 0, 3] = np.nan
    bfloat16.round_steps(words, rows, 64, 0, 1)
    got = unpaired(words[0, 0, :64])[..., 0]
    assert np.isnan(got[3])
    assert np.isfinite(np.delete(got, 3)).all()


@needs_bfloat16
@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("T", [1, 2, 5])
def test_steps_are_paired_column_by_column(n, T):
    rng = np.random.default_rng(n)
    rows = activations(rng, T, 5, n)
    words = aligned((pairs(T), 5, rows.shape[2]), np.float32)
    bfloat16.round_steps(words, rows, n, 1, 4)
    got = unpaired(words)[..., :n, :]
    even, odd = rounded(rows[0::2, :, :n]), np.zeros((pairs(T), 5, n), np.float32)
    odd[: T // 2] = rounded(rows[1::2, :, :n])
    assert np.array_equal(got[:, 1:4, :, 0], even[:, 1:4])
    assert np.array_equal(got[:, 1:4, :, 1], odd[:, 1:4])
    assert not got[:, [0, 4]].any()  # other columns are other threads'


@needs_bfloat16
@pytest.mark.parametrize("K", SIZES)
@pytest.mark.parametrize("N", [1, 16, 33, 70])
def test_weights_and_their_transposes_are_paired(N, K):
    W, stored = weight(np.random.default_rng(K), N, K)
    forward = aligned((panels(N), whole_pairs(K), PANEL), np.float32)
    backward = aligned((panels(K), whole_pairs(N), PANEL), np.float32)
    bfloat16.round_panels(forward, stored, 0, panels(N))
    bfloat16.round_transposed(backward, stored, 0, panels(K))
    for words, matrix in ((forward, W), (backward, W.T)):
        rows, columns = matrix.shape
        got = unpaired(words).transpose(0, 2, 1, 3).reshape(panels(rows) * PANEL, -1)
        assert np.array_equal(got[:rows, :columns], rounded(matrix))
        assert not got[rows:].any()
        assert not got[:, columns:].any()


# --- products --------------------------------------------------------------------------------------


@needs_bfloat16
@pytest.mark.parametrize(
    ("T", "B", "K", "N"), [(1, 1, 1, 1), (3, 5, 33, 70), (2, 27, 128, 96), (4, 3, 65, 31)]
)
def test_products_are_those_of_the_rounded_operands(T, B, K, N):
    rng = np.random.default_rng(K)
    A, bias = activations(rng, T, B, K), activations(rng, N)
    D = activations(rng, T, B, N)
    W, stored = weight(rng, N, K)
    words = room(T, B, K)
    unit = gemm.unit("bfloat16", words)
    forward = aligned((panels(N), whole_pairs(K), PANEL), np.float32)
    bfloat16.round_panels(forward, stored, 0, panels(N))
    C, plus = aligned(D.shape, np.float32), aligned(D.shape, np.float32)
    for b0, b1 in ((0, B // 2), (B // 2, B)):
        gemm.product(unit, C, bias, A, forward, K, (b0, b1), NOTHING)
        gemm.product(unit, plus, D, A, forward, K, (b0, b1), NOTHING)
    x, w = rounded(A[..., :K]).astype(np.float64), rounded(W).astype(np.float64)
    exact = x @ w.T
    accuracy = 2.0**-23 * (K + 1) * (abs(x) @ abs(w).T + abs(bias[:N]) + abs(D[..., :N]))
    assert (abs(C[..., :N] - (exact + bias[:N])) <= accuracy).all()
    assert (abs(plus[..., :N] - (exact + D[..., :N])) <= accuracy).all()
    coarse = 2.0**-7 * (abs(A[..., :K]) @ abs(W).T + 1e-6)
    assert (abs(C[..., :N] - bias[:N] - A[..., :K] @ W.T) <= coarse).all()
    whole = aligned(D.shape, np.float32)
    gemm.product(unit, whole, bias, A, forward, K, (0, B), NOTHING)
    assert whole.tobytes() == C.tobytes()


@needs_bfloat16
@pytest.mark.parametrize(("T", "B", "K", "N"), [(1, 1, 1, 1), (7, 5, 33, 70), (30, 41, 64, 40)])
def test_outer_products_are_those_of_the_rounded_operands(T, B, K, N):
    rng = np.random.default_rng(K)
    A, G = activations(rng, T, B, K), activations(rng, T, B, N)
    paired = []
    for rows, n in ((A, K), (G, N)):
        words = aligned((pairs(T), B, rows.shape[2]), np.float32)
        bfloat16.round_steps(words, rows, n, 0, B)
        paired.append(words.reshape(-1, rows.shape[2]))
    C, zero = aligned((panels(N), K, PANEL), np.float32), aligned((PANEL,), np.float32)
    unit = gemm.unit("bfloat16", room(1, 1, 1))
    gemm.outer_product(unit, C, zero, *paired, pairs(T) * B, (0, panels(N), 0, K))
    a, g = (rounded(x[..., :n]).reshape(T * B, n).astype(np.float64) for x, n in ((A, K), (G, N)))
    got = C.transpose(0, 2, 1).reshape(-1, K)[:N]
    accuracy = 2.0**-23 * (T * B + 1) * (abs(g).T @ abs(a))
    assert (abs(got - g.T @ a) <= accuracy).all()


# --- networks --------------------------------------------------------------------------------------


def random_window(config, T, B):
    rng = np.random.default_rng(3)
    V = config.vocab_size
    reset = rng.random((T, B)) < 0.1
    x = np.where(reset, V, rng.integers(0, V, (T, B))).astype(np.int32)
    return x, rng.integers(0, V, (T, B)).astype(np.int32), reset


def make(config, workers, *, bfloat16):
    model = Model(config, workers=workers, bfloat16=bfloat16)
    model.load_tensors(initial_tensors(config, 4))
    return model


@needs_bfloat16
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize(("T", "B"), [(11, 7), (8, 6)])
def test_gradients_are_those_of_float32_but_for_rounding(name, T, B, workers):
    config = NETWORKS[name]
    x, y, reset = random_window(config, T, B)
    losses, gradients = [], []
    for rounds in (False, True):
        model = make(config, workers, bfloat16=rounds)
        losses.append(model.gradient(x, y, None, reset, dropout_seed=5)[0])
        gradients.append(model.gradients.tensors())
    assert losses[1] == pytest.approx(losses[0], abs=2e-3)
    a, b = (np.concatenate([g[n].ravel() for n in g]).astype(np.float64) for g in gradients)
    assert np.linalg.norm(a - b) < 2e-2 * np.linalg.norm(a)
    assert a @ b > 0.999 * np.linalg.norm(a) * np.linalg.norm(b)
    for key, exact in gradients[0].items():  # none of them is lost in the sum
        assert np.linalg.norm(gradients[1][key] - exact) <= 5e-2 * np.linalg.norm(exact) + 1e-7, key


@needs_bfloat16
@pytest.mark.parametrize("name", NETWORKS)
def test_any_number_of_threads_gives_the_same_bits(name):
    config = NETWORKS[name]
    x, y, reset = random_window(config, 9, 31)
    results = set()
    for threads in (1, 2, 3, 5):
        model = make(config, Workers(threads), bfloat16=True)
        loss, state = model.gradient(x, y, None, reset, dropout_seed=5)
        layers = [a.tobytes() for layer in state.layers for a in layer]
        results.add((loss, model.gradients.flat.tobytes(), *layers))
    assert len(results) == 1


@pytest.mark.skipif(HAS_BFLOAT16, reason="the tests above are run as they are")
@pytest.mark.skipif(jit.JIT_DISABLED, reason="instructions are compiled")
def test_the_same_holds_where_other_instructions_compute_what_those_do():
    """On any CPU, so that none is needed to see what is wrong around them."""
    assert jit.CACHE_DIR is not None
    kept = str(jit.CACHE_DIR.parent / "emulated")
    one = "test_gradients_are_those_of_float32_but_for_rounding[8-6-rnn, relu, odd]"
    words = "-p", "support.emulated_bfloat16", "-p", "no:cacheprovider", "-q", "-n", "0", f"{__file__}::{one}"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *words], capture_output=True, cwd=ROOT, timeout=600,
        env=environment(CHARRNN_CACHE_DIR=kept, PYTHONPATH=f"{ROOT}{os.pathsep}{ROOT}/tests"),
    )  # fmt: skip
    assert (done.returncode, done.stdout[:1]) == (0, b"."), done.stdout.decode()


@needs_bfloat16
@pytest.mark.parametrize("cell", learning())
def test_ten_steps_lose_what_they_lose_in_float32(cell, workers):
    config = ModelConfig(20, cell, hidden_size=48, embedding_size=48)
    x, y, reset = random_window(config, 16, 8)
    losses = []
    for rounds in (False, True):
        model = make(config, workers, bfloat16=rounds)
        adam = AdamW(model.parameters, TrainConfig(steps=10), workers)
        run = []
        for _ in range(10):
            run.append(model.gradient(x, y, None, reset)[0])
            adam.step(model.gradients, 5e-3)
        losses.append(run)
    assert losses[0][-1] < losses[0][0] - 0.5
    np.testing.assert_allclose(losses[1], losses[0], rtol=0, atol=0.02)


@needs_bfloat16
def test_reading_a_text_stays_in_float32(workers):
    config = NETWORKS["lstm, all on"]
    x, y, reset = random_window(config, 9, 5)
    plain, rounds = (make(config, workers, bfloat16=b) for b in (False, True))
    rounds.gradient(x, y, None, reset)
    assert rounds.forward(x, None, reset)[0].tobytes() == plain.forward(x, None, reset)[0].tobytes()
    assert rounds.losses(x, y, None, reset)[0].tobytes() == plain.losses(x, y, None, reset)[0].tobytes()


# --- what is chosen --------------------------------------------------------------------------------


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    monkeypatch.setattr("charrnn.training.run.REPORT_SECONDS", 0.0)
    path = tmp_path / "shells.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


def train(corpus, out, **settings):
    small = {"hidden_size": 12, "num_layers": 2, "batch_size": 4, "seq_len": 9, "steps": 12}
    return list(api.train(corpus, out=out, **{**small, **settings}))


def test_auto_takes_bfloat16_where_it_is_fast_and_the_network_wide_enough(monkeypatch):
    wide, narrow = ModelConfig(65, hidden_size=512), ModelConfig(65, hidden_size=32)
    monkeypatch.setattr(precision, "is_fast", lambda: True)
    assert precision.choose("auto", wide) == "bfloat16"
    assert precision.choose("auto", narrow) == "float32"
    assert precision.choose("float32", wide) == "float32"
    monkeypatch.setattr(precision, "is_fast", lambda: False)
    assert precision.choose("auto", wide) == "float32"


def test_bfloat16_is_refused_where_the_cpu_has_none(monkeypatch):
    monkeypatch.setattr(precision, "HAS_BFLOAT16", False)
    with pytest.raises(TrainingError, match=r"no bfloat16 .* --precision float32, which works everywhere"):
        precision.choose("bfloat16", ModelConfig(65))
    assert precision.choose("float32", ModelConfig(65)) == "float32"


@pytest.mark.parametrize(
    ("cpu", "features"),
    [
        ("generic", ""),
        pytest.param(
            "haswell", AVX2, marks=pytest.mark.skipif(not has_longer_vectors(), reason="not this CPU")
        ),
    ],
)
def test_a_cpu_without_the_instructions_trains_the_same_in_float32_with_nothing_kept(
    corpus, tmp_path, cpu, features
):
    """As Numba sees it: what it compiles for decides, not what is there."""
    variables = {"NUMBA_CPU_NAME": cpu, "NUMBA_CPU_FEATURES": features}
    words = (
        "train",
        corpus, "--cell", "rnn", "--steps", 4, "--hidden-size", 128, "--num-layers", 1, "--no-norm",
        "--counts", 0,
    )  # fmt: skip
    line = failed(run(*words, "-o", tmp_path / "m", "--precision", "bfloat16", **variables))
    assert "no bfloat16 instructions" in line
    assert "--precision float32" in line
    trained = run_unkept(*words, "-o", tmp_path / "m", **variables)
    assert trained.returncode == 0, trained.stderr
    said = trained.stderr.decode()
    assert "first time" not in said
    assert (compiling(Compiling(1, 2, kept=False)) in said) == (not jit.JIT_DISABLED)
    assert model_file.load(tmp_path / "m").settings["precision"] == "float32"
    own = run(*words, "-o", tmp_path / "native", "--precision", "float32")
    assert own.returncode == 0, own.stderr
    assert (tmp_path / "native").read_bytes() == (tmp_path / "m").read_bytes()


def test_an_unknown_precision_is_refused():
    with pytest.raises(ConfigError, match="give one of auto, float32, bfloat16"):
        TrainConfig(steps=1, precision="float16")


@needs_bfloat16
def test_a_run_keeps_the_precision_that_was_settled_when_it_began(corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(precision, "is_fast", lambda: True)
    monkeypatch.setattr(precision, "SMALLEST", 12)
    started, *_ = whole = train(corpus, tmp_path / "whole")
    assert isinstance(started, Started)
    assert started.train.precision == "bfloat16"
    assert model_file.load(tmp_path / "whole").settings["precision"] == "bfloat16"

    out, asked = tmp_path / "m", []
    settings = {"hidden_size": 12, "num_layers": 2, "batch_size": 4, "seq_len": 9, "steps": 12}
    for event in api.train(corpus, out=out, stop=lambda: "SIGINT" if asked else None, **settings):
        if isinstance(event, Step) and event.step == 5:
            asked.append(True)
    assert resume_path(out).exists()
    with pytest.raises(ConfigError, match="precision float32 is not what the interrupted run has, bfloat16"):
        list(api.train(corpus, out=out, resume=True, precision="float32"))
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(precision, "HAS_BFLOAT16", False)
        with pytest.raises(TrainingError, match=r"no bfloat16 .* on a CPU that has"):
            list(api.train(corpus, out=out, resume=True))
    monkeypatch.setattr(precision, "is_fast", lambda: False)  # auto would now choose otherwise
    resumed = list(api.train(corpus, out=out, resume=True, precision="auto"))
    assert resumed[0].resumed_step == 5
    assert out.read_bytes() == (tmp_path / "whole").read_bytes()
    exact = train(corpus, tmp_path / "exact", precision="float32")
    assert exact[-1].train_loss != whole[-1].train_loss
    assert exact[-1].train_loss == pytest.approx(whole[-1].train_loss, abs=0.02)
