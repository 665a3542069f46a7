"""Networks that read whole texts: PyTorch's values, the naive reference, central differences, threads."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from typing import Any

import naive
import numpy as np
import pytest
from naive import CELLS
from support import torch_recordings as recorded
from support.central_differences import check_parameters, own_places
from support.environment import environment

from charrnn.config import ModelConfig, TrainConfig
from charrnn.errors import TrainingError
from charrnn.kernels.products.tile import HAS_BFLOAT16
from charrnn.nn import precision
from charrnn.nn.learning.learner import Learner
from charrnn.nn.network import initial_tensors
from charrnn.nn.reader import Batch, Reader
from charrnn.nn.workers import Workers

V, N = 6, 5
KINDS: dict[str, Any] = {
    "classes": {"kind": "classifier"}, "labels": {"kind": "restorer"}, "tags": {"kind": "tagger"},
}  # fmt: skip
REWRITERS: dict[str, Any] = {
    "rewrite-additive": {"kind": "rewriter", "attention": "additive"},
    "rewrite-dot": {"kind": "rewriter", "attention": "dot"},
}
ALL = KINDS | REWRITERS


def of(name: str, settings: ModelConfig, outputs: int = N) -> ModelConfig:
    """The network of this name, with so many logits; a rewriter's last one is the end of a target."""
    return replace(settings, targets=(outputs - (name in REWRITERS),), **ALL[name])


@pytest.fixture(scope="module")
def workers() -> Workers:
    return Workers(2)


def config(
    cell: str = "lstm", nonlinearity: str = "tanh", H: int = 3, L: int = 2, **more: Any
) -> ModelConfig:
    return ModelConfig(V, cell, nonlinearity, H, L, more.pop("embedding_size", 4), **more)


def batch(kind: str, lengths: list[int], T: int | None = None, seed: int = 1) -> Batch:
    rng, sizes = np.random.default_rng(seed), np.array(lengths)
    T, B = T or max(lengths), len(lengths)
    x = rng.integers(0, V, (T, B)).astype(np.int32)
    if kind in REWRITERS:
        target_lengths = rng.integers(1, 6, B)
        T = max(target_lengths)
        targets = rng.integers(0, N - 1, (T, B)).astype(np.int32)
        targets[target_lengths - 1, np.arange(B)] = N - 1
        weights = rng.uniform(0.5, 2, (T, B)) * (np.arange(T)[:, None] < target_lengths)
        return Batch(x, sizes, targets, weights, np.concatenate([np.full((1, B), N), targets[:-1]]))
    if kind == "classes":
        beside = rng.standard_normal((B, N))
        return Batch(x, sizes, rng.dirichlet(np.ones(N), B), rng.uniform(0.5, 2, B), beside=beside)
    targets = rng.integers(0, N, (T, B)).astype(np.int32)
    if kind == "tags":
        return Batch(x, sizes, targets, rng.uniform(0.5, 2, B))
    weights = rng.uniform(0.5, 2, (T, B)) * (np.arange(T)[:, None] < sizes) * (rng.random((T, B)) < 0.7)
    return Batch(x, sizes, targets, weights)


def make(settings: ModelConfig, workers: Workers, dtype: Any = np.float64, seed: int = 3) -> Reader:
    rng = np.random.default_rng(seed)
    reader = Reader(settings, workers=workers, dtype=dtype)
    shapes = settings.parameter_shapes().items()
    reader.load_tensors({n: rng.standard_normal(s) * min(0.6, s[-1] ** -0.5) for n, s in shapes})
    return reader


def check(reader: Reader, given: Batch) -> None:
    """Every parameter's gradient against central differences."""
    loss = reader.gradient(given)
    slopes, used = reader.gradients.flat.copy(), own_places(reader)
    assert loss == pytest.approx(reader.loss(given), rel=1e-12)
    check_parameters(reader, slopes, lambda: reader.loss(given))
    assert np.count_nonzero(slopes[used]) > 0.7 * len(used)  # relu has dead units
    assert not np.delete(slopes, used).any(), "padding has a gradient"


