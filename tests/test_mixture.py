"""Several models as one: what the mixture is, and that both paths agree on it."""

from __future__ import annotations

import functools
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from support.compiled_loop import AlwaysTogether, Ready, compiled_only, let_load
from support.novelty_index import indexed
from support.texts import generate
from support.toy_models import log_probabilities, toy

from charrnn import api
from charrnn.config import SampleConfig, TextConfig
from charrnn.errors import CheckpointError, ConfigError
from charrnn.generation.writing import generate_all
from charrnn.inference import engines
from charrnn.inference import writing_loop as kernels
from charrnn.inference.engines import CompiledPath, Cursor, PlainPath
from charrnn.inference.mixture import Blend, MixedNetwork, blend
from charrnn.search.predictor import Predictor


@pytest.fixture(autouse=True)
def plain_only(monkeypatch):
    let_load(monkeypatch, Ready(after=None))


def mixed_by_hand(parts, context: str, text: str, contexts=None) -> np.ndarray:
    """The mixture's p of all of the joint alphabet after context + text, (V,)."""
    alphabet = sorted(set("".join(part.vocabulary.characters for part, _ in parts)))
    total = np.zeros(len(alphabet))
    for n, (part, weight) in enumerate(parts):
        before = context if contexts is None else contexts[n]
        known = "".join(c for c in before + text if c in part.vocabulary)
        p = np.exp(log_probabilities(part, "", known)[-1])
        for character, value in zip(part.vocabulary.characters, p, strict=True):
            total[alphabet.index(character)] += weight * value
    return total / sum(weight for _, weight in parts)


PARTS = [(toy(1, "\nab", cell="gru"), 1.5), (toy(2, "\nbcd", hidden_size=7, embedding_size=0), 1.0)]


@pytest.mark.parametrize("text", ["", "a", "b", "ab", "acbd", "dcba", "aaa", "ddb"])
def test_probabilities_are_the_weighted_mean_matched_by_character(text):
    predictor = Predictor(blend(PARTS))
    assert predictor.vocabulary.characters == "\nabcd"
    (found,) = predictor.predict([predictor.start(text)])
    expected = mixed_by_hand(PARTS, "", text)
    assert expected.sum() == pytest.approx(1)
    if not text:  # of a model of lines, none is empty
        expected[0] = 0
    np.testing.assert_allclose(np.exp(found), expected, atol=1e-6)


def test_weights_of_any_size_are_shares():
    (large, usual) = (
        Predictor(blend([(PARTS[0][0], weight), (PARTS[1][0], weight)])) for weight in (1e308, 1.0)
    )
    np.testing.assert_array_equal(large.predict([large.start("ab")]), usual.predict([usual.start("ab")]))


def test_a_character_that_no_model_writes_next_to_it_is_read_as_if_it_were_not_there():
    alone = Predictor(PARTS[0][0])
    both = MixedNetwork(blend(PARTS))  # type: ignore[arg-type]
    _, state = both.step(both.vocab_size, both.initial_state())
    _, with_d = both.step(4, state)  # "d", which the first model lacks
    assert with_d[0] is state[0]
    (expected,) = alone.predict([alone.start("")])
    logits = with_d[0][1]
    np.testing.assert_allclose((logits - np.log(np.exp(logits).sum()))[1:], expected[1:], atol=1e-6)


def test_prose_among_lines_begins_each_as_after_a_line_end():
    parts = [(PARTS[0][0], 1.0), (replace(PARTS[1][0], text=TextConfig()), 1.0)]
    both = blend(parts)
    assert both.text.lines
    (found,) = (predictor := Predictor(both)).predict([predictor.start("ab")])
    np.testing.assert_allclose(np.exp(found), mixed_by_hand(parts, "", "ab", ["", "\n"]), atol=1e-6)


def test_a_single_model_is_itself_and_the_same_twice_is_the_same():
    model = PARTS[0][0]
    assert blend([(model, 3.0)]) is model
    twice, once = Predictor(blend([(model, 3.0), (model, 0.5)])), Predictor(model)
    np.testing.assert_allclose(
        twice.predict([twice.start("ab")]), once.predict([once.start("ab")]), atol=1e-12
    )


@compiled_only
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_both_paths_compute_the_same_bits(precision):
    network = MixedNetwork(Blend(*zip(*PARTS, strict=True)), precision)
    for options in ({}, {"temperature": 0.0}, {"top_k": 2, "temperature": 1.5}, {"top_p": 0.7}):
        config = SampleConfig(**options)
        plain = PlainPath(network, config)
        compiled = CompiledPath(network, config, kernels, threads=2)
        random = np.random.default_rng(7)
        V = network.vocab_size
        ones, others = ([Cursor(V, network.initial_state()) for _ in range(5)] for _ in range(2))
        for _ in range(6):
            uniforms = [random.random(7) for _ in range(5)]
            for a, b in zip(plain.write(ones, uniforms, 0), compiled.write(others, uniforms, 0), strict=True):
                assert a.tolist() == b.tolist()
            assert plain.predict(ones).tobytes() == compiled.predict(others).tobytes()


