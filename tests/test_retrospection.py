"""Networks that attend to their own past: equations, gradients, states, both engines, and a whole run."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import naive
import numpy as np
import pytest
from support import random_models
from support.calls import call
from support.central_differences import check_parameters, check_slopes
from support.compiled_loop import compiled_only
from support.own_parts import (
    check_compression,
    check_learning,
    check_mixture,
    check_numbers,
    check_ten_steps,
    check_writing,
)

from charrnn import api
from charrnn.checkpoint.model_file import Checkpoint, load, save
from charrnn.config import ModelConfig, TextConfig, format_version
from charrnn.errors import ConfigError
from charrnn.inference.mixed_model import model_of
from charrnn.inference.mixture import MixedNetwork, blend
from charrnn.nn.network import Model, State, initial_tensors
from charrnn.nn.workers import Workers
from charrnn.scoring import shared_prefixes
from charrnn.tasks.evaluation import evaluate, surprises
from charrnn.text.documents import Documents

pytestmark = compiled_only

RECORDINGS = sorted((Path(__file__).parent / "recordings" / "attention").glob("*.npz"))
V = 5
CONFIGS = {
    "one step back": ModelConfig(V, hidden_size=6, num_layers=1, embedding_size=6, span=1),
    "less than a window": ModelConfig(V, "gru", hidden_size=4, num_layers=2, embedding_size=0, span=3),
    "more than all": ModelConfig(V, hidden_size=70, num_layers=1, embedding_size=3, span=50, norm=False),
}


def make(config: ModelConfig, threads: int = 2, dtype: Any = np.float64, **how: Any) -> Model:
    random = np.random.default_rng(4)
    model = Model(config, workers=Workers(threads), dtype=dtype, **how)
    tensors = initial_tensors(config, 1)
    model.load_tensors({n: random.normal(0, t.shape[-1] ** -0.5, t.shape) for n, t in tensors.items()})
    return model


def texts(T: int, B: int, seed: int = 7) -> tuple[Any, Any, Any]:
    random = np.random.default_rng(seed)
    reset = random.random((T, B)) < 0.1
    x = np.where(reset, V, random.integers(0, V, (T, B))).astype(np.int32)
    return x, random.integers(0, V, (T, B)).astype(np.int32), reset


def reference(model: Model, x: Any) -> Any:
    """The logits of one text from its start, (T, V)."""
    c, tensors = model.config, model.tensors()
    *_, kept = naive.forward(tensors, c.cell, c.nonlinearity, c.num_layers, c.norm, c.residual, x[:, None])
    y = naive.attended(tensors, kept.outputs[:, 0])
    return y @ tensors["decoder.weight"].T + tensors["decoder.bias"]


# --- equations and gradients -------------------------------------------------------------------------


@pytest.mark.parametrize("name", CONFIGS)
def test_logits_are_those_of_the_reference_however_the_text_is_cut(name):
    model = make(CONFIGS[name])
    x, _, _ = texts(24, 3)
    x[0] = V
    x[1:][x[1:] == V] = 0
    whole, last = model.forward(x)
    for b in range(3):
        np.testing.assert_allclose(whole[:, b], reference(model, x[:, b]), atol=1e-9)
    state, found = None, []
    for part in (x[:1], x[1:9], x[9:11], x[11:]):
        logits, state = model.forward(part, state)
        found.append(logits)
    np.testing.assert_allclose(np.concatenate(found), whole, atol=1e-12)
    assert state is not None
    for one, other in zip(state.layers, last.layers, strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-12)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_text_that_begins_has_nothing_to_attend_to(name):
    model = make(CONFIGS[name])
    x, _, reset = texts(30, 2)
    reset[11, 0], x[11, 0] = True, V
    before = model.forward(texts(9, 2, seed=1)[0])[1]
    logits, _ = model.forward(x, before, reset)
    starts = [*np.flatnonzero(reset[:, 0]).tolist(), 30]
    for start, end in itertools.pairwise(starts):
        np.testing.assert_allclose(logits[start:end, 0], reference(model, x[start:end, 0]), atol=1e-9)


@pytest.mark.parametrize("name", CONFIGS)
def test_the_gradient_is_that_of_central_differences_with_the_past_a_constant(name):
    model = make(CONFIGS[name])
    x, y, reset = texts(5, 3)
    state = model.forward(texts(4, 3, seed=2)[0])[1]
    model.gradient(x, y, state, reset)
    slopes, starts = model.gradients.flat.copy(), model.state_gradient()

    def loss() -> float:
        return float(model.losses(x, y, state, reset)[0].mean())

    check_parameters(model, slopes, loss)
    *layers, _ = zip(state.layers, starts.layers, strict=True)
    for arrays, gradients in layers:  # of the recurrent layers
        check_slopes(arrays[0], gradients[0], loss)
    assert [float(np.abs(part).max()) for part in starts.layers[-1]] == [0.0, 0.0]


@pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: path.stem)
def test_logits_gradients_and_ten_training_losses_are_pytorchs(path):
    with np.load(path, allow_pickle=False) as file:
        r = dict(file)
    c = json.loads(str(r["config"]))
    s, sizes = c["settings"], {n: c[n] for n in ("cell", "hidden_size", "embedding_size", "span")}
    config = ModelConfig(11, num_layers=1, norm=False, residual=False, **sizes)
    model = Model(config, workers=Workers(2), dtype=np.float64)
    check_ten_steps(model, r, s)


def test_recordings_are_there():
    assert len(RECORDINGS) == 2


def test_it_begins_as_the_network_without():
    config = replace(CONFIGS["less than a window"], cell="lstm", embedding_size=4)
    with_it, without = initial_tensors(config, 3), initial_tensors(replace(config, span=0), 3)
    rnn = {n: t for n, t in with_it.items() if not n.startswith(("attention", "decoder"))}
    assert all(np.array_equal(tensor, without[name]) for name, tensor in rnn.items())
    models = Model(config, workers=Workers(1)), Model(replace(config, span=0), workers=Workers(1))
    x, _, reset = texts(20, 2)
    for model, tensors in zip(
        models, (with_it, {**without, **{n: with_it[n] for n in without}}), strict=True
    ):
        model.load_tensors(tensors)
    np.testing.assert_array_equal(models[0].forward(x, None, reset)[0], models[1].forward(x, None, reset)[0])


def test_any_number_of_threads_gives_the_same_bits():
    x, y, reset = texts(9, 7)
    results = []
    for threads in (1, 2, 3):
        model = make(CONFIGS["less than a window"], threads, np.float32)
        loss, state = model.gradient(x, y, None, reset)
        losses, _ = model.losses(x, y, state, reset)
        results.append((loss, losses.tobytes(), model.gradients.flat.tobytes()))
    assert results[0] == results[1] == results[2]


def test_it_is_a_stage_of_the_pipeline_over_layers():
    x, _, reset = texts(150, 1)
    config = replace(CONFIGS["less than a window"], span=40)
    one, several = (make(config, n, np.float32).forward(x, None, reset)[0] for n in (1, 3))
    assert one.tobytes() == several.tobytes()


@pytest.mark.parametrize("name", CONFIGS)
def test_a_text_may_begin_with_the_state_of_another(name):
    model = make(CONFIGS[name], dtype=np.float32)
    model = Model(CONFIGS[name], workers=Workers(2))
    model.load_tensors(make(CONFIGS[name]).tensors())
    random = np.random.default_rng(3)
    ids = [np.concatenate(([0, 1, 2, 0, 3][:n], random.integers(0, V, 6))) for n in (5, 5, 3, 5, 0, 4)]
    lengths = np.array(list(map(len, ids)))
    ids = [t.astype(np.int32) for t in sorted(ids, key=lambda t: t.tolist())]
    lengths = np.array(list(map(len, ids)))
    found = shared_prefixes.losses(model, np.concatenate(ids), lengths, 4)
    expected = []
    for text in ids:
        rows = naive.log_softmax(reference(model, np.append(V, text[:-1])))
        expected.append(-rows[np.arange(len(text)), text])
    np.testing.assert_allclose(found, np.concatenate(expected), atol=2e-5)


# --- both engines ------------------------------------------------------------------------------------


def untrained(**settings: Any) -> Checkpoint:
    sizes = {"hidden_size": 18, "embedding_size": 18, "span": 6}
    return random_models.make(characters="\nabcdef", **(sizes | settings))


@pytest.mark.parametrize(
    ("settings", "precision"),
    [
        ({}, "float32"),
        ({"cell": "gru", "span": 1}, "bfloat16"),
        ({"cell": "rnn", "hidden_size": 70, "span": 40}, "float32"),
        ({"hidden_size": 1}, "float32"),
    ],
)
def test_both_engines_write_the_same_bits_on_any_number_of_threads(settings, precision, monkeypatch):
    check_writing(untrained(**settings), precision, monkeypatch)


def test_writing_computes_what_training_does():
    for settings in ({}, {"span": 2, "cell": "gru"}):
        check_numbers(untrained(**settings), Workers(2))


def test_a_mixture_writes_the_same_on_both_engines():
    check_mixture(MixedNetwork(blend([(untrained(), 1), (untrained(span=0, num_layers=1), 2)])))


def test_both_engines_compress_to_the_same_bytes(monkeypatch):
    check_compression(untrained(), monkeypatch)


def test_a_long_text_read_in_streams_has_the_loss_of_one_stream():
    random = np.random.default_rng(0)
    words = [random.integers(0, 7, 60) for _ in range(12)]
    ids = np.concatenate([words[k] for k in random.integers(0, 12, 400)]).astype(np.uint8)
    text, model = Documents(ids, 7, np.zeros(1, np.int64)), model_of(untrained(span=300), 2)
    found = evaluate(model, text)
    assert found is not None
    assert found.loss == pytest.approx(float(surprises(model, text).mean(dtype=np.float64)), abs=2e-6)


# --- runs and files ----------------------------------------------------------------------------------


@pytest.mark.parametrize("own", [{"span": 30}, {"span": 5, "cell": "gru", "counts": 1.0}])
def test_it_learns_and_goes_on_after_an_interruption(own, tmp_path):
    corpus, out = check_learning(tmp_path, own, **own)
    finer = tmp_path / "f.safetensors"
    assert list(api.train(corpus, out=finer, init_from=out, steps=2))[-1].reason == "budget"
    assert load(finer).config.span == own["span"]


@pytest.mark.parametrize("precision", ["auto", "float32"])
def test_records_with_labels_learn_in_any_precision(precision, tmp_path):
    corpus = tmp_path / "t.tsv"
    corpus.write_text("a\tabba\nb\tbaab\n" * 40, encoding="utf-8")
    out, settings = tmp_path / "m.safetensors", {"hidden_size": 8, "num_layers": 1, "steps": 25, "span": 8}
    text = TextConfig(lines=True, label_by="column")
    events = list(api.train(corpus, out=out, text=text, precision=precision, **settings))
    assert events[-1].reason == "budget"
    model = load(out)
    assert len(list(api.sample(api.given(model, "a"), count=3, seed=1))) == 3
    assert api.evaluate(model, corpus).loss < np.log(4)


def test_training_compiles_nothing_that_is_not_in_the_list(tmp_path):
    from charrnn.kernels.loops import retrospection
    from charrnn.nn.learning.compilation import compile_kernels

    def compiled() -> list[Any]:
        return [len(k.signatures) for k in vars(retrospection).values() if hasattr(k, "signatures")]

    for _ in compile_kernels(ModelConfig(7, span=3)):
        pass
    before, corpus = compiled(), tmp_path / "corpus.txt"
    corpus.write_text("to be or not to be, that is the question\n" * 20, encoding="utf-8")
    settings = {"hidden_size": 3, "num_layers": 1, "steps": 2, "batch_size": 4, "span": 9}
    list(api.train(corpus, out=tmp_path / "m.safetensors", **settings))
    assert compiled() == before
    assert sum(before) > 0


def test_a_file_says_what_it_has_and_one_without_stays_as_it_was(tmp_path):
    config = untrained().config
    assert format_version(config) == 6
    assert format_version(replace(config, span=0)) == 1
    assert "span" not in replace(config, span=0).to_dict()
    save(untrained(), tmp_path / "m.safetensors")
    assert load(tmp_path / "m.safetensors").config == config
    said = call("info", tmp_path / "m.safetensors").stdout.decode()
    assert "2 x 18, norm, residual, attention to the last 6\n" in said
    assert config.network().modules[-2].__repr__() == "Retrospection(18, 6)"


def test_the_command_has_it_and_networks_that_read_have_none(tmp_path):
    (tmp_path / "t.txt").write_text("ab\nba\n" * 50)
    words = ("--lines", "--hidden-size", "4", "--steps", "3", "-q", "-o", "m.safetensors")
    assert call("train", "t.txt", *words, "--span", "7", cwd=tmp_path).returncode == 0
    assert load(tmp_path / "m.safetensors").config.span == 7
    for wrong, said in (("-1", "span is -1"), ("5000", "give a whole number from 0 to 4096")):
        done = call("train", "t.txt", *words, "--force", "--span", wrong, cwd=tmp_path)
        assert done.returncode == 2
        assert said in done.stderr.decode()
    with pytest.raises(ConfigError, match="--span is for models that write"):
        ModelConfig(V, kind="filler", span=3)


def test_the_state_of_a_text_is_its_last_outputs_and_how_many_there_are():
    model = make(CONFIGS["less than a window"])
    x, _, _ = texts(2, 1)
    _, state = model.forward(x % V)
    assert isinstance(state, State)
    past, count = state.layers[-1]
    assert past.shape == (1, 3 * 4)
    assert count.tolist() == [[2.0]]