@pytest.mark.parametrize("name", recorded.readers(*ALL))
def test_logits_loss_and_gradients_are_pytorchs(name, workers):
    r = recorded.load_reader(name)
    sizes, a = r.config, r.arrays
    settings = ModelConfig(
        sizes["V"], sizes["cell"], sizes["nonlinearity"], sizes["H"], sizes["L"], sizes["D"], False, False
    )
    network = of(sizes["head"], settings, sizes["N"])
    given = Batch(a["x"], a["lengths"], a["targets"], a["weights"], a.get("previous"))
    single, double = (Reader(network, workers=workers, dtype=t) for t in (np.float32, np.float64))
    for reader in (single, double):
        reader.load_tensors(r.tensors)
    logits, expected = single.forward(given.x, given.lengths, given.previous), a["logits"]
    for b, n in enumerate(given.lengths if given.previous is None else a["target_lengths"]):
        own = (b,) if sizes["head"] == "classes" else (slice(n), b)
        np.testing.assert_allclose(logits[own], expected[own], rtol=0, atol=1e-5)
    assert double.gradient(given) == pytest.approx(r.loss, abs=1e-12)
    gradients = double.gradients.tensors()
    assert gradients.keys() == r.gradients.keys()
    for key, gradient in r.gradients.items():
        np.testing.assert_allclose(gradients[key], gradient, rtol=1e-9, atol=1e-12, err_msg=key)


# Embedding size, norm and residual.
SWITCHES = [(4, False, False), (6, True, True), (0, True, False), (6, False, True)]


@pytest.mark.parametrize("kind", range(len(ALL)))
@pytest.mark.parametrize("cell", range(len(CELLS)))
def test_gradients_are_central_differences(kind, cell, workers):
    """All pairs of a kind, a cell and its switches."""
    D, norm, residual = SWITCHES[(kind + cell) % len(SWITCHES)]
    name, (cell, nonlinearity) = list(ALL)[kind], CELLS[cell]
    network = of(name, config(cell, nonlinearity, embedding_size=D, norm=norm, residual=residual))
    check(make(network, workers), batch(name, [4, 1, 3], 5))


def test_what_is_beside_a_classifier_is_added_to_its_logits(workers):
    reader, given = make(of("classes", config()), workers), batch("classes", [4, 2, 6])
    logits = reader.forward(given.x, given.lengths)
    for own in (given, given._replace(beside=None)):
        beside = 0 if own.beside is None else own.beside
        rows = zip(own.targets, logits + beside, strict=True)
        expected = [-target @ naive.log_softmax(row) for target, row in rows]
        np.testing.assert_allclose(reader.losses(own), expected, rtol=1e-12)


@pytest.mark.parametrize("kind", ALL)
def test_what_is_behind_a_text_changes_nothing(kind, workers):
    rng = np.random.default_rng(5)
    reader, given = make(of(kind, config()), workers, np.float32), batch(kind, [4, 2, 6])
    results = []
    for steps in (0, 3):
        longer = given._replace(x=np.concatenate([given.x, rng.integers(0, V, (steps, 3)).astype(np.int32)]))
        longer.x[np.arange(6 + steps)[:, None] >= given.lengths] = rng.integers(0, V)
        if kind in ("labels", "tags"):
            longer = longer._replace(targets=np.concatenate([given.targets, given.targets[:steps]]))
        if kind == "labels":
            longer = longer._replace(weights=np.concatenate([given.weights, np.zeros((steps, 3))]))
        logits = reader.forward(longer.x, given.lengths, given.previous)
        own = (
            logits
            if kind == "classes" or kind in REWRITERS
            else logits[:6][np.arange(6)[:, None] < given.lengths]
        )
        results.append((reader.gradient(longer), reader.gradients.flat.tobytes(), own.tobytes()))
    assert results[0] == results[1]