@compiled_only
def test_texts_of_a_blend_are_the_same_on_both_paths(monkeypatch):
    both = blend(PARTS)
    config = SampleConfig(seed=3, length=40, temperature=1.0)
    alone = ["".join(generate(both, "ab", config, index=n)) for n in range(20)]
    assert len(set("".join(alone))) == 5
    let_load(monkeypatch, Ready(after=0))
    texts = generate_all(both, "ab", config, count=20, threads=2)
    assert ["".join(pieces) for pieces in texts] == alone


@compiled_only
@pytest.mark.parametrize(("predicts", "steered"), [(False, False), (True, False), (True, True)])
def test_the_loop_of_each_kind_is_loaded_by_itself(predicts, steered, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setattr(engines, "loader_of", functools.cache(engines.loader_of.__wrapped__))
    network = MixedNetwork(blend(PARTS))  # type: ignore[arg-type]
    kind = engines.Kind(len(PARTS), predicts, steered)
    loader = engines.loader_of(kind)
    assert loader is engines.loader_of(kind)
    assert loader is not engines.loader_of(engines.Kind())
    loader.account(100.0, 1000)
    loader.consider(1000, network)
    assert loader._thread is not None
    loader._thread.join()
    assert loader.kernels is kernels


def test_frequencies_are_those_of_the_mixture(monkeypatch):
    let_load(monkeypatch, Ready(after=0))
    both = blend(PARTS)
    config = SampleConfig(seed=1, length=1, temperature=1.0)
    drawn = "".join("".join(pieces) for pieces in generate_all(both, "b", config, count=4000))
    expected = 4000 * mixed_by_hand(PARTS, "", "b")
    counts = np.array([drawn.count(c) for c in both.vocabulary.characters])
    assert ((counts - expected) ** 2 / expected).sum() < 25  # chi-squared, 4 degrees: p < 0.0001


def test_all_that_searches_takes_a_blend():
    both = blend(PARTS)
    lines = [line.text for line in api.enumerate_lines(both, count=30)]
    assert any("a" in line for line in lines)
    assert any("c" in line for line in lines)
    assert [one.text[0] for one in api.fill(both, "?a")]
    assert api.offers(both).after("a").continuation


def test_models_that_do_not_go_together_are_refused():
    raw = replace(PARTS[0][0], text=TextConfig(bytes=True))
    with pytest.raises(ConfigError, match="bytes"):
        blend([(raw, 1.0), PARTS[1]])
    for weight in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match="weight"):
            blend([PARTS[0], (PARTS[1][0], weight)])
    with pytest.raises(ConfigError, match="models"):
        blend([])


# --- what a text may be ---------------------------------------------------------------


def indexed_parts() -> Any:
    return blend([(indexed(model, f"{word}\n"), w) for (model, w), word in zip(PARTS, "ba", strict=True)])


STEERED: list[dict[str, Any]] = [
    {"match": "[ab]*[cd]"}, {"match": "b*[cd]a?", "exact": True}, {"ban": ("ab", "c"), "mirostat": 1.0},
    {"novel": True, "unique": True}, {"dry": 0.8, "dry_length": 1, "typical": 0.8},
]  # fmt: skip


@compiled_only
@pytest.mark.parametrize("settings", STEERED, ids=str)
def test_steered_texts_of_a_blend_are_the_same_on_both_paths(settings, monkeypatch):
    both = indexed_parts()
    config = SampleConfig(seed=3, length=15, **settings)
    alone = ["".join(pieces) for pieces in generate_all(both, "", config, count=9)]
    let_load(monkeypatch, Ready(after=0))
    assert ["".join(pieces) for pieces in generate_all(both, "", config, count=9, threads=2)] == alone
    if "match" in settings:
        assert all(re.fullmatch(settings["match"], text.removesuffix("\n")) for text in alone)
    if "novel" in settings:
        assert not {"a\n", "b\n"} & set(alone)


def test_runs_of_several_training_texts_are_not_known():
    with pytest.raises(ConfigError, match="a mixture of models"):
        generate(indexed_parts(), "", SampleConfig(novel=9))
    with pytest.raises(CheckpointError, match="no index"):
        generate(blend([(indexed(PARTS[0][0], "a"), 1.0), PARTS[1]]), "", SampleConfig(novel=True))


@compiled_only
def test_a_team_writes_the_same_with_a_blend(monkeypatch):
    network = MixedNetwork(Blend(*zip(*PARTS, strict=True)))
    config = SampleConfig(seed=1)
    plain, cursor = PlainPath(network, config), Cursor(network.vocab_size, network.initial_state())
    numbers = np.random.default_rng(1).random(40)
    (expected,) = plain.write([cursor], [numbers], -1)
    monkeypatch.setattr(engines, "WEIGHTS_A_THREAD", 1)
    monkeypatch.setattr(engines, "Pace", AlwaysTogether)
    for threads in (1, 2, 3):
        team, other = CompiledPath(network, config, kernels, threads), replace(cursor)
        other.last, other.state = network.vocab_size, network.initial_state()
        (written,) = team.write([other], [numbers], -1)
        assert written.tolist() == expected.tolist()
        assert all(
            a.tobytes() == b.tobytes()
            for one, two in zip(cursor.state, other.state, strict=True)
            for a, b in zip(one, two, strict=True)
        )
