"""The gate between counts and network: its equations, its gradient, and one probability wherever it is."""

from __future__ import annotations

import functools
import math
from dataclasses import replace
from typing import Any

import naive
import numpy as np
import pytest
from support import counted, random_models, toy_models
from support.compiled_loop import compiled_only

from charrnn.checkpoint.model_file import Checkpoint
from charrnn.config import SampleConfig, TextConfig
from charrnn.counts import fitting
from charrnn.counts.gate import MOST_WEIGHT, SIZE, Gate, GatedCounts
from charrnn.counts.lookup import NOTHING, Lookup
from charrnn.inference.mixed_model import MixedModel, model_of
from charrnn.inference.mixture import Blend, MixedNetwork
from charrnn.inference.numpy_network import PlainNetwork
from charrnn.kernels.coefficients import GATE_LONG, GATE_LONG_MOST, GATE_RANGE
from charrnn.kernels.loops.beside import mixing
from charrnn.scoring import shared_prefixes

WIDE = "".join(map(chr, range(32, 332)))


NAMES = ("prose", "lines", "records", "many characters", "a narrow network", "a text that repeats itself")


def repeating() -> Checkpoint:
    """One whose gate leaves much to the counts where they copy."""
    model = counted.beside(toy_models.toy(), order=9)
    assert model.counts is not None
    gate = replace(model.counts.gate, long_most=0.75)
    return replace(model, counts=replace(model.counts, gate=gate))


@functools.cache
def models() -> dict[str, Checkpoint]:
    """With counts: of prose, lines and other records, of few characters and of many."""
    lines = TextConfig(lines=True)
    made = (
        counted.beside(random_models.make()),
        counted.beside(random_models.make(text=lines), order=3),
        counted.beside(toy_models.toy(split="blank"), order=12),
        counted.beside(random_models.make(characters=WIDE, norm=False)),
        counted.beside(random_models.make(hidden_size=2, cell="rnn"), order=9),
        repeating(),
    )
    return dict(zip(NAMES, made, strict=True))


def sequence(model: Checkpoint, length: int = 120, seed: int = 3) -> tuple[Any, Any]:
    """Characters that are read, from START on, and those that follow each."""
    ids = np.random.default_rng(seed).integers(0, model.config.outputs - model.config.ends, length)
    return np.append(model.config.outputs, ids[:-1]), ids


def written(model: Checkpoint, x: Any) -> Any:
    """log p of what follows each character, (T, V), from the NumPy path."""
    network = PlainNetwork(model)
    state, rows = network.initial_state(), []
    for character in x.tolist():
        logits, state = network.step(character, state)
        rows.append(logits.astype(np.float64))
    return np.stack(rows)


# --- the equations -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_probabilities_are_those_of_the_equations(name):
    model = models()[name]
    assert model.counts is not None
    x, _ = sequence(model, 60)
    alone, lookup = written(replace(model, counts=None), x), Lookup(model.counts.counts)
    context = np.full(model.counts.counts.order - 1, NOTHING, np.int32)
    weights = []
    for character, logits, found in zip(x.tolist(), alone, written(model, x), strict=True):
        context = lookup.after(character, context)
        p, told = lookup.predict(context)
        weight, expected = naive.gated(model.counts.tensors(), told[:-2], p, logits)
        np.testing.assert_allclose(np.exp(found), expected, rtol=2e-5)
        assert np.exp(found).sum() == pytest.approx(1, abs=1e-6)
        weights.append(weight)
    assert np.ptp(weights) > 0.05


def test_the_logarithm_is_exact_to_many_digits():
    x = np.exp(np.random.default_rng(0).uniform(-300, 1, 2000))
    nats = np.zeros(len(x), np.float32)
    from charrnn.inference.numpy_network import log

    np.testing.assert_allclose(log(x), np.log(x), atol=1e-12, rtol=1e-12)
    gate = Gate(np.append(np.zeros(SIZE - 1), -30).astype(np.float32))  # nearly all is the network's
    mixing.nats(nats, np.zeros((2000, 2), np.float32), x, np.zeros((2000, 6), np.float32), gate.numbers)
    np.testing.assert_allclose(nats, -np.log(1 - (1 - x) / 1024), atol=1e-7)


def rows(count: int, seed: int = 0) -> tuple[Any, ...]:
    """Inputs of the gate, and the probabilities of characters under counts and network."""
    random = np.random.default_rng(seed)
    features = random.normal(size=(count, 13)).astype(np.float32)
    sure = 1 / (1 + np.exp(-2 * features[:, 3]))  # so there is something to learn
    chances = np.where(random.random(count) < sure, 0.8, 0.01)
    return features, chances, np.full(count, 0.2)


