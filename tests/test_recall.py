"""Models that look back: the cache's equations, one probability wherever it is, and every command with it."""

from __future__ import annotations

import functools
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import naive
import numpy as np
import pytest
from support import counted, random_models
from support.calls import call
from support.compiled_loop import AlwaysTogether, Ready, compiled_only, let_load
from support.toy_models import toy

from charrnn import api
from charrnn.checkpoint import model_file
from charrnn.checkpoint.model_file import Checkpoint
from charrnn.config import CacheConfig, DynamicConfig, SampleConfig, TextConfig
from charrnn.errors import CompressionError, ConfigError
from charrnn.inference.mixed_model import RecallingModel, model_of
from charrnn.inference.mixture import Blend, MixedNetwork
from charrnn.inference.numpy_network import PlainNetwork
from charrnn.scoring import compression, shared_prefixes
from charrnn.search import suggestions
from charrnn.tasks.evaluation import evaluate, surprises
from charrnn.text.documents import Documents

CHARACTERS = "\n abc"
# An LSTM's layer holds two states, an RNN's beside counts several; 40 numbers are a vector and a rest.
MADE: dict[str, Any] = {
    "prose": lambda: api.looking_back(random_models.make(), 7),
    "one place": lambda: api.looking_back(random_models.make(cell="gru"), 1),
    "counts": lambda: api.looking_back(counted.beside(random_models.make()), CacheConfig(30, 4.0, 0.9)),
    "lines": lambda: api.looking_back(
        counted.beside(random_models.make(text=TextConfig(lines=True)), order=3), 12
    ),
    "wide": lambda: api.looking_back(random_models.make(hidden_size=40, norm=False), CacheConfig(50, 9.0)),
    "narrow": lambda: api.looking_back(
        counted.beside(random_models.make(hidden_size=2, cell="rnn"), order=9), CacheConfig(20, 2.0)
    ),
}


@functools.cache
def models() -> dict[str, Checkpoint]:
    return {name: make() for name, make in MADE.items()}


def sequence(model: Checkpoint, length: int = 100, seed: int = 3) -> tuple[Any, Any]:
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


def expected(model: Checkpoint, x: Any) -> Any:
    """The probabilities by the reference."""
    config, cache = model.config, model.cache
    assert cache is not None
    *_, kept = naive.forward(
        model.tensors, config.cell, config.nonlinearity, config.num_layers, config.norm, config.residual,
        x[:, None],
    )  # fmt: skip
    own = np.exp(naive.log_softmax(written(replace(model, cache=None), x)))
    how = cache.theta, cache.weight, cache.doubt
    return naive.recalled(kept.outputs[:, 0], x.tolist(), own, cache.size, how)


# --- one probability ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MADE)
def test_probabilities_are_those_of_the_equations(name):
    model = models()[name]
    x, _ = sequence(model, 60)
    found, wanted = np.exp(written(model, x)), expected(model, x)
    np.testing.assert_allclose(found, wanted, rtol=2e-4)
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-5)
    alone = np.exp(naive.log_softmax(written(replace(model, cache=None), x)))
    np.testing.assert_allclose(found[0], alone[0], rtol=1e-5)  # nothing is known yet
    assert np.abs(found[1:] - alone[1:]).max() > 0.05


@compiled_only
@pytest.mark.parametrize("name", MADE)
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
@pytest.mark.parametrize("team", [1, 3])
def test_a_team_of_threads_writes_the_same(team):
    from charrnn.inference import writing_loop
    from charrnn.inference.engines import CompiledPath, Cursor, PlainPath

    network = PlainNetwork(models()["wide"])
    uniforms = [np.random.default_rng(5).random(80)]
    path = CompiledPath(network, SampleConfig(), writing_loop, team)
    path._pace = AlwaysTogether(team)
    texts = []
    for engine in (path, PlainPath(network, SampleConfig())):
        cursor = Cursor(network.vocab_size, network.initial_state())
        texts.append(engine.write([cursor], uniforms, -1)[0].tolist())
    assert texts[0] == texts[1]