@pytest.mark.parametrize("kind", ["tags", "rewrite-additive"])
def test_windows_that_were_used_before_keep_few_bytes_and_change_nothing(kind, workers):
    sizes, results = [2, 3, 5, 8, 3, 2, 13], []
    for most in (0, 20_000, 1 << 28):
        reader = make(of(kind, config()), workers, np.float32)
        reader.bytes_kept = most
        for T in sizes:
            given = batch(kind, [T, 1, 2])
            results.append(reader.forward(given.x, given.lengths, given.previous).tobytes())
            *before, last = (passes.window.nbytes for passes in reader._windows.values())
            assert last > 4 * T * 3 * 2 * 2 * reader.config.hidden_size  # both layers' outputs both ways
            assert sum(before) <= most
        if kind == "rewrite-additive":
            encoded, written = reader.encode(given.x, given.lengths)
            for R in (2, 1, 3, 2):
                columns = np.arange(R)
                logs, *_ = reader.step(encoded, columns, np.zeros(R, np.int64), written.take(columns))
                results.append(logs.tobytes())
                *before, last = (step.window.nbytes for step in reader._steps.values())
                assert last
                assert sum(before) <= most
    assert len(reader._windows) > 3
    runs = np.array_split(np.array(results, object), 3)
    assert list(runs[0]) == list(runs[1]) == list(runs[2])


@pytest.mark.parametrize("kind", KINDS)
def test_each_text_is_read_as_if_it_were_alone(kind, workers):
    reader, lengths = make(of(kind, config()), workers, np.float32), [4, 2, 6]
    given = batch(kind, lengths)
    logits, losses = reader.forward(given.x, given.lengths), reader.losses(given)
    for b, n in enumerate(lengths):
        alone = reader.forward(given.x[:n, b : b + 1], np.array([n]))
        own = logits[b] if kind == "classes" else logits[:n, b]
        np.testing.assert_array_equal(alone.reshape(own.shape), own)
    assert losses.shape == ((6, 3) if kind == "labels" else (3,))


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize(("cell", "nonlinearity"), CELLS)
def test_any_number_of_threads_gives_the_same_bits(kind, cell, nonlinearity):
    network = of(kind, config(cell, nonlinearity, 40, dropout=0.2, embedding_size=80))
    given, results = batch(kind, [9, 3, 12, 1, 7, 12, 5]), []
    for threads in (1, 2, 3, 5):
        reader = make(network, Workers(threads), np.float32)
        loss = reader.gradient(given, dropout_seed=5)
        results.append((loss, reader.gradients.flat.tobytes(), reader.losses(given).tobytes()))
    assert all(result == results[0] for result in results)


