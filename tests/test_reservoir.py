"""Echo-state networks: what a reservoir is made of, its echoes, its read-out, and all that models do."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import naive
import numpy as np
import pytest
from support.calls import call

from charrnn import api
from charrnn.checkpoint import model_file
from charrnn.checkpoint.model_file import Checkpoint
from charrnn.config import ModelConfig, TextConfig, TrainConfig
from charrnn.errors import CheckpointError, ConfigError
from charrnn.events import Finished, Step
from charrnn.inference import writing_loop
from charrnn.inference.engines import Cursor
from charrnn.inference.numpy_network import PlainNetwork
from charrnn.labels import Column
from charrnn.nn.learning.newton import EVERY, GATHERED, BoundedNewton
from charrnn.nn.modules.writing.reservoir import Reservoir, spectral_radius, uniform
from charrnn.nn.network import Model, State
from charrnn.nn.workers import Workers
from charrnn.vocabulary import Vocabulary

ROOT = Path(__file__).parent.parent
V, T, B = 7, 9, 3
SHAPES = [(12, 1), (6, 3)]  # units and layers


def config(N: int = 12, L: int = 1, **more: Any) -> ModelConfig:
    return ModelConfig(V, "esn", hidden_size=N, num_layers=L, **{"reservoir": 5, "leak": 0.7} | more)


def made(of: ModelConfig) -> Reservoir:
    (reservoir, _) = of.network().modules
    assert isinstance(reservoir, Reservoir)
    return reservoir


def read_out(of: ModelConfig, seed: int = 0, scale: float = 1.0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {
        name: np.float32(scale * rng.normal(0, 0.5, shape)) for name, shape in of.parameter_shapes().items()
    }


def checkpoint(of: ModelConfig, **more: Any) -> Checkpoint:
    return Checkpoint(of, Vocabulary("\nabcdef"), TextConfig(**more), read_out(of))


# --- what it is made of ------------------------------------------------------------------------------------


@pytest.mark.parametrize("radius", [0.4, 1.3])
def test_each_layer_has_the_spectral_radius_that_is_asked_for(radius: float) -> None:
    N = 150
    matrix = made(config(N, 2, spectral_radius=radius)).matrix().astype(np.float64)
    for first in (0, N):
        own = matrix[first : first + N, first : first + N]
        assert np.abs(np.linalg.eigvals(own)).max() == pytest.approx(radius, rel=0.05)
    assert not matrix[:N, N:].any(), "no layer reads one above it"
    assert matrix[N:, :N].any()


def test_a_unit_reads_the_share_of_its_layer_that_is_asked_for() -> None:
    assert (np.count_nonzero(made(config(100, density=0.1)).matrix(), axis=1) == 10).all()
    assert (np.count_nonzero(made(config(100, density=0.0)).matrix(), axis=1) == 4).all()
    assert np.count_nonzero(made(config(6, density=1.0)).matrix()) == 36


def test_the_seed_makes_the_same_reservoir_on_every_machine() -> None:
    """Bit for bit: these numbers are in no file."""
    found = uniform(1, 0, 3)
    assert found.tolist() == [0.29352879524230957, 0.5801606178283691, -0.43613624572753906]
    assert (made(config()).matrix() == made(config()).matrix()).all()
    assert (made(config()).matrix() != made(config(reservoir=6)).matrix()).any()


def test_the_spectral_radius_of_a_rotation_is_its_scale() -> None:
    places = np.roll(np.arange(8), -1)[None]  # each reads the next: a circle
    assert spectral_radius(np.full((1, 8), 0.75, np.float32), places) == pytest.approx(0.75)


# --- its echoes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("N", "L"), SHAPES)
def test_logits_and_states_are_those_of_the_reference_in_every_engine(N: int, L: int) -> None:
    of = config(N, L)
    tensors, reservoir = read_out(of), made(of)
    rng = np.random.default_rng(1)
    x = rng.integers(0, V, (T, B)).astype(np.int32)
    x[0], x[4, 1] = V, V
    reset = x == V
    logits, states = naive.echo(reservoir.table, reservoir.matrix(), of.leak, tensors, x, reset)
    for dtype, tolerance in ((np.float64, 1e-12), (np.float32, 2e-5)):
        model = Model(of, workers=Workers(1), dtype=dtype)
        model.load_tensors(tensors)
        found, after = model.forward(x, None, reset)
        np.testing.assert_allclose(found, logits, rtol=0, atol=max(tolerance, 2e-7))
        np.testing.assert_allclose(after.layers[0][0], states[-1], rtol=0, atol=max(tolerance, 2e-7))
    network = PlainNetwork(checkpoint(of))
    state = network.initial_state()
    for t in range(T):
        if reset[t, 0]:
            state = network.initial_state()
        found, state = network.step(int(x[t, 0]), state)
        np.testing.assert_allclose(found, logits[t, 0], rtol=0, atol=2e-5)


@pytest.mark.parametrize(("N", "L"), SHAPES)
def test_both_ways_of_writing_give_the_same_bits(N: int, L: int) -> None:
    from charrnn.config import SampleConfig
    from charrnn.inference.engines import CompiledPath

    network = PlainNetwork(checkpoint(config(N, L)))
    compiled = CompiledPath(network, SampleConfig(), writing_loop)
    state, cursor = network.initial_state(), Cursor(V, network.initial_state())
    for character in (1, 4, 2, 6, 6, 0, 3):
        _, state = network.step(cursor.last, state)
        compiled.read(cursor, np.array([character]))
        np.testing.assert_array_equal(cursor.state, state)


def test_a_text_that_is_cut_into_windows_is_read_as_one() -> None:
    model = Model(config(), workers=Workers(1))
    model.load_tensors(read_out(model.config))
    x = np.random.default_rng(2).integers(0, V, (T, B)).astype(np.int32)
    whole, last = model.forward(x)
    first, state = model.forward(x[:4])
    second, after = model.forward(x[4:], state)
    np.testing.assert_array_equal(np.concatenate([first, second]), whole)
    np.testing.assert_array_equal(after.layers[0][0], last.layers[0][0])


def test_only_the_read_out_has_parameters_and_their_gradient_is_the_slope() -> None:
    model = Model(config(), workers=Workers(1), dtype=np.float64)
    model.load_tensors(read_out(model.config))
    rng = np.random.default_rng(3)
    x, y = rng.integers(0, V, (2, T, B)).astype(np.int32)
    assert {*model.tensors()} == {"decoder.weight", "decoder.bias"}
    model.gradient(x, y)
    slopes, flat = model.gradients.flat.copy(), model.parameters.flat
    for place in rng.choice(np.flatnonzero(flat), 12, replace=False):
        before, losses = flat[place], []
        for step in (1e-5, -1e-5):
            flat[place] = before + step
            losses.append(model.losses(x, y)[0].mean())
        flat[place] = before
        assert slopes[place] == pytest.approx((losses[0] - losses[1]) / 2e-5, rel=1e-5, abs=1e-8)


def test_it_continues_a_chaotic_series_as_reservoirs_are_known_to() -> None:
    """Mackey-Glass (tau 17), one step ahead, by ridge regression on the states of 400 units.

    Jaeger & Haas (2004) have an error of 10^-4.2 at 84 steps with 1,000 units and feedback. One step ahead,
    some hundred units have an NRMSE far below 1e-3 (Rodan & Tino 2011).
    """
    series = [1.2] * 18
    for _ in range(30_000):  # Euler steps of 0.1, of which every tenth is kept
        if len(series) < 180:
            series += [series[-1]]
            continue
        series.append(series[-1] + 0.1 * (0.2 * series[-170] / (1 + series[-170] ** 10) - 0.1 * series[-1]))
    signal = np.tanh(np.array(series[1000::10]) - 1)
    reservoir = made(config(400, spectral_radius=0.9, leak=1.0, density=0.02))
    matrix, inputs = reservoir.matrix().astype(np.float64), uniform(9, 9, 400).astype(np.float64)
    states, h = [], np.zeros(400)
    for value in signal[:-1]:
        h = np.tanh(matrix @ h + 0.5 * inputs * value + 0.2 * reservoir.table[-1])
        states.append(np.concatenate([h, [1.0]]))
    X, y = np.array(states)[200:], signal[201:]
    seen = 1800
    W = np.linalg.solve(X[:seen].T @ X[:seen] + 1e-9 * np.eye(401), X[:seen].T @ y[:seen])
    error = np.sqrt(np.mean((X[seen:] @ W - y[seen:]) ** 2)) / y[seen:].std()
    assert error < 1e-3


# --- its read-out ------------------------------------------------------------------------------------


def reference_steps(X: list[Any], Y: list[Any], O: int, rate: float, decay: float) -> Any:  # noqa: E741
    """The weights (O, S + 1) after a step for each window (T, B, S) and its targets, as the module says."""
    S = X[0].shape[2]
    W, m, A = np.zeros((O, S + 1)), np.zeros((O, S + 1)), np.eye(S + 1)
    seen: list[Any] = []
    for number, (window, y) in enumerate(zip(X, Y, strict=True), 1):
        x = window.reshape(-1, S)
        ones = np.concatenate([x, np.ones((len(x), 1))], axis=1)
        logits = ones @ W.T
        p = np.exp(logits - logits.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        p[np.arange(len(y)), y] -= 1
        G = p.T @ ones / len(y)
        if number <= GATHERED:
            seen.append(window[::EVERY].reshape(-1, S))
        if number <= GATHERED and not number & (number - 1):
            rows = np.concatenate(seen)
            shrink = 0.01 + 0.99 * S / (S + len(rows))
            C = np.cov(rows.T, bias=True)
            C = (1 - shrink) * C + shrink * np.trace(C) / S * np.eye(S)
            mean = rows.mean(axis=0)
            A = np.block([[C + np.outer(mean, mean), mean[:, None]], [mean[None], np.ones((1, 1))]])
        m = 0.9 * m + 2 * G @ np.linalg.inv(A)
        W[:, :S] *= 1 - rate * decay
        W -= rate * m
    return W


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("N", [20, 90])  # less than a block of the inversion, and more
def test_steps_are_newtons_with_the_bound_on_the_curvature(N: int, workers: int) -> None:
    of = config(N)
    model = Model(of, workers=Workers(workers), dtype=np.float64)
    model.load_tensors({name: np.zeros(shape) for name, shape in of.parameter_shapes().items()})
    optimizer = BoundedNewton(
        model.parameters, TrainConfig(steps=1, weight_decay=0.1), model.workers, model.features
    )
    rng = np.random.default_rng(4)
    X, Y, state = [], [], None
    for _ in range(5):
        x, y = rng.integers(0, V, (2, 30, 4)).astype(np.int32)
        _, state = model.gradient(x, y, state)
        X.append(model.features()[..., :N].copy())
        Y.append(y.reshape(-1))
        norm = optimizer.step(model.gradients, 0.2)
        assert norm == pytest.approx(np.linalg.norm(model.gradients.flat))
    expected = reference_steps(X, Y, V, 0.2, 0.1)
    np.testing.assert_allclose(model.tensors()["decoder.weight"], expected[:, :N], rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(model.tensors()["decoder.bias"], expected[:, N], rtol=1e-7, atol=1e-9)


def test_a_gradient_that_is_no_number_changes_nothing() -> None:
    model = Model(config(), workers=Workers(1))
    model.load_tensors(read_out(model.config))
    optimizer = BoundedNewton(model.parameters, TrainConfig(steps=1), model.workers, model.features)
    x = np.zeros((T, B), np.int32)
    model.gradient(x, x)
    model.gradients.flat[3] = np.nan
    before = model.parameters.flat.copy()
    assert np.isnan(optimizer.step(model.gradients, 0.2))
    assert optimizer.steps == 0
    np.testing.assert_array_equal(model.parameters.flat, before)


# --- labels ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("N", "L"), SHAPES)
def test_labels_are_read_like_characters_and_unknown_ones_are_nothing(N: int, L: int) -> None:
    of = config(N, L, labels=(3, 2))
    tensors, reservoir = read_out(of), made(of)
    x = np.random.default_rng(1).integers(0, V, (T, 3)).astype(np.int32)
    labels = np.tile(np.array([[2, 0], [3, 1], [5, 2]], np.int32), (T, 1, 1))  # 3 and 2 on are unknown
    tables = [reservoir.label(2) + reservoir.label(3), reservoir.label(4), 0 * reservoir.label(0)]
    model = Model(of, workers=Workers(1), dtype=np.float64)
    model.load_tensors(tensors)
    found, _ = model.forward(x, labels=labels)
    for b, more in enumerate(tables):
        table, matrix = reservoir.table + more, reservoir.matrix()
        logits, _ = naive.echo(table, matrix, of.leak, tensors, x[:, [b]], np.zeros((T, 1), bool))
        np.testing.assert_allclose(found[:, b], logits[:, 0], rtol=0, atol=1e-6)
    unlabelled = Model(config(N, L), workers=Workers(1), dtype=np.float64)
    unlabelled.load_tensors(tensors)
    np.testing.assert_array_equal(unlabelled.forward(x)[0], model.forward(x)[0])


def test_a_model_of_given_labels_is_one_without_that_reads_them_always(tmp_path: Path) -> None:
    columns = Column("a", ("p", "q", "r"), (1, 1, 1)), Column("b", ("s", "t"), (1, 1))
    of = config(labels=(3, 2))
    whole = Checkpoint(of, Vocabulary("\nabcdef"), TextConfig(lines=True), read_out(of), columns=columns)
    x = np.random.default_rng(1).integers(0, V, (T, 1)).astype(np.int32)
    model = Model(of, workers=Workers(1))
    model.load_tensors(whole.tensors)
    for labels, ids, places in (({"a": "r", "b": "t"}, (2, 1), (2, 4)), ({"b": "s"}, (3, 0), (3,))):
        given = api.given(whole, labels)
        assert isinstance(given, Checkpoint)
        assert (given.config.labels, given.config.given) == ((), places)
        model_file.save(given, tmp_path / "g.safetensors")
        other = Model(api.load(tmp_path / "g.safetensors").config, workers=Workers(1))
        other.load_tensors(given.tensors)
        told = model.forward(x, labels=np.tile(np.array(ids, np.int32), (T, 1, 1)))[0]
        np.testing.assert_array_equal(other.forward(x)[0], told)
        network = PlainNetwork(given)
        state = network.initial_state()
        for t in range(T):
            found, state = network.step(int(x[t, 0]), state)
            np.testing.assert_allclose(found, told[t, 0], rtol=0, atol=2e-5)
    with pytest.raises(ConfigError, match="given"):
        config(given=(-1,))
    with pytest.raises(ConfigError, match="esn alone"):
        ModelConfig(V, given=(1,))


def test_a_reservoir_learns_what_labels_mean(folder: Path) -> None:
    random = np.random.default_rng(0)
    letters = {"first": "abc", "second": "def"}
    rows = [
        f"{label}\t{''.join(random.choice([*of], 5))}" for _ in range(300) for label, of in letters.items()
    ]
    path, out = folder / "words.tsv", folder / "words.safetensors"
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    trained(path, out, text=TextConfig(lines=True, label_by="column"), counts=0.1, epochs=6.0)
    model = api.load(out)
    assert {*model.tensors} == {"decoder.weight", "decoder.bias"}
    found = api.evaluate(model, path)
    assert found.loss < 1.3 < found.loss_without_labels
    for label, of in letters.items():
        written = "".join("".join(text) for text in api.sample(api.given(model, label), count=20, seed=1))
        assert sum(c in of for c in written) > 0.9 * len(written.replace("\n", ""))
    (folder / "asked.txt").write_text("abcab\nfedef\n", encoding="utf-8")
    for command in ("classify", "score --label first", "next d --label second"):
        asked = [] if command.startswith("next") else ["asked.txt"]
        done = call(*command.split(), "-m", "words.safetensors", *asked, cwd=folder)
        assert done.returncode == 0, done.stderr
        if command == "classify":
            assert [line.split("\t")[0] for line in done.stdout.decode().splitlines()] == ["first", "second"]


# --- what models do ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("echo")
    text = (ROOT / "corpora" / "tales.txt").read_text("utf-8")[:12_000]
    (path / "text.txt").write_text(text, encoding="utf-8")
    (path / "lines.txt").write_text(
        (ROOT / "corpora" / "places.txt").read_text("utf-8")[:4000], encoding="utf-8"
    )
    return path


SMALL: dict[str, Any] = {"cell": "esn", "hidden_size": 40, "batch_size": 8, "seq_len": 16, "threads": 1}


def trained(corpus: Path, out: Path, **settings: Any) -> Any:
    *_, last = api.train(corpus, out=out, **SMALL | {"counts": 0.0, "epochs": 2.0} | settings)
    return last


def test_one_pass_learns_more_than_single_characters_and_the_file_is_small(folder: Path) -> None:
    out = folder / "m.safetensors"
    last = trained(folder / "text.txt", out, hidden_size=200, epochs=4.0)
    ids = np.unique(list((folder / "text.txt").read_text("utf-8")), return_counts=True)[1]
    p = ids / ids.sum()
    assert last.best_val_loss < -np.sum(p * np.log(p)) - 0.4
    model = api.load(out)
    assert {*model.tensors} == {"decoder.weight", "decoder.bias"}
    assert model_file._record(model)["format_version"] == 6
    assert model.config.reservoir == 1
    assert api.evaluate(out, folder / "text.txt").loss < last.train_loss + 0.5


@pytest.mark.parametrize("counts", [0.0, 0.2])
def test_a_resumed_run_and_one_on_more_threads_write_the_same_bytes(folder, tmp_path, monkeypatch, counts):
    monkeypatch.setattr("charrnn.training.run.REPORT_SECONDS", 0.0)
    settings = {"steps": 21, "evaluations": 3, "counts": counts, "epochs": None}
    straight, more = tmp_path / "straight.safetensors", tmp_path / "more.safetensors"
    trained(folder / "text.txt", straight, **settings)
    trained(folder / "text.txt", more, **settings | {"threads": 3})
    assert more.read_bytes() == straight.read_bytes()
    for step in (3, 20):
        out = tmp_path / f"{step}.safetensors"
        reached: list[int] = []
        given = {name: value for name, value in (SMALL | settings).items() if value is not None}
        run = api.train(
            folder / "text.txt", out=out, stop=lambda reached=reached: "SIGINT" if reached else None, **given
        )
        for event in run:
            if isinstance(event, Step) and event.step >= step:
                reached.append(step)
        assert isinstance(event, Finished)
        assert (event.reason, event.step) == ("interrupted", step)
        *_, last = api.train(folder / "text.txt", out=out, resume=True)
        assert last.reason == "budget"
        assert out.read_bytes() == straight.read_bytes()


def test_lines_are_written_scored_listed_and_compressed(folder: Path) -> None:
    out = folder / "lines.safetensors"
    trained(folder / "lines.txt", out, text=TextConfig(lines=True), num_layers=2, counts=0.1)
    texts = ["".join(text) for text in api.sample(out, count=3, seed=1)]
    assert len(texts) == 3
    (line,) = next(iter(api.score_lines(out, folder / "one.txt"))) if _one(folder) else (None,)
    assert line is not None
    assert line.bits is not None
    assert line.bits > 0
    assert len(list(api.enumerate_lines(out, count=2))) == 2
    data = (folder / "lines.txt").read_bytes()
    packed = b"".join(api.compress(out, [data]))
    assert b"".join(api.decompress(out, [packed])) == data
    assert len(packed) < 0.7 * len(data)


def _one(folder: Path) -> bool:
    (folder / "one.txt").write_text("Lisbon\n", encoding="utf-8")
    return True


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--dropout", "0.3"], "--dropout is for layers that learn, and a reservoir does not"),
        (["--embedding-size", "8"], "--embedding-size is for layers that learn"),
        (["--leak", "0"], "leak is 0.0: give a number from 1e-06 to 1"),
        (["--spectral-radius", "-1"], "spectral-radius is -1.0"),
        (["--span", "8"], "--cell esn trains its read-out alone, not --span: leave one out"),
        (["--task", "fill"], "--cell esn learns to write texts: give another cell"),
    ],
)
def test_what_a_reservoir_has_not_is_refused_in_one_line(folder: Path, words: list[str], said: str) -> None:
    done = call("train", "text.txt", "--cell", "esn", *words, "-o", "x.safetensors", cwd=folder)
    assert done.returncode == 2
    assert said in done.stderr.decode().splitlines()[0]


def test_what_is_a_reservoirs_is_refused_elsewhere(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"leak is 0\.5: give it with --cell esn alone"):
        ModelConfig(V, leak=0.5)
    model_file.save(checkpoint(config(), lines=False), tmp_path / "m.safetensors")
    with pytest.raises(ConfigError, match="it learns anew in seconds"):
        list(
            api.train(
                folder / "text.txt", out=tmp_path / "n.safetensors", init_from=tmp_path / "m.safetensors"
            )
        )
    (tmp_path / "text.txt").write_text("abcdef\n" * 9, encoding="utf-8")
    with pytest.raises(CheckpointError, match="through which no gradient goes back"):
        api.diagnose(tmp_path / "m.safetensors", tmp_path / "text.txt")


def test_the_lines_on_its_page_remake_a_model_without_charrnn(tmp_path: Path, monkeypatch) -> None:
    page = (ROOT / "docs" / "echo.md").read_text("utf-8")
    (code,) = [
        block for block in re.findall(r"^```python\n(.*?)^```$", page, re.M | re.S) if "golden" in block
    ]
    assert "import charrnn" not in code
    monkeypatch.chdir(tmp_path)
    for N, L in SHAPES:
        model = checkpoint(config(N, L))
        model_file.save(model, tmp_path / "m.safetensors")
        names: dict[str, Any] = {}
        exec(code, names)
        network = PlainNetwork(model)
        state = network.initial_state()
        for character, found in zip(
            [V, *model.vocabulary.encode(names["text"])], names["logits"], strict=True
        ):
            logits, state = network.step(int(character), state)
            np.testing.assert_allclose(found, logits, rtol=0, atol=2e-5)


def test_states_are_values_that_reading_does_not_change() -> None:
    model = Model(config(), workers=Workers(1))
    model.load_tensors(read_out(model.config))
    x = np.ones((2, B), np.int32)
    state = State(((np.full((B, 12), 0.5, np.float32),),))
    model.forward(x, state)
    assert (state.layers[0][0] == 0.5).all()