@pytest.mark.compiled
@pytest.mark.parametrize("name", MADE)
def test_what_is_read_is_what_is_written(name):
    model = models()[name]
    x, y = sequence(model)
    rows = written(model, x)
    reading = model_of(model, 2)
    assert isinstance(reading, RecallingModel)
    state, found = reading.zero_state(1), []
    other, told = reading.zero_state(1), []
    for part in (slice(0, 50), slice(50, 53), slice(53, None)):
        read, following = (ids[part, None].astype(np.int32) for ids in (x, y))
        losses, state = reading.losses(read, following, state)
        found.append(losses[:, 0])
        logits, other = reading.forward(read, other)
        told.append(logits[:, 0])
    np.testing.assert_allclose(np.concatenate(found), -rows[np.arange(len(x)), y], atol=2e-4)
    np.testing.assert_allclose(np.exp(np.concatenate(told)), np.exp(rows), atol=2e-5)


@pytest.mark.compiled
def test_a_record_begins_with_nothing_to_look_back_at():
    reading = model_of(models()["prose"], 1)
    x, y = (ids.astype(np.int32)[:, None] for ids in sequence(models()["prose"], 40))
    x[20], reset = x[0], np.arange(40)[:, None] == 20
    both, _ = reading.losses(x, y, None, reset)
    second, _ = reading.losses(x[20:], y[20:])
    np.testing.assert_allclose(both[20:], second, atol=1e-6)


@pytest.mark.compiled
@pytest.mark.parametrize("name", ["prose", "counts"])
def test_texts_that_share_a_beginning_are_read_like_others(name):
    model = models()[name]
    texts = ["abcabdabcab", "abcabdabcb", "abcabdabcabde", "b", "babba a"]
    ids = [model.vocabulary.encode(text).astype(np.int32) for text in texts]
    lengths = np.array(list(map(len, texts)))
    found = shared_prefixes.losses(model_of(model, 2), np.concatenate(ids), lengths, 4)
    wanted = []
    for text in ids:
        x = np.append(model.config.outputs, text[:-1])
        wanted.append(-written(model, x)[np.arange(len(text)), text])
    np.testing.assert_allclose(found, np.concatenate(wanted), atol=2e-4)


@pytest.mark.compiled
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_states_that_are_not_finite_are_like_no_other(value):
    model = replace(models()["prose"], tensors=dict(models()["prose"].tensors))
    model.tensors["norm_l1.bias"] = model.tensors["norm_l1.bias"].copy()
    model.tensors["norm_l1.bias"][2] = value
    found = np.exp(written(model, sequence(model, 20)[0]))
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-5)


def test_a_mixture_of_models_mixes_what_each_predicts():
    one, other = models()["prose"], random_models.make(seed=4)
    x, _ = sequence(one, 30)
    network = MixedNetwork(Blend((one, other), (3.0, 1.0)))
    state: Any = network.initial_state()
    for character, p, q in zip(x.tolist(), written(one, x), written(other, x), strict=True):
        found, state = network.step(character, state)
        np.testing.assert_allclose(
            np.exp(found), 0.75 * np.exp(p) + 0.25 * np.exp(naive.log_softmax(q)), rtol=1e-4
        )


def test_each_model_of_a_blend_gets_a_cache():
    blend = Blend((random_models.make(), random_models.make(seed=4)), (3.0, 1.0), random_models.make(seed=5))
    back = api.looking_back(blend, 9)
    assert isinstance(back, Blend)
    assert [part.cache for part in (*back.parts, back.away_from)] == [CacheConfig(9)] * 3


def test_a_model_given_its_labels_goes_on_looking_back():
    model = api.looking_back(random_models.make(labels=(3,)), 5)
    assert model.given((1,)).cache == CacheConfig(5)