@pytest.mark.parametrize(("cell", "nonlinearity"), CELLS)
def test_logits_are_those_of_the_naive_reference(cell, nonlinearity, workers):
    """Sizes around the tile's and the panel's, with norm, residual, both and neither."""
    rng = np.random.default_rng(7)
    for H, L, D, lengths, norm, residual in [
        (1, 1, 2, [1], False, True),
        (16, 2, 32, [5, 9, 1], True, True),
        (33, 2, 0, [3] * 27, True, False),
        (20, 3, 40, [40, 2], False, True),
    ]:
        settings = config(cell, nonlinearity, H, L, embedding_size=D, norm=norm, residual=residual)
        x = rng.integers(0, V, (max(lengths), len(lengths))).astype(np.int32)
        for kind in ALL:
            reader = make(of(kind, settings), workers, np.float32)
            previous = batch(kind, lengths).previous
            logits, tensors = reader.forward(x, np.array(lengths), previous), reader.tensors()
            for b, n in enumerate(lengths):
                read = naive.read_both_ways(tensors, cell, nonlinearity, L, norm, residual, x[:n, b])
                if previous is not None:
                    expected = naive.rewrite(tensors, cell, nonlinearity, read, previous[:, b])
                    np.testing.assert_allclose(logits[:, b], expected, rtol=0, atol=2e-5)
                    continue
                if kind == "classes":
                    read = naive.pool(tensors, read)[None]
                expected = [naive.decode(tensors, row) for row in read]
                own = logits[b : b + 1] if kind == "classes" else logits[:n, b]
                np.testing.assert_allclose(own, expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize("kind", REWRITERS)
@pytest.mark.parametrize(("cell", "nonlinearity"), CELLS)
def test_single_steps_of_rows_in_any_order_are_those_of_the_whole_target(kind, cell, nonlinearity, workers):
    reader = make(of(kind, config(cell, nonlinearity, 20, norm=True)), workers, np.float32)
    given = batch(kind, [4, 1, 7, 3])
    whole = reader.forward(given.x, given.lengths, given.previous)
    encoded, written = reader.encode(given.x, given.lengths)
    columns = np.array([2, 0, 2, 3, 1, 2])  # rows may attend to the same text
    written = written.take(columns)
    for t, previous in enumerate(given.previous):
        logs, written, weights = reader.step(encoded, columns, previous[columns], written)
        for row, column in enumerate(columns):
            np.testing.assert_allclose(logs[row], naive.log_softmax(whole[t, column]), rtol=0, atol=2e-6)
            assert weights[row, : given.lengths[column]].sum() == pytest.approx(1, abs=1e-6)
            assert not weights[row, given.lengths[column] :].any()
        order = np.random.default_rng(t).permutation(len(columns))
        columns, written = columns[order], written.take(order)


@pytest.mark.parametrize(("cell", "nonlinearity"), CELLS[:2])
def test_each_column_has_a_softmax_of_its_own(cell, nonlinearity, workers):
    """Three columns, in one of which a class is not known, and in another counts more."""
    settings = replace(config(cell, nonlinearity), kind="classifier", targets=(2, 3, 4))
    rng, given = np.random.default_rng(8), batch("classes", [4, 1, 3], 5)
    targets = np.concatenate([rng.dirichlet(np.ones(n), 3) for n in settings.targets], axis=1)
    targets[1, 2:5], targets[2, 5:] = 0, 1.7 * targets[2, 5:]
    given = given._replace(targets=targets, beside=rng.standard_normal(targets.shape))
    check(make(settings, workers), given)
    for dtype, tolerance in ((np.float64, 1e-12), (np.float32, 1e-5)):
        reader = make(settings, workers, dtype)
        logits, losses = reader.forward(given.x, given.lengths) + given.beside, reader.losses(given)
        for b in range(3):
            parts = [slice(0, 2), slice(2, 5), slice(5, 9)]
            own = [-targets[b, part] @ naive.log_softmax(logits[b, part]) for part in parts]
            assert losses[b] == pytest.approx(sum(own), rel=tolerance)


@pytest.mark.parametrize("scale", [0.5, 5, 30])
def test_a_crf_is_a_choice_among_all_sequences(scale, workers):
    rng = np.random.default_rng(11)
    reader, given = make(of("tags", config(), 3), workers), batch("tags", [4, 1, 3], 5)
    given = given._replace(targets=given.targets % 3)
    tensors = reader.tensors()
    for name in ("crf.transitions", "crf.start_transitions", "crf.end_transitions"):
        tensors[name] = scale * rng.standard_normal(tensors[name].shape)
    tensors["decoder.weight"] *= scale
    for dtype, tolerance in ((np.float64, 1e-9), (np.float32, 2e-4)):
        reader = Reader(reader.config, workers=workers, dtype=dtype)
        reader.load_tensors(tensors)
        emissions, losses = reader.forward(given.x, given.lengths), reader.losses(given)
        (labels, scores), marginals = (
            read(given.x, given.lengths) for read in (reader.best, reader.marginals)
        )
        for b, n in enumerate(given.lengths):
            expected = naive.crf_by_enumeration(tensors, emissions[:n, b])
            loss = expected.log_sum - expected.scores[tuple(given.targets[:n, b])]
            assert losses[b] == pytest.approx(loss, rel=tolerance, abs=tolerance * scale)
            best = max(expected.scores, key=expected.scores.__getitem__)
            assert tuple(labels[:n, b]) == best
            assert scores[b] == pytest.approx(expected.scores[best], rel=tolerance)
            np.testing.assert_allclose(marginals[:n, b], expected.marginals, rtol=0, atol=5 * tolerance)
            assert not labels[n:, b].any()
            assert not marginals[n:, b].any()


@pytest.mark.parametrize("kind", ALL)
def test_a_run_that_continues_is_bit_for_bit_the_run_that_was_never_interrupted(kind):
    settings = TrainConfig(steps=60, seed=4)

    def learner(threads: int) -> Learner[Reader]:
        network = of(kind, config(H=16, dropout=0.1, embedding_size=8))
        reader = Reader(network, workers=Workers(threads))
        reader.load_tensors(network.network().initial(np.random.default_rng(2)))
        return Learner(reader, settings, 3)

    def train(learner: Learner[Reader], first: int, last: int) -> list[float]:
        given = [batch(kind, [4, 6, 2]), batch(kind, [3, 1], seed=2)]
        return [learner.train_step(given[n % 2], None, 0.02, n)[0] for n in range(first, last)]

    straight, first, second = learner(2), learner(1), learner(3)
    losses = train(straight, 0, 60)
    before = train(first, 0, 30)
    saved = {name: array.copy() for name, array in first.state_dict(None).items()}
    second.load_state_dict(saved, first.updates)
    assert before + train(second, 30, 60) == losses
    assert second.model.parameters.flat.tobytes() == straight.model.parameters.flat.tobytes()
    entropy = 1.5 if kind == "classes" else 0  # of targets that are distributions
    assert np.mean(losses[-2:]) < entropy + 0.5 * (np.mean(losses[:2]) - entropy)


RECORD = """
import numpy as np
from charrnn.config import ModelConfig, TrainConfig
from charrnn.kernels.machine import jit
from charrnn.nn.learning import compilation
from charrnn.nn.learning.learner import Learner
from charrnn.nn.reader import Batch, Reader

workers = compilation._ThisThread()
x, lengths = np.ones((5, 3), np.int32), np.array([5, 2, 4])
kinds = {
    "classifier": (np.ones((3, 4)), np.ones(3), None), "restorer": (x, np.ones((5, 3)), None),
    "tagger": (x, np.ones(3), None), "rewriter": (x[:4], np.ones((4, 3)), x[:4]),
}
for kind, (targets, weights, previous) in kinds.items():
    config = ModelConfig(
        6, hidden_size=3, embedding_size=6, norm=True, dropout=0.1, kind=kind, targets=(4,)
    )
    reader = Reader(config, workers=workers)
    batch = Batch(x, lengths, targets, weights, previous)

    def step():
        Learner(reader, TrainConfig(steps=1), 3).train_step(batch, None, 0.1, 0)
        reader.losses(batch)
        reader.forward(x, lengths, previous)

    wanted = {task.name for task in jit.record(step)}
    listed = {task.name for task in compilation._tasks(compilation._smallest(config))}
    assert len(wanted) > 10 and wanted <= listed, (kind, wanted - listed)
"""


# --- in bfloat16 -----------------------------------------------------------------------------------

needs_bfloat16 = pytest.mark.skipif(not HAS_BFLOAT16, reason="this CPU has no AVX512_BF16")
OTHER_SIZES = {"H": 33, "L": 2, "embedding_size": 17, "norm": True, "dropout": 0.1}


def started(network: ModelConfig, workers: Workers, *, bfloat16: bool) -> Reader:
    """A network that begins to learn."""
    reader = Reader(network, workers=workers, bfloat16=bfloat16)
    reader.load_tensors(initial_tensors(network, 4))
    return reader


@needs_bfloat16
@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_gradients_in_bfloat16_are_those_of_float32_but_for_rounding(kind, cell, workers):
    network = of(kind, config(cell, **OTHER_SIZES))
    given, losses, gradients = batch(kind, [9, 3, 12, 1, 7]), [], []
    for rounds in (False, True):
        reader = started(network, workers, bfloat16=rounds)
        losses.append(reader.gradient(given, dropout_seed=5))
        gradients.append(reader.gradients.tensors())
    assert losses[1] == pytest.approx(losses[0], abs=1e-2)
    assert losses[1] != losses[0]
    a, b = (np.concatenate([g[n].ravel() for n in g]).astype(np.float64) for g in gradients)
    assert np.linalg.norm(a - b) < 2e-2 * np.linalg.norm(a)
    for key, exact in gradients[0].items():  # none of them is lost in the sum
        assert np.linalg.norm(gradients[1][key] - exact) <= 5e-2 * np.linalg.norm(exact) + 1e-6, key


@needs_bfloat16
@pytest.mark.parametrize("kind", ALL)
def test_any_number_of_threads_gives_the_same_bits_in_bfloat16(kind):
    network, results = of(kind, config(**OTHER_SIZES)), set()
    for threads in (1, 2, 3):
        reader = started(network, Workers(threads), bfloat16=True)
        loss = reader.gradient(batch(kind, [9, 3, 12, 1, 7, 12, 5]), dropout_seed=5)
        results.add((loss, reader.gradients.flat.tobytes()))
    assert len(results) == 1


@needs_bfloat16
@pytest.mark.parametrize("kind", ALL)
def test_a_network_that_learns_in_bfloat16_reads_in_float32(kind, workers):
    network, given = of(kind, config(**OTHER_SIZES)), batch(kind, [4, 2, 6])
    plain, rounds = (started(network, workers, bfloat16=b) for b in (False, True))
    rounds.gradient(given)
    read = [r.forward(given.x, given.lengths, given.previous).tobytes() for r in (plain, rounds)]
    assert read[0] == read[1]
    assert rounds.losses(given).tobytes() == plain.losses(given).tobytes()


@pytest.mark.parametrize("kind", ALL)
def test_networks_that_read_learn_in_float32_unless_bfloat16_is_asked_for(kind, monkeypatch):
    wide = of(kind, ModelConfig(V, hidden_size=512))
    monkeypatch.setattr(precision, "is_fast", lambda: True)
    assert precision.choose("auto", wide) == "float32"
    monkeypatch.setattr(precision, "HAS_BFLOAT16", True)
    assert precision.choose("bfloat16", wide) == "bfloat16"
    monkeypatch.setattr(precision, "HAS_BFLOAT16", False)
    with pytest.raises(TrainingError, match=r"no bfloat16 .* --precision float32, which works everywhere"):
        precision.choose("bfloat16", wide)


# --- as wholes -------------------------------------------------------------------------------------


def test_what_training_calls_is_in_the_list_that_is_compiled_before():
    subprocess.run([sys.executable, "-c", RECORD], env=environment(), check=True, timeout=120)


def test_a_network_reads_as_the_list_of_its_modules():
    lines = str(of("tags", config(embedding_size=6)).network()).splitlines()
    assert lines == [
        "Embedding(6, 6)",
        "Residual(Bidirectional(lstm, 6 -> 2 x 3), LayerNorm(6))",
        "Residual(Bidirectional(lstm, 6 -> 2 x 3), LayerNorm(6))",
        "Linear(6 -> 5)",
        "CRF(5)",
    ]
    assert str(of("classes", config()).network()).splitlines()[-3:] == [
        "AttentionPooling(6, 3)", "Linear(6 -> 5)", "Classes(5)",
    ]  # fmt: skip
    several = replace(config(), kind="classifier", targets=(2, 3)).network()
    assert str(several).splitlines()[-2:] == ["Linear(6 -> 5)", "Classes(2, 3)"]


@pytest.mark.compiled  # orthogonal weights are
def test_the_initial_tensors_are_those_that_the_shapes_name():
    for network in (of(name, config()).network() for name in ALL):
        tensors = network.initial(np.random.default_rng(1))
        assert [(name, tensor.shape) for name, tensor in tensors.items()] == list(network.shapes().items())
        assert {tensor.dtype for tensor in tensors.values()} == {np.dtype(np.float32)}
