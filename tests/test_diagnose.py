"""`charrnn diagnose`: vanishing and exploding gradients, gates, idle units, clipping, and what it advises."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import naive
import numpy as np
import pytest
from support.calls import call
from support.random_models import LINES, make

from charrnn import api
from charrnn.api.measuring import documents_of
from charrnn.checkpoint import model_file
from charrnn.cli.views.looking.diagnosis import STYLES
from charrnn.diagnosis import network, run
from charrnn.diagnosis.findings import growth, reach
from charrnn.errors import ConfigError, CorpusError

CHARACTERS = "\n ab"


def vanilla(scale: float, *, nonlinearity: str = "tanh", **settings: Any):
    """A vanilla network whose recurrent weights are a rotation times `scale`."""
    plain = {"norm": False, "residual": False, "num_layers": 1, "hidden_size": 16}
    model = make(cell="rnn", nonlinearity=nonlinearity, characters=CHARACTERS, **plain | settings)
    rotation, _ = np.linalg.qr(np.random.default_rng(1).standard_normal((16, 16)))
    model.tensors["rnn.weight_hh_l0"][:] = scale * rotation
    return model


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text("".join(np.random.default_rng(2).choice(list(" ab"), 2000)), encoding="utf-8")
    return path


def test_gradients_of_small_recurrent_weights_vanish_and_those_of_large_ones_explode(text: Path) -> None:
    small, large = (api.diagnose(vanilla(scale), text, lags=30, threads=1) for scale in (0.3, 3.0))
    norms = small.layers[0].gradients["h"]
    assert norms[29] < 0.3**25 * norms[0]
    assert "gradients vanish" in small.advice
    assert "--cell lstm or gru" in small.advice
    times, lag = growth(large.layers[0].gradients["h"])
    assert times > 10
    assert lag > 10
    assert "gradients explode" in large.advice


def test_at_most_the_size_of_the_weights_is_lost_or_won_in_a_step(text: Path) -> None:
    """Through tanh, a rotation shrinks a gradient or leaves it; so does each step back."""
    norms = api.diagnose(vanilla(1.0), text, lags=20, threads=1).layers[0].gradients["h"]
    assert all(after <= before * (1 + 1e-6) for before, after in pairwise(norms))


def test_the_mean_is_that_of_the_reference_over_the_places(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(network, "PLACES", 4)
    model, lags = make(cell="lstm", characters=CHARACTERS), 4
    written = "".join(np.random.default_rng(3).choice(list(" ab"), 40))
    (tmp_path / "text.txt").write_text(written, encoding="utf-8")
    found = api.diagnose(model, tmp_path / "text.txt", lags=lags, threads=1)
    ids = model.vocabulary.encode(written).astype(np.int64)
    x, places = np.concatenate([[model.config.vocab_size], ids])[:, None], network.spread(40)
    plain, norms = ("lstm", "tanh", 2, True, True), np.zeros((lags, 2, 2))
    for place in places:
        for lag in range(1, lags + 1):
            first = place + 1 - lag
            _, state, _ = naive.forward(model.tensors, *plain, x[:first])
            logits, _, cache = naive.forward(model.tensors, *plain, x[first : place + 1], state)
            d_logits = np.zeros_like(logits)
            d_logits[-1] = naive.loss_backward(logits[-1:], ids[place].reshape(1, 1))
            _, d_state = naive.backward(model.tensors, *plain, x[first : place + 1], d_logits, cache)
            norms[lag - 1] += [[np.linalg.norm(part) for part in layer] for layer in d_state]
    assert found.places == [4] * lags
    for k, layer in enumerate(found.layers):
        for p, values in enumerate(layer.gradients.values()):
            np.testing.assert_allclose(values, norms[:, k, p] / 4, rtol=1e-3)


def test_a_gradient_goes_back_no_further_than_its_line(tmp_path: Path) -> None:
    (tmp_path / "lines.txt").write_text("abab\n" * 50, encoding="utf-8")
    model = make(cell="gru", characters=CHARACTERS, text=LINES)
    found = api.diagnose(model, tmp_path / "lines.txt", threads=1)
    # Of five characters in a line, four have one before them, three have two ..
    assert [round(places * 5 / network.PLACES) for places in found.places] == [4, 3, 2, 1]
    assert found.characters > 5 * network.PLACES


def test_the_ends_of_gates_are_counted(text: Path) -> None:
    model = make(cell="lstm", characters=CHARACTERS, num_layers=1)
    for name in ("rnn.weight_ih_l0", "rnn.weight_hh_l0", "rnn.bias_ih_l0", "rnn.bias_hh_l0"):
        model.tensors[name][:] = 0
    H, bias = model.config.hidden_size, model.tensors["rnn.bias_ih_l0"]
    bias[:H] = [-4, -2, 0, 2, 4, 4]  # i: sigma(-4) = 0.018, sigma(-2) = 0.119
    bias[2 * H : 3 * H] = [-2, -1, 0, 1, 2, 2]  # g: tanh(2) = 0.964
    gates = api.diagnose(model, text, lags=4, threads=1).layers[0].gates
    assert gates["i"] == (1 / 6, 2 / 6)
    assert gates["f"] == (0.0, 0.0)
    assert gates["g"] == (1 / 6, 2 / 6)


def test_units_that_never_move_are_named(text: Path) -> None:
    model = vanilla(0.9)
    for name in ("rnn.weight_ih_l0", "rnn.weight_hh_l0"):
        model.tensors[name][[3, 11]] = 0
    found = api.diagnose(model, text, lags=8, threads=1)
    assert found.layers[0].idle == (3, 11)
    assert "2 of 16 units in layer 1 never move" in found.advice
    relu = vanilla(0.9, nonlinearity="relu")
    relu.tensors["rnn.bias_ih_l0"][[5, 6]] = -100
    found = api.diagnose(relu, text, lags=8, threads=1)
    assert {5, 6} <= {*found.layers[0].idle}
    assert "--nonlinearity tanh" in found.advice


def test_a_gate_that_is_always_shut_is_named(text: Path) -> None:
    model = make(cell="lstm", characters=CHARACTERS, num_layers=1, hidden_size=8)
    model.tensors["rnn.bias_ih_l0"][8 : 2 * 8] -= 20
    found = api.diagnose(model, text, lags=8, threads=1)
    assert "gate f in layer 1 is shut 100% of the time" in found.advice


def test_norms_are_those_of_the_steps_that_training_would_take(tmp_path: Path, text: Path) -> None:
    """Those of a run from the same weights, of a rate at which they hardly change."""
    first, second = tmp_path / "first.safetensors", tmp_path / "second.safetensors"
    plain = {"val_fraction": 0.0, "counts": 0.0, "batch_size": 4, "seq_len": 16, "warmup": 0.0, "clip": 0.5}
    own = {"hidden_size": 8, "num_layers": 1, "embedding_size": 4, "dropout": 0.2}
    for _ in api.train(text, out=first, steps=3, threads=1, **own, **plain):
        pass
    found = api.diagnose(first, text, lags=4, threads=1)
    again = {"init_from": first, "learning_rate": 1e-10, "steps": network.STEPS, "dropout": 0.2}
    norms = [
        event.grad_norm
        for event in api.train(text, out=second, threads=1, **again, **plain)
        if type(event).__name__ == "Step"
    ]
    assert found.clipping.steps == network.STEPS
    assert norms[0] == pytest.approx(_first_norm(first, text), rel=1e-5)
    assert found.clipping.clip == 0.5
    assert found.clipping.clipped / network.STEPS == found.clipping.share


def _first_norm(model: Path, text: Path) -> float:
    checkpoint = api.load(model)
    from charrnn.nn.network import Model
    from charrnn.nn.workers import Workers

    found = Model(checkpoint.config, workers=Workers(1))
    found.load_tensors(checkpoint.tensors)
    documents = documents_of(checkpoint, text, checkpoint.text.of_commands(), "error", print)
    norms = network._norms(found, documents, network.training(checkpoint.settings), lambda *_: None)
    return next(norms)


def test_figures_do_not_depend_on_the_threads(text: Path) -> None:
    model = make(cell="gru", characters=CHARACTERS)
    assert api.diagnose(model, text, lags=7, threads=1) == api.diagnose(model, text, lags=7, threads=2)


def test_a_window_longer_than_the_memory_is_advised_against_and_one_too_short_too(text: Path) -> None:
    model = make(cell="lstm", characters=CHARACTERS, num_layers=1, norm=False, residual=False)
    forgets, keeps = model.tensors["rnn.bias_ih_l0"], 6
    forgets[keeps : 2 * keeps] = -2
    model.settings.update(steps=1, seq_len=32)
    found = api.diagnose(model, text, threads=1)
    assert found.lags == 64
    assert "--seq-len 8 (now 32) holds that" in found.advice
    for name in ("rnn.weight_ih_l0", "rnn.weight_hh_l0"):
        model.tensors[name][:] *= 0.1
    forgets[keeps : 2 * keeps] = 8
    assert "a longer --seq-len, such as 64" in api.diagnose(model, text, threads=1).advice


def test_the_reach_is_where_a_gradient_becomes_faint() -> None:
    assert reach([1.0, 0.5, 0.02, 0.005]) == 3
    assert reach([2.0, 0.01]) == 1
    assert reach([0.0, 0.0]) == 0
    assert growth([1.0, 4.0, 2.0]) == (4.0, 2)
    assert growth([1.0, math.inf]) == (math.inf, 2)


# --- the command -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("diagnose")
    model_file.save(make(cell="lstm", characters=CHARACTERS), path / "m.safetensors")
    (path / "text.txt").write_text("a b ba " * 1200, encoding="utf-8")
    return path


def test_the_table_names_each_part_of_each_layer_and_ends_with_advice(folder: Path) -> None:
    done = call("diagnose", "-m", "m.safetensors", "text.txt", "--lags", 12, cwd=folder)
    assert (done.returncode, done.stderr) == (0, b"")
    lines = done.stdout.decode().splitlines()
    for name in ("layer 1 h", "layer 1 c", "layer 2 h", "layer 2 c"):
        assert sum(line.startswith(name) for line in lines) == 1
    assert lines[-1].startswith("advice")
    assert "k = 12" in done.stdout.decode()
    assert any(character > "\u2800" for line in lines for character in line), "there is a chart"
    assert max(map(len, lines[:-1])) <= 80
    assert b"\x1b" not in done.stdout, "no colours where there is no terminal"


def test_a_terminal_shows_each_curve_in_a_colour_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    from charrnn.cli.views.terminal import span_painter

    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    paint = span_painter()
    assert paint is not None
    painted = {paint("x", style) for style in STYLES}
    assert len(painted) == len(STYLES)
    assert all("x" in text and "\x1b[" in text for text in painted)
    assert paint("x", "") == "x"


def test_json_has_a_gradient_for_each_lag(folder: Path) -> None:
    done = call("diagnose", "-m", "m.safetensors", "text.txt", "--lags", 12, "--json", cwd=folder)
    found = json.loads(done.stdout)
    assert done.stdout.count(b"\n") == 1
    assert [len(layer["gradients"][part]) for layer in found["layers"] for part in "hc"] == [12] * 4
    assert set(found["layers"][0]["gates"]) == {"i", "f", "g", "o"}
    assert found["clipping"]["steps"] == len("a b ba " * 1200) // 32 // 64, "one epoch of windows"
    assert found["advice"]


def test_the_picture_has_a_curve_for_each_part(folder: Path) -> None:
    words = "diagnose", "-m", "m.safetensors", "text.txt", "--lags", 12
    assert call(*words, "--svg", "d.svg", cwd=folder).returncode == 0
    root = ElementTree.fromstring((folder / "d.svg").read_text("utf-8"))
    curves = root.findall("{http://www.w3.org/2000/svg}polyline")
    assert [len(curve.get("points", "").split()) for curve in curves] == [12] * 4
    for lost, what in (("m.safetensors", "the model"), ("text.txt", "what is read")):
        done = call(*words, "--svg", lost, cwd=folder)
        assert done.returncode == 2
        assert what in done.stderr.decode()


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ([], 2, "there is nothing to diagnose: name a text to read, or give --events FILE"),
        (["text.txt", "--lags", "0"], 2, "lags is 0: give a whole number from 1 to 4,096"),
        (["text.txt", "--clip", "2"], 2, "--clip is an option of --events"),
        (["text.txt", "--events", "-"], 2, "--events is about a run"),
        (["--events", "text.txt"], 1, "text.txt, line 1 is no event"),
        (["--events", "gone.jsonl"], 1, "gone.jsonl does not exist"),
    ],
)
def test_what_cannot_be_diagnosed_is_said_in_one_line(folder: Path, words, code, said) -> None:
    model = [] if "--events" in words or not words else ["-m", "m.safetensors"]
    done = call("diagnose", *words, *model, cwd=folder)
    assert done.returncode == code
    assert said in done.stderr.decode().splitlines()[0]
    assert done.stdout == b""


# --- a run by its events ------------------------------------------------------------------------------


def events(*norms: float | None, end: str = "") -> bytes:
    rows = [json.dumps({"event": "step", "step": n, "grad_norm": norm}) for n, norm in enumerate(norms, 1)]
    return ("\n".join(['{"event": "eval", "val_loss": 1.0}', *rows]) + "\n" + end).encode()


def test_the_share_of_clipped_steps_is_counted(folder: Path) -> None:
    done = call("diagnose", "--events", "-", "--json", "--clip", 2, stdin=events(3, 1, 5, 2), cwd=folder)
    found = json.loads(done.stdout)
    assert found["clipping"]["clipped"] == 2
    assert (found["clipping"]["median"], found["clipping"]["largest"]) == (2.5, 5)
    assert [point["grad_norm"] for point in found["norms"]] == [3, 1, 5, 2]


@pytest.mark.parametrize(
    ("norms", "said"),
    [
        ([5, 4, 3, 3, 3], "clipping shortens 100% of the steps, whose norm is typically 3, to 1"),
        ([0.5, 0.4, 0.3], "no reported step was clipped"),
        ([5, 2, 0.3, 0.2, 0.3, 0.2], "clipping catches 33.3% of the reported steps, lately 0.0%"),
        ([0.5, None, 0.5], "gradients overflowed in 1 of 3 reported steps"),
    ],
)
def test_a_run_gets_a_sentence_of_advice(folder: Path, norms, said) -> None:
    done = call("diagnose", "--events", "-", stdin=events(*norms), cwd=folder)
    assert said in done.stdout.decode().splitlines()[-1]


def test_the_event_that_a_run_is_writing_counts_for_nothing(folder: Path) -> None:
    half = events(1, 2, end='{"event": "step", "st')
    found = json.loads(call("diagnose", "--events", "-", "--json", stdin=half, cwd=folder).stdout)
    assert found["clipping"]["steps"] == 2
    done = call("diagnose", "--events", "-", stdin=half + b"\n", cwd=folder)
    assert done.returncode == 1
    assert "standard input, line 4 is no event" in done.stderr.decode()


def test_a_run_without_a_step_yet_is_said_so_and_odd_steps_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    path.write_bytes(events())
    with pytest.raises(CorpusError, match="has no step yet"):
        api.diagnose_run(path)
    path.write_bytes(b'{"event": "step", "step": 1, "grad_norm": "much"}\n')
    with pytest.raises(CorpusError, match=r"line 1 is a step with .*much"):
        api.diagnose_run(path)
    path.write_bytes(b"x" * (3 * run.LONGEST))
    with pytest.raises(CorpusError, match="line 1 is no event"):
        api.diagnose_run(path)
    with pytest.raises(ConfigError, match="clip is 0"):
        api.diagnose_run(path, clip=0)


def test_of_a_very_long_run_no_more_is_kept_than_is_drawn(folder: Path) -> None:
    norms = run.Norms(1.0)
    for step in range(10 * run.MOST_POINTS):
        norms.add(step, 2.0 if step % 4 == 0 else 0.5)
    found = norms.diagnosis()
    assert len(found.points) < run.MOST_POINTS
    assert found.points[-1][0] > 9.9 * run.MOST_POINTS
    assert found.clipping.steps == 10 * run.MOST_POINTS
    assert found.clipping.share == 0.25


def test_what_training_prints_is_read(folder: Path) -> None:
    ran = call(
        "train", "text.txt", "--steps", 3, "--hidden-size", 6, "--json", "-o", "r.safetensors", cwd=folder
    )
    (folder / "run.jsonl").write_bytes(ran.stdout)
    done = call("diagnose", "--events", "run.jsonl", "--svg", "run.svg", cwd=folder)
    assert done.returncode == 0
    assert done.stdout.decode().splitlines()[-1].startswith("advice")
    root = ElementTree.fromstring((folder / "run.svg").read_text("utf-8"))
    assert len(root.findall("{http://www.w3.org/2000/svg}polyline")) == 1