# --- figures -----------------------------------------------------------------------------------------

PROSE, LINES = toy(characters=CHARACTERS, lines=False), toy(characters=CHARACTERS)
COUNTED = counted.beside(PROSE)
TEXT = "abba cab\ncab abba\nbaa\n" * 12
CACHE = CacheConfig(40, 8.0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "t.txt").write_text(TEXT)
    model_file.save(PROSE, tmp_path / "prose.safetensors")
    model_file.save(LINES, tmp_path / "lines.safetensors")
    return tmp_path


@pytest.mark.compiled
@pytest.mark.parametrize("model", [PROSE, COUNTED, LINES], ids=["prose", "counts", "lines"])
def test_the_loss_is_that_of_the_reference_beside_that_of_the_model_as_it_is(model, folder):
    back = api.looking_back(model, CACHE)
    nats = []
    for text in TEXT.splitlines(keepends=True) if model.text.lines else [TEXT]:
        ids = model.vocabulary.encode(text)
        p = expected(back, np.append(model.config.outputs, ids[:-1]))
        nats += (-np.log(p[np.arange(len(ids)), ids])).tolist()
    static, found = (api.evaluate(m, folder / "t.txt") for m in (model, back))
    assert found.cache_loss == pytest.approx(np.mean(nats), abs=1e-4)
    assert static.cache_loss is None
    assert static.cache_bpc is None
    assert replace(found, cache_loss=None) == static
    assert found.cache_bpc == pytest.approx(found.cache_loss / math.log(2))
    assert (found.cache_loss < 0.9 * found.loss) == (not model.text.lines)  # the same lines twelve times


@pytest.mark.compiled
def test_a_long_text_read_in_streams_has_the_loss_of_one_stream():
    rng = np.random.default_rng(0)
    words = [rng.integers(0, 5, 60) for _ in range(12)]
    ids = np.concatenate([words[k] for k in rng.integers(0, 12, 400)]).astype(np.uint8)
    text = Documents(ids, 5, np.zeros(1, np.int64))
    model = model_of(api.looking_back(PROSE, 300), 2)
    found = evaluate(model, text)
    assert found is not None
    assert found.loss == pytest.approx(float(surprises(model, text).mean(dtype=np.float64)), abs=2e-6)
    assert found.loss != pytest.approx(evaluate(model_of(PROSE, 2), text).loss, abs=1e-2)


@pytest.mark.compiled
def test_any_number_of_threads_gives_the_same_figures(folder):
    model = api.looking_back(COUNTED, CACHE)
    how = {"adaptive": True, "dynamic": DynamicConfig()}
    found = [api.evaluate(model, folder / "t.txt", threads=n, **how) for n in (1, 2, 3)]
    assert len({(f.cache_loss, f.dynamic_loss, f.adaptive_loss) for f in found}) == 1


@pytest.mark.compiled
def test_what_learns_while_it_reads_does_so_beside_the_cache(folder):
    model = api.looking_back(COUNTED, CACHE)
    still = DynamicConfig(rate=0.0, decay=0.0)
    found = api.evaluate(model, folder / "t.txt", dynamic=still, adaptive=True)
    assert found.dynamic_loss == pytest.approx(found.cache_loss, abs=1e-5)
    alone = api.evaluate(COUNTED, folder / "t.txt", dynamic=still, adaptive=True)
    assert found.loss == alone.loss
    assert found.adaptive_loss != pytest.approx(alone.adaptive_loss, abs=1e-3)