def most(features: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.where(features[:, GATE_LONG - 1] > 0, GATE_LONG_MOST, GATE_RANGE[1])


def test_the_gradient_is_that_of_central_differences():
    features, chances, network = rows(40)
    gate = np.random.default_rng(1).normal(scale=0.3, size=SIZE)
    some, spare, wide = np.arange(0, 40, 3), np.empty(SIZE), features.astype(np.float64)

    def loss() -> float:
        return mixing.gradient(spare, gate, wide, most(features), chances, network, some)

    gradient = np.empty(SIZE)
    mixing.gradient(gradient, gate, wide, most(features), chances, network, some)
    for k in range(0, SIZE, 7):
        before = gate[k]
        gate[k] = before + 1e-4
        above = loss()
        gate[k] = before - 1e-4
        below = loss()
        gate[k] = before
        assert gradient[k] == pytest.approx((above - below) / 2e-4, abs=1e-6)


def test_the_gradient_is_of_the_loss_that_is_read():
    features, chances, network = rows(50)
    gate = Gate(np.random.default_rng(1).normal(scale=0.3, size=SIZE).astype(np.float32))
    spare, wide = np.empty(SIZE), features.astype(np.float64)
    read = most(features), chances, network, np.arange(50)
    loss = mixing.gradient(spare, gate.flat.astype(np.float64), wide, *read)
    nats = -np.log(network).astype(np.float32)
    told = features[:, [*range(11)]].copy()  # nine contexts and what sharpness the counts have
    mixing.nats(nats, features[:, 11:].copy(), chances, told, gate.numbers)
    assert nats.mean() == pytest.approx(loss, abs=1e-5)


def test_a_fit_finds_what_is_there_and_is_the_same_each_time():
    known, new = rows(6000), rows(6000, seed=1)

    def loss(gate: Gate, of: tuple[Any, ...]) -> float:
        features, *others = of
        wide = gate.flat.astype(np.float64)
        read = features.astype(np.float64), most(features), *others, np.arange(6000)
        return mixing.gradient(np.empty(SIZE), wide, *read)

    gate = fitting.fitted(*known)
    np.testing.assert_array_equal(gate.flat, fitting.fitted(*known).flat)
    constant = min(-np.log(w * new[1] + (1 - w) * new[2]).mean() for w in np.linspace(0.01, 0.99, 99))
    assert loss(gate, new) < constant - 0.1


def test_neither_is_ever_left_out():
    for shift in (-1000.0, 1000.0):
        gate = Gate(np.append(np.zeros(SIZE - 1), shift).astype(np.float32))
        nats = np.array([50.0, 0.0], np.float32)
        chances = np.array([1.0, 1e-30])
        mixing.nats(nats, np.zeros((2, 2), np.float32), chances, np.zeros((2, 6), np.float32), gate.numbers)
        assert nats.max() == pytest.approx(math.log(1024), abs=1e-3)


def test_a_network_that_has_diverged_is_not_hidden():
    nats = np.array([np.nan, 1.0], np.float32)
    gate = counted.gated(5).gate
    mixing.nats(
        nats, np.full((2, 2), np.nan, np.float32), np.ones(2), np.zeros((2, 6), np.float32), gate.numbers
    )
    assert np.isnan(nats[0])
    assert 0 <= nats[1] < 1


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_logits_that_are_not_finite_give_probabilities(value):
    model = replace(models()["prose"], tensors=dict(models()["prose"].tensors))
    model.tensors["decoder.bias"] = model.tensors["decoder.bias"].copy()
    model.tensors["decoder.bias"][3] = value
    found = np.exp(written(model, sequence(model, 20)[0]))
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-5)


# --- one probability ---------------------------------------------------------------------------------


@compiled_only
@pytest.mark.parametrize("name", NAMES)
def test_both_engines_write_the_same_bit_for_bit(name):
    from charrnn.inference import writing_loop
    from charrnn.inference.engines import CompiledPath, Cursor, PlainPath

    network = PlainNetwork(models()[name])
    config = SampleConfig()
    uniforms = [np.random.default_rng(seed).random(60) for seed in range(3)]

    def run(path: Any, texts: Any) -> tuple[Any, ...]:
        cursors = [Cursor(network.vocab_size, network.initial_state()) for _ in texts]
        ids = path.write(cursors, texts, -1)
        predicted = path.predict(cursors)
        return [i.tolist() for i in ids], predicted.tolist(), [cursor.state.tolist() for cursor in cursors]

    plain = run(PlainPath(network, config), uniforms)
    assert run(CompiledPath(network, config, writing_loop, 2), uniforms) == plain
    alone = run(CompiledPath(network, config, writing_loop, 1), uniforms[:1])
    assert alone == tuple(part[:1] for part in plain)