@pytest.mark.compiled
def test_the_command_names_it(folder):
    args = ("eval", folder / "prose.safetensors", folder / "t.txt")
    cache = ("--cache", "40:8")
    static, both = (json.loads(call(*args, *option, "--json").stdout) for option in ((), cache))
    assert list(both) == [*static, "cache_loss", "cache_bpc"]
    assert {name: both[name] for name in static} == static
    first, second = call(*args, *cache).stdout.decode().splitlines()
    assert first == call(*args).stdout.decode().strip()
    assert second == f"cache loss {both['cache_loss']:.4f} nats/char, {both['cache_bpc']:.4f} bits/char"
    found = api.evaluate(api.looking_back(PROSE, CACHE), folder / "t.txt")
    assert both["cache_loss"] == pytest.approx(found.cache_loss, abs=1e-6)


@pytest.mark.compiled
def test_the_score_of_a_line_depends_on_the_line_alone_and_is_that_of_eval(folder):
    model = api.looking_back(LINES, CACHE)
    (scores,) = api.score_lines(model, folder / "t.txt")
    assert len({score.bits for score in scores}) == 3  # different lines
    total = sum(score.bits for score in scores) / sum(score.characters for score in scores)
    found = api.evaluate(model, folder / "t.txt").cache_bpc
    assert total == pytest.approx(found, abs=1e-5)
    (folder / "one.txt").write_text("cab abba\n")
    ((one,),) = api.score_lines(model, folder / "one.txt", threads=1)
    assert one.bits == pytest.approx(scores[1].bits, abs=1e-5)
    ((plain,),) = api.score_lines(LINES, folder / "one.txt")
    assert one.bits != pytest.approx(plain.bits, abs=1e-3)


@pytest.mark.compiled
def test_the_heat_of_prose_looks_back_over_its_lines(folder):
    model = api.looking_back(PROSE, CACHE)
    bits = np.concatenate([b for _, _, b in api.surprises(model, folder / "t.txt")])
    assert bits.mean() == pytest.approx(api.evaluate(model, folder / "t.txt").cache_bpc, abs=1e-5)
    np.testing.assert_allclose(api.score(model, TEXT) / math.log(2), bits, atol=1e-4)


# --- texts and files ---------------------------------------------------------------------------------


@compiled_only
def test_a_sample_is_the_same_whichever_engine_writes_it(monkeypatch):
    model, found = api.looking_back(COUNTED, CACHE), []
    for after in (None, 0, 3):  # never compiled, at once, and later
        let_load(monkeypatch, Ready(after))
        found.append(["".join(text) for text in api.sample(model, "abba", count=3, length=80, seed=1)])
    assert len(set(found[0])) == 3
    assert found[1:] == found[:1] * 2
    assert found[0] != ["".join(text) for text in api.sample(COUNTED, "abba", count=3, length=80, seed=1)]


@pytest.mark.compiled
def test_texts_of_prompts_look_back_at_the_prompt():
    model = api.looking_back(PROSE, CacheConfig(60, 9.0, 0.9))
    prompts, wanted = ["a cab a cab a cab a", "b"], []
    for prompt in prompts:
        ids = [len(CHARACTERS), *model.vocabulary.encode(prompt).tolist()]
        for _ in range(12):
            ids.append(int(np.argmax(expected(model, np.array(ids))[-1])))
        wanted.append(model.vocabulary.decode(np.array(ids[-12:])))
    texts = api.sample_each(model, prompts, length=12, temperature=0)
    assert ["".join(text) for text in texts] == wanted
    assert "".join(next(api.sample(model, prompts[0], length=12, temperature=0))) == wanted[0]
    alone = api.sample_each(PROSE, prompts, length=12, temperature=0)
    assert ["".join(text) for text in alone] != wanted


@pytest.mark.compiled
def test_the_next_character_is_what_the_reference_expects():
    model = api.looking_back(PROSE, CACHE)
    ids = model.vocabulary.encode("abba cab\nab").tolist()
    wanted = expected(model, np.array([len(CHARACTERS), *ids]))[-1]
    found = dict(api.next_characters(model, "abba cab\nab"))
    assert [found[c] for c in CHARACTERS] == pytest.approx(wanted.tolist(), abs=1e-5)


@pytest.mark.compiled
def test_the_most_probable_lines_have_the_probability_of_the_reference():
    model = api.looking_back(LINES, CacheConfig(5, 3.0, 0.9))
    lines = list(api.enumerate_lines(model, count=20))
    totals = [line.log_probability for line in lines]
    assert totals == sorted(totals, reverse=True)
    for line in lines[:6]:
        ids = model.vocabulary.encode(line.text + "\n")
        p = expected(model, np.append(model.config.outputs, ids[:-1]))[np.arange(len(ids)), ids]
        assert line.log_probability == pytest.approx(float(np.log(p).sum()), abs=1e-3)


@pytest.mark.compiled
@pytest.mark.parametrize("adaptive", [False, True])
@pytest.mark.parametrize("size", [100, 60_000])  # in NumPy, and compiled
def test_what_is_compressed_comes_back_without_being_told_of_the_cache(adaptive, size):
    data = (TEXT * 300).encode()[:size]
    model = api.looking_back(PROSE, CacheConfig(30))
    small = b"".join(api.compress(model, [data], adaptive=adaptive))
    assert small[5] == compression.LOOKING
    assert b"".join(api.decompress(PROSE, [small], threads=2)) == data
    assert b"".join(api.decompress(api.looking_back(PROSE, 3), [small])) == data
    assert small == b"".join(api.compress(model, [data], adaptive=adaptive, threads=1))
    if size > 100 and not adaptive:
        assert len(small) < 0.8 * len(b"".join(api.compress(PROSE, [data])))


@pytest.mark.compiled
def test_a_damaged_header_never_gives_other_bytes():
    data, refused = TEXT[:120].encode(), 0
    small = b"".join(api.compress(api.looking_back(PROSE, CacheConfig(30)), [data]))
    assert len(small) < len(data)
    for at in range(14, 14 + 2 + 3 * 8):  # the version, how many characters, and three numbers
        with pytest.raises(CompressionError):
            b"".join(api.decompress(PROSE, [small[:at]]))
        try:
            assert b"".join(api.decompress(PROSE, [small[:at] + b"\xff" + small[at + 1 :]])) == data
        except CompressionError:
            refused += 1
    assert refused > 12  # the last bits of a number do not matter


@pytest.mark.compiled
def test_a_text_that_is_typed_is_read_anew_where_its_states_are_not_kept(monkeypatch):
    model = api.looking_back(PROSE, CACHE)
    texts = ["abba", "abba cab", "abba c", "abba cab", "ab", "abb", "b"]
    wanted = [api.offers(model).after(text) for text in texts]
    monkeypatch.setattr(suggestions, "KEPT", 1)  # the last state alone
    offers = api.offers(model)
    assert [offers.after(text) for text in texts] == wanted
    assert sum(kept is not None for kept in offers._after) == 1


# --- the command line --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("0", "cache is 0: give a whole number from 1 to 10000"),
        ("x", "--cache is 'x': give a number of characters, such as 500, or 500:15:0.6"),
        ("5:1:0.5:2", "--cache is '5:1:0.5:2': give a number of characters, such as 500, or 500:15:0.6"),
        ("5:", "--cache is '5:': give a number of characters, such as 500, or 500:15:0.6"),
        ("5:-1", "the theta of the cache is -1.0: give a number from 0 to 1000"),
        ("5:nan", "the theta of the cache is nan: give a number from 0 to 1000"),
        ("5:1:1", "the weight of the cache is 1.0: give a number from 0 to 0.99"),
    ],
)
def test_a_cache_that_is_none_is_refused(value, said, folder):
    done = call("next", "-m", folder / "prose.safetensors", "--cache", value)
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.decode().splitlines()[0] == f"charrnn: error: {said}"


def test_a_model_that_reads_refuses_a_cache():
    model = toy(kind="filler")
    with pytest.raises(ConfigError, match="models that write"):
        api.looking_back(model, 5)