@compiled_only
@pytest.mark.parametrize("team", [1, 2, 3])
def test_a_team_of_threads_writes_the_same(team):
    from support.compiled_loop import AlwaysTogether

    from charrnn.inference import writing_loop
    from charrnn.inference.engines import CompiledPath, Cursor, PlainPath

    network = PlainNetwork(models()["many characters"])
    uniforms = [np.random.default_rng(5).random(80)]
    path = CompiledPath(network, SampleConfig(), writing_loop, team)
    path._pace = AlwaysTogether(team)
    texts = []
    for engine in (path, PlainPath(network, SampleConfig())):
        cursor = Cursor(network.vocab_size, network.initial_state())
        texts.append(engine.write([cursor], uniforms, -1)[0].tolist())
    assert texts[0] == texts[1]


@pytest.mark.parametrize("name", NAMES)
def test_what_is_read_is_what_is_written(name):
    model = models()[name]
    x, y = sequence(model)
    expected = -written(model, x)[np.arange(len(x)), y]
    reading = model_of(model, 2)
    assert isinstance(reading, MixedModel)
    state, found = reading.zero_state(1), []
    for part in (slice(0, 50), slice(50, None)):
        losses, state = reading.losses(x[part, None].astype(np.int32), y[part, None].astype(np.int32), state)
        found.append(losses[:, 0])
    np.testing.assert_allclose(np.concatenate(found), expected, atol=1e-5)


def test_texts_that_share_a_beginning_are_read_like_others():
    model = models()["prose"]
    texts = ["abcabd", "abcabc", "abcabcde", "b", "bab a"]
    ids = [model.vocabulary.encode(text).astype(np.int32) for text in texts]
    lengths = np.array(list(map(len, texts)))
    found = shared_prefixes.losses(model_of(model, 1), np.concatenate(ids), lengths, 4)
    expected = []
    for text in ids:
        x = np.append(model.config.outputs, text[:-1])
        expected.append(-written(model, x)[np.arange(len(text)), text])
    np.testing.assert_allclose(found, np.concatenate(expected), atol=1e-5)


def test_a_mixture_of_models_mixes_what_each_predicts():
    one, other = models()["prose"], random_models.make(seed=4)
    x, _ = sequence(one, 30)
    network = MixedNetwork(Blend((one, other), (3.0, 1.0)))
    state: Any = network.initial_state()
    for character, p, q in zip(x.tolist(), written(one, x), written(other, x), strict=True):
        found, state = network.step(character, state)
        network_p = np.exp(q) / np.exp(q).sum()
        np.testing.assert_allclose(
            np.exp(found), 0.75 * np.exp(p) / np.exp(p).sum() + 0.25 * network_p, rtol=1e-5
        )


# --- files -------------------------------------------------------------------------------------------


def test_a_gate_comes_back_from_its_tensors():
    gate = counted.gated(6).gate
    tensors = gate.tensors()
    assert {name: tensor.shape for name, tensor in tensors.items()} == {
        "gate.hidden.weight": (16, 13), "gate.hidden.bias": (16,),
        "gate.output.weight": (1, 16), "gate.output.bias": (1,),
    }  # fmt: skip
    np.testing.assert_array_equal(Gate.from_tensors(tensors).flat, gate.flat)
    other = Gate(gate.flat, 0.75)
    assert other.tensors().keys() - tensors.keys() == {"gate.most"}
    np.testing.assert_array_equal(Gate.from_tensors(other.tensors()).numbers, other.numbers)


HOSTILE = {
    "a tensor too few": (lambda t: t.pop("gate.hidden.bias"), r"gate\.hidden\.bias is missing"),
    "a tensor too many": (lambda t: t.update({"gate.z": np.zeros(1, np.float32)}), r"no such tensor"),
    "another shape": (lambda t: t.update({"gate.hidden.bias": np.zeros(17, np.float32)}), "of the shape"),
    "another type": (lambda t: t.update({"gate.output.bias": np.zeros(1)}), "float64"),
    "not a number": (lambda t: t["gate.output.weight"].fill(np.nan), r"gate\.output\.weight holds NaN"),
    "a huge number": (lambda t: t["gate.hidden.weight"].fill(MOST_WEIGHT * 2), "beyond 1000"),
    "no bound": (lambda t: t.update({"gate.most": np.zeros(1, np.float32)}), r"gate\.most is not above"),
    "no number as a bound": (
        lambda t: t.update({"gate.most": np.full(1, np.nan, np.float32)}), r"gate\.most is not above",
    ),
    "two bounds": (lambda t: t.update({"gate.most": np.ones(2, np.float32)}), "of the shape"),
    "counts of other characters": (lambda t: t.update(counted.gated(7).counts.tensors()), "has a 6|has a 7"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_gate_is_refused(name):
    change, reason = HOSTILE[name]
    tensors = counted.gated(6).tensors()
    change(tensors)
    with pytest.raises(ValueError, match=reason):
        GatedCounts.from_tensors(tensors, 6)
