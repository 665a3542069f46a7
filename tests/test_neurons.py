"""`charrnn neurons` and `sample --fix`: what units follow, what one does, and one that is held."""

from __future__ import annotations

import json
import re
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.calls import call
from support.cells import CELLS
from support.compiled_loop import AlwaysTogether, Ready, compiled_only, let_load
from support.environment import ROOT
from support.random_models import LINES, make

from charrnn import api
from charrnn.checkpoint import model_file
from charrnn.checkpoint.model_file import Checkpoint
from charrnn.config import TextConfig
from charrnn.errors import ConfigError, CorpusError, SearchError, VocabularyError
from charrnn.inference import engines
from charrnn.inference.numpy_network import PlainNetwork
from charrnn.labels import Column
from charrnn.neurons import activations, features, ranking
from charrnn.neurons.activations import Block, Network
from charrnn.neurons.units import Unit

CHARACTERS = '\n "ab'


def planted(layer: int = 2, number: int = 3, **settings: Any) -> Checkpoint:
    """A random LSTM in which c of one unit is 1 within quotes, -1 behind them, and 0 before the first.

    A quote shuts f and opens i, and g = tanh(5 - 20 h) is the opposite of what the unit shows.
    """
    sizes = {"num_layers": layer, "norm": False, "residual": False, "embedding_size": 0}
    model = make(cell="lstm", characters=CHARACTERS, hidden_size=8, **sizes | settings)
    k, H, quote = layer - 1, 8, CHARACTERS.index('"')
    if k:  # what the planted layer reads: the first H characters as they are, which a layer below passes on
        model = _passing_on(model)
        quote = model.vocabulary.find('"')
    w_ih, w_hh = model.tensors[f"rnn.weight_ih_l{k}"], model.tensors[f"rnn.weight_hh_l{k}"]
    b_ih, b_hh = model.tensors[f"rnn.bias_ih_l{k}"], model.tensors[f"rnn.bias_hh_l{k}"]
    w_hh[:, number] = 0  # or others would follow it
    gain = 1 / np.tanh(1) if k else 1.0
    for row, bias, from_quote, from_itself in (
        (0, -20, 40, 0), (1, 20, -40, 0), (2, 5, 0, -20), (3, 20, 0, 0),
    ):  # fmt: skip
        at = row * H + number
        w_ih[at], w_hh[at], b_ih[at], b_hh[at] = 0, 0, bias, 0
        w_ih[at, quote], w_hh[at, number] = from_quote * gain, from_itself
    return model


def _passing_on(model: Checkpoint) -> Checkpoint:
    """The model, the first layer of which shows in unit n whether it has just read character n."""
    V, H = model.config.vocab_size, model.config.hidden_size
    tensors = model.tensors
    for name in ("rnn.weight_ih_l0", "rnn.weight_hh_l0", "rnn.bias_ih_l0", "rnn.bias_hh_l0"):
        tensors[name][:] = 0
    bias, weight = tensors["rnn.bias_ih_l0"], tensors["rnn.weight_ih_l0"]
    bias[:H], bias[H : 2 * H], bias[3 * H :] = 20, -20, 20  # i and o are open, f is shut
    for n in range(V):
        weight[2 * H + n, n] = 20  # g
    return model


def texts(model: Checkpoint, path: Path, **more: Any) -> activations.Reading:
    return api._reading(model, path, dict(more), None)


def written(seed: int, length: int = 3000, alphabet: str = '  aabb abab abba aab\n"') -> str:
    return "".join(np.random.default_rng(seed).choice(list(alphabet), length))


def states(model: Checkpoint, text: str) -> list[np.ndarray]:
    """What is looked at of each layer after each character, (N, H), by the NumPy engine."""
    network, H = PlainNetwork(model), model.config.hidden_size
    ids, state, kept = model.vocabulary.encode(text).tolist(), network.initial_state(), []
    end = model.vocabulary.find("\n") if model.text.lines else -1
    _, state = network.step(network.vocab_size, state)
    for character in ids:
        if character == end:
            character, state = network.vocab_size, network.initial_state()
        _, state = network.step(character, state)
        kept.append(state.copy())
    first = H if model.config.cell == "lstm" else 0
    values = np.array(kept)[:, : model.config.num_layers, first : first + H]
    squashed = (
        np.tanh(values) if model.config.cell == "lstm" or model.config.nonlinearity == "relu" else values
    )
    return list(squashed.transpose(1, 0, 2))


# --- ranking -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("layer", [1, 2])
def test_a_planted_unit_that_counts_quotes_ranks_first(tmp_path: Path, layer: int) -> None:
    (tmp_path / "text.txt").write_text(written(1), encoding="utf-8")
    model = planted(layer)
    for find in ("quotes", '"[^"]*"'):
        found = api.rank_units(model, tmp_path / "text.txt", find=find, threads=1)
        best, second = found.units[:2]
        assert best.unit == Unit(layer, 3)
        assert best.auc is not None
        assert best.auc > 0.9 > max(second.auc, 1 - second.auc)
        assert best.inside > 0.5 > 0 > best.outside
    assert len(found.units) == layer * 8


@pytest.mark.parametrize(("cell", "nonlinearity"), CELLS)
def test_the_figures_are_those_of_their_definitions(tmp_path: Path, cell: str, nonlinearity: str) -> None:
    text = written(2, 1000)
    (tmp_path / "text.txt").write_text(text, encoding="utf-8")
    model = make(cell=cell, nonlinearity=nonlinearity, characters=CHARACTERS)
    inside = np.zeros(len(text), np.bool_)
    for match in re.finditer("a+", text):
        inside[match.start() : match.end()] = True
    expected = states(model, text)
    ranked = api.rank_units(model, tmp_path / "text.txt", find="a+", threads=1)
    assert ranked.characters == len(text)
    assert ranked.share == pytest.approx(inside.mean())
    for found in ranked.units:
        values = expected[found.unit.layer - 1][:, found.unit.number].astype(np.float64)
        above = values[inside][:, None] - values[~inside]
        assert found.auc == pytest.approx(np.mean((above > 0) + (above == 0) / 2), abs=0.01)
        assert found.inside == pytest.approx(values[inside].mean(), abs=0.005)
        assert found.rest == pytest.approx(np.median(values), abs=0.005)
        r, n = np.abs(values - np.median(values)), len(values)
        sparse = (1 - r.mean() ** 2 / np.mean(r**2)) / (1 - 1 / n) if r.any() else 0.0
        assert found.selectivity == pytest.approx(sparse, abs=0.02)
        furthest = int(np.argmax(r))
        assert found.peak == pytest.approx(values[furthest], abs=0.01)
        assert abs(found.peak - found.rest) == pytest.approx(r.max(), abs=0.01)
    distances = [abs(found.auc - 0.5) for found in ranked.units]
    assert distances == sorted(distances, reverse=True)


@pytest.mark.parametrize("more", [{"cell": "esn"}, {"span": 4}, {"num_layers": 3, "embedding_size": 0}])
def test_the_layers_of_every_network_are_told_apart(tmp_path: Path, more: dict[str, Any]) -> None:
    text = written(7, 300)
    (tmp_path / "text.txt").write_text(text, encoding="utf-8")
    model = make(characters=CHARACTERS, **more)
    found = api.rank_units(model, tmp_path / "text.txt", threads=1)
    layers, H = model.config.num_layers, model.config.hidden_size
    assert {u.unit for u in found.units} == {Unit(k + 1, n) for k in range(layers) for n in range(H)}
    (*_, values, _), *_ = api.watch_unit(model, tmp_path / "text.txt", f"{layers}:1", threads=1)
    network, state = PlainNetwork(model), PlainNetwork(model).initial_state()
    for character in [network.vocab_size, *model.vocabulary.encode(text).tolist()]:
        _, state = network.step(character, state)
    if more.get("cell") == "esn":
        expected = state[0, (layers - 1) * H + 1]
    else:
        expected = np.tanh(state[layers - 1, H + 1])
    assert values[-1] == pytest.approx(expected, abs=1e-4)


def test_units_are_listed_layer_by_layer_and_the_most_selective_come_first(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(written(3, 500), encoding="utf-8")
    ranked = api.rank_units(make(cell="gru", characters=CHARACTERS), tmp_path / "text.txt", threads=1)
    layers = [found.unit.layer for found in ranked.units]
    assert layers == sorted(layers)
    for layer in (1, 2):
        own = [found.selectivity for found in ranked.units if found.unit.layer == layer]
        assert own == sorted(own, reverse=True)
        assert all(0 <= value <= 1 for value in own)
    assert ranked.units[0].after in written(3, 500)


def test_a_unit_that_answers_to_one_rare_character_is_more_selective_than_one_that_swings() -> None:
    rare, swings = np.zeros(1000), np.tile([0.0, 1.0], 500)
    rare[::100] = 1
    counts = [np.histogram(v, ranking.BINS, (-1, 1))[0] for v in (rare, swings)]
    centres = (np.arange(ranking.BINS) + 0.5) * (2 / ranking.BINS) - 1
    first, second = (ranking._sparseness(np.abs(centres), c, 1000) for c in counts)
    assert first == pytest.approx(0.99, abs=0.005)
    assert second == pytest.approx(0.5, abs=0.005)


def test_figures_depend_neither_on_blocks_nor_on_threads(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "text.txt").write_text(written(4, 2000), encoding="utf-8")
    model = make(cell="gru", characters=CHARACTERS)
    whole = api.rank_units(model, tmp_path / "text.txt", find="quotes", threads=1)
    assert whole == api.rank_units(model, tmp_path / "text.txt", find="quotes", threads=2)
    monkeypatch.setattr(activations, "BLOCK", 900)
    monkeypatch.setattr(activations, "LEAST", 300)
    parts = api.rank_units(model, tmp_path / "text.txt", find="quotes", threads=1)
    assert parts.share == whole.share
    by_unit = {found.unit: found for found in parts.units}
    for found in whole.units:
        assert by_unit[found.unit].auc == pytest.approx(found.auc, abs=1e-3)
        assert by_unit[found.unit].peak == pytest.approx(found.peak, abs=1e-3)


def test_lines_and_files_begin_with_a_fresh_state(tmp_path: Path) -> None:
    model = make(cell="lstm", characters=CHARACTERS, text=LINES)
    text = "ab a\nb\n" * 20
    (tmp_path / "one.txt").write_text(text, encoding="utf-8")
    (tmp_path / "two.txt").write_text(text, encoding="utf-8")
    two = api.rank_units(model, [tmp_path / "one.txt", tmp_path / "two.txt"], find="b", threads=1)
    one = api.rank_units(model, tmp_path / "one.txt", find="b", threads=1)
    assert two.characters == 2 * one.characters
    assert [(u.unit, u.auc) for u in two.units] == [(u.unit, u.auc) for u in one.units]
    prose = make(cell="lstm", characters=CHARACTERS)
    values = [values for *_, values, _ in api.watch_unit(prose, [tmp_path / "one.txt"] * 2, "1:2", threads=1)]
    assert values[0] == values[1]


# --- what is looked for --------------------------------------------------------------------------------


def marked(model: Checkpoint, name: str, text: str, block: int) -> np.ndarray:
    """Which characters of the text have a feature, read in blocks of so many characters."""
    network = Network(model, 1)
    found, ids, parts = features.feature(network, name), model.vocabulary.encode(text).astype(np.int32), []
    before = np.full(activations.BEFORE, network.start, np.int32)
    for low in range(0, len(ids), block):
        ahead = ids[low : low + block + found.ahead]
        parts.append(found.inside(Block(ahead, min(block, len(ids) - low), before)))
    return np.concatenate([np.zeros(0, np.bool_), *parts])


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(['"[^"]*"', "a+", "ab|abb", "[ab]{2,3}", r"\n *", "b( a)*"]),
    st.text(CHARACTERS, max_size=60),
    st.integers(1, 70),
)
def test_matches_are_the_leftmost_and_longest_wherever_a_block_ends(expression, text, block) -> None:
    inside, at = np.zeros(len(text), np.bool_), 0
    while at < len(text):
        ends = [n for n in range(len(text), at, -1) if re.fullmatch(expression, text[at:n])]
        inside[at : ends[0] if ends else at] = True
        at = ends[0] if ends else at + 1
    found = marked(make(characters=CHARACTERS), expression, text, block)
    assert found.tolist() == inside.tolist()


@settings(max_examples=60, deadline=None)
@given(st.text(CHARACTERS, max_size=60), st.integers(1, 70))
def test_indentation_is_the_space_before_the_first_word_of_a_line(text, block) -> None:
    expected = [bool(re.fullmatch(r"(?s)(.*\n)? *", text[: n + 1])) and c == " " for n, c in enumerate(text)]
    assert marked(make(characters=CHARACTERS), "indentation", text, block).tolist() == expected


def test_the_second_half_of_lines_begins_at_their_middle() -> None:
    text = "abababab\n" * 40
    for block, middle in ((90, 3), (13, 2), (1000, 3)):  # the median of columns of the first block
        found = marked(make(characters=CHARACTERS), "line-position", text, block)
        assert found.tolist() == [n % 9 >= middle for n in range(len(text))]


def test_a_match_is_no_longer_than_a_page(monkeypatch) -> None:
    monkeypatch.setattr(features, "LONGEST", 5)
    assert marked(make(characters=CHARACTERS), '"[^"]*"', '"aaa" "aaaa"', 100).sum() == 5


@pytest.mark.parametrize(("name", "text"), [("quotes", '"a"'), ("words", "ab"), ("(words)", "")])
def test_a_feature_has_a_name_or_is_an_expression(name: str, text: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = marked(make(characters=CHARACTERS), name, f"\n{text} ", 100)
    assert found.sum() == len(text)


# --- the command ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("neurons")
    model_file.save(planted(), path / "m.safetensors")
    (path / "text.txt").write_text(written(5, 1200), encoding="utf-8")
    (path / "odd.txt").write_text('a\n"b"\n<script>\n', encoding="utf-8")
    return path


def test_the_table_lists_units_of_each_layer(folder: Path) -> None:
    done = call("neurons", "-m", "m.safetensors", "text.txt", "--top", 3, "--threads", 1, cwd=folder)
    assert (done.returncode, done.stderr) == (0, b"")
    lines = done.stdout.decode().splitlines()
    assert lines[0].startswith("tanh(c) after each of 1,200 characters")
    assert [line for line in lines if line.startswith("layer")] == [
        "layer 1: 3 of 8 units",
        "layer 2: 3 of 8 units",
    ]
    assert sum(bool(re.match(r"[12]:[0-7] ", line)) for line in lines) == 6


def test_find_shows_the_best_unit_first(folder: Path) -> None:
    done = call("neurons", "-m", "m.safetensors", "text.txt", "--find", "quotes", "--top", 2, cwd=folder)
    first, second = done.stdout.decode().splitlines()[-2:]
    assert first.startswith("2:3 ")
    assert not second.startswith("2:3 ")


def test_json_has_every_unit(folder: Path) -> None:
    done = call("neurons", "-m", "m.safetensors", "text.txt", "--find", "quotes", "--json", cwd=folder)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(rows) == 16
    assert rows[0]["unit"] == "2:3"
    assert (rows[0]["layer"], rows[0]["number"]) == (2, 3)
    assert rows[0]["auc"] > 0.9
    assert {"selectivity", "rest", "peak", "inside", "outside", "after"} <= rows[0].keys()


def test_no_more_is_read_than_is_asked_for_and_that_is_said(folder: Path) -> None:
    done = call("neurons", "-m", "m.safetensors", "text.txt", "--characters", 500, cwd=folder)
    assert b"after each of 500 characters" in done.stdout
    (line,) = done.stderr.decode().splitlines()
    assert line == "note: these are figures of the first 500 characters: --characters N reads more"


def test_a_text_is_read_from_a_pipe_in_bounded_memory(monkeypatch) -> None:
    """No more is held than a block and what a match may need, however much there is."""
    model = planted()
    most = 0
    real = activations.np.concatenate

    def watched(arrays, *rest):
        nonlocal most
        joined = real(arrays, *rest)
        most = max(most, len(joined))
        return joined

    monkeypatch.setattr(activations.np, "concatenate", watched)
    monkeypatch.setattr(activations, "BLOCK", 1000)
    pieces = [activations.Piece("f", written(n, 500), n == 0) for n in range(40)]
    N = [block.N for block in activations.blocks(Network(model, 1), pieces, 200)]
    assert sum(N) == 40 * 500
    assert most <= 1000 + 200 + 500


def test_one_unit_is_shown_below_the_text_where_there_are_no_colours(folder: Path) -> None:
    (folder / "short.txt").write_text('a "b" a\n', encoding="utf-8")
    done = call("neurons", "-m", "m.safetensors", "--unit", "2:3", "short.txt", cwd=folder)
    assert (done.returncode, done.stderr) == (0, b"")
    lines = done.stdout.decode().splitlines()
    assert lines[:2] == ['a "b" a↵', "▄▄▇▇▁▁▁▁"], "0 before the first quote, up within, down behind"
    assert lines[-2].startswith("2:3 tanh(c): ")
    assert b"\x1b" not in done.stdout
    forced = call(
        "neurons", "-m", "m.safetensors", "--unit", "2:3", "short.txt", "--color", "always", cwd=folder
    )
    assert b"\x1b[" in forced.stdout


def test_json_of_a_unit_has_a_value_for_each_character(folder: Path) -> None:
    done = call(
        "neurons", "-m", "m.safetensors", "--unit", "2:3", "-", "--json", stdin=b'a "b" a\n', cwd=folder
    )
    (row,) = map(json.loads, done.stdout.splitlines())
    assert row["text"] == 'a "b" a\n'
    expected = [0, 0, *[np.tanh(1)] * 2, *[-np.tanh(1)] * 4]
    np.testing.assert_allclose(row["values"], expected, atol=1e-3)


@pytest.mark.parametrize("cell", ["gru", "lstm", "rnn"])
def test_the_values_of_a_unit_are_those_of_the_engine_that_writes(tmp_path: Path, cell: str) -> None:
    text = written(6, 700)
    (tmp_path / "text.txt").write_text(text, encoding="utf-8")
    for form in (TextConfig(), LINES):
        model = make(cell=cell, characters=CHARACTERS, text=form)
        found = list(api.watch_unit(model, tmp_path / "text.txt", "2:1", threads=1))
        assert "".join(piece for _, piece, *_ in found) == text
        values = [value for *_, values, _ in found for value in values]
        np.testing.assert_allclose(values, states(model, text)[1][:, 1], atol=2e-4)


def test_the_page_says_what_comes_next_and_holds_any_text_as_text(folder: Path) -> None:
    words = "neurons", "-m", "m.safetensors", "--unit", "2:3", "odd.txt", "--on-unknown", "skip"
    assert call(*words, "--html", "cell.html", cwd=folder).returncode == 0
    page = (folder / "cell.html").read_text("utf-8")
    assert "default-src 'none'" in page
    assert "<script" not in page
    titles = re.findall(r'title="([^"]*)"', page)
    assert all(re.search(r"next &#x27;.{1,8}&#x27; \d+%, ", title) for title in titles)
    model, probabilities = (
        api.load(folder / "m.safetensors"),
        dict(api.next_characters(api.load(folder / "m.safetensors"), "a")),
    )
    best = max(probabilities, key=lambda c: probabilities[c])
    assert f"{probabilities[best]:.0%}" in titles[0]
    assert len(model.vocabulary) == 5


def test_the_picture_has_a_cell_for_each_character(folder: Path) -> None:
    (folder / "short.txt").write_text('a "b" a\n', encoding="utf-8")
    words = "neurons", "-m", "m.safetensors", "--unit", "2:3", "short.txt"
    done = call(*words, "--svg", "-", cwd=folder)
    root = ElementTree.fromstring(done.stdout)
    assert "Unit 2:3" in root.attrib["aria-label"]
    refused = call(*words, "--svg", "m.safetensors", cwd=folder)
    assert refused.returncode == 2
    assert b"--svg" in refused.stderr


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ([], 2, "CORPUS... is missing"),
        (
            ["text.txt", "--unit", "3:0"],
            2,
            "there is no unit 3:0: the model has layers 1 to 2 of units 0 to 7",
        ),
        (["text.txt", "--unit", "x"], 2, "the unit is 'x': give layer:unit, such as 1:37"),
        (["text.txt", "--unit", "1:1", "--find", "a"], 2, "--find ranks units, and --unit shows one"),
        (["text.txt", "--html", "x.html"], 2, "--html and --svg show one unit: say which, with --unit 1:37"),
        (["text.txt", "--find", "("], 2, "'(' has a ( that is not closed"),
        (["text.txt", "--find", "abababababa{9}b"], 1, "no character has what is looked for"),
        (["text.txt", "--find", r"(?s)."], 1, "each character has what is looked for"),
        (["text.txt", "--characters", "0"], 2, "characters is 0: give a whole number from 1 up"),
        (["text.txt", "--top", "-1"], 2, "top is -1"),
        (
            ["odd.txt"],
            1,
            "the model has never seen the character '<' (U+003C LESS-THAN SIGN), in line 3 of odd.txt",
        ),
        (["gone.txt"], 1, "gone.txt does not exist"),
        (["-"], 1, "there is no text in what was given"),
    ],
)
def test_what_cannot_be_shown_is_said_in_one_line(folder: Path, words, code, said) -> None:
    done = call("neurons", *words, "-m", "m.safetensors", cwd=folder)
    assert done.returncode == code
    assert said in done.stderr.decode().splitlines()[0]
    assert done.stdout == b""


# --- held units ------------------------------------------------------------------------------------------


@compiled_only
@pytest.mark.parametrize("team", [1, 2])
@pytest.mark.parametrize(("cell", "nonlinearity"), CELLS)
def test_both_engines_write_the_same_with_held_units(monkeypatch, cell, nonlinearity, team) -> None:
    model = make(cell=cell, nonlinearity=nonlinearity, scale=2.0)
    model = api.holding(model, {"1:0": 0.75, "2:3": 1.0})

    def write(after: int | None, **more: Any) -> list[str]:
        let_load(monkeypatch, Ready(after))
        monkeypatch.setattr(engines, "Pace", lambda members: AlwaysTogether(team))
        drawn = api.sample(model, "ab", length=200, seed=1, threads=team, **more)
        return ["".join(text) for text in drawn]

    assert write(None) == write(0)
    assert write(None, count=3) == write(0, count=3)


@pytest.mark.parametrize(("cell", "value"), [("lstm", 1.5), ("lstm", -40.0), ("gru", -2.5), ("rnn", 0.3)])
def test_a_held_unit_stays_at_its_value(cell: str, value: float) -> None:
    model = api.holding(make(cell=cell, scale=2.0), {"2:4": value})
    network, H = PlainNetwork(model), model.config.hidden_size
    state = network.initial_state()
    place = H + 4 if cell == "lstm" else 4
    for character in [
        network.vocab_size,
        *np.random.default_rng(1).integers(0, network.vocab_size, 300).tolist(),
    ]:
        _, state = network.step(character, state)
        if cell == "rnn":
            assert state[1, place] == pytest.approx(value, abs=2e-7)
        else:
            assert state[1, place] == np.float32(value)


def test_what_is_held_changes_the_text_and_other_units_are_free(folder: Path) -> None:
    words = "sample", "-m", "m.safetensors", "--seed", 3, "-n", 60
    both = "--fix", "2:3=1", "--fix", "1:0=-1"
    free, held, also = (call(*words, *more, cwd=folder).stdout for more in ((), both[:2], both))
    assert len({free, held, also}) == 3
    assert held == call(*words, "--fix", "2:3=1", cwd=folder).stdout
    several = call(*words, "--fix", "2:3=1", "--count", 3, "--json", cwd=folder).stdout.splitlines()
    assert json.loads(several[0])["text"] == held.decode().removesuffix("\n")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--fix", "2:3"], "--fix is '2:3': give layer:unit=value, such as 1:37=1.5"),
        (["--fix", "9:3=1"], "there is no unit 9:3"),
        (["--fix", "2:3=nan"], "unit 2:3 is to be nan: give a number from -1e+06 to 1e+06"),
        (["--fix", "2:3=1", "--fix", "2:3=2"], "--fix holds '2:3' at two values"),
        (
            ["--fix", "2:3=1", "-m", "m.safetensors:2"],
            "--fix holds units of one model",
        ),
    ],
)
def test_what_cannot_be_held_is_said(folder: Path, words, said) -> None:
    done = call("sample", "-m", "m.safetensors", *words, cwd=folder)
    assert done.returncode == 2
    assert said in done.stderr.decode().splitlines()[0]


def test_a_vanilla_unit_and_a_reservoir_are_held_within_what_they_can_be() -> None:
    with pytest.raises(ConfigError, match=r"unit 1:0 of rnn_tanh is to be 1\.5: give a number from -1 to 1"):
        api.holding(make(cell="rnn"), {"1:0": 1.5})
    with pytest.raises(ConfigError, match="give a number 0 or more"):
        api.holding(make(cell="rnn", nonlinearity="relu"), {"1:0": -1.0})
    with pytest.raises(ConfigError, match="not of esn"):
        api.holding(make(cell="esn"), {"1:0": 0.5})


def test_a_model_with_held_units_writes_and_does_not_read() -> None:
    model = api.holding(make(cell="gru"), {"1:0": 0.5})
    assert "".join(next(api.sample(model, length=5, seed=1)))
    with pytest.raises(ConfigError, match="not while it reads"):
        api.score(model, "ab")


def test_texts_with_labels_and_the_best_of_several_hold_it_too(tmp_path: Path) -> None:
    model = make(cell="lstm", text=LINES, labels=(2,))
    model = replace(model, columns=(Column("x", ("A", "B"), (1, 1)),))
    model = api.holding(model, {"2:1": 2.0})
    led = api.given(model, "A", 2.0)
    networks = [PlainNetwork(part) for part in (*led.parts, led.away_from)]
    for network in networks:
        _, state = network.step(1, network.step(network.vocab_size, network.initial_state())[1])
        assert state[1, model.config.hidden_size + 1] == 2.0
    best = api.sample(led, best_of=3, length=6, seed=2)
    assert "".join(next(best))


def test_errors_of_python_are_those_of_the_command(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("ab <", encoding="utf-8")
    with pytest.raises(VocabularyError, match="in line 1 of"):
        api.rank_units(planted(), tmp_path / "t.txt")
    with pytest.raises(SearchError):
        api.rank_units(planted(), tmp_path / "t.txt", find="c", on_unknown="skip")
    (tmp_path / "t.txt").write_text("", encoding="utf-8")
    with pytest.raises(CorpusError):
        api.rank_units(planted(), tmp_path / "t.txt")


@pytest.mark.process
@pytest.mark.compiled
def test_the_lines_of_the_page_run(folder: Path, monkeypatch, capsys) -> None:
    page = Path(ROOT, "docs/neurons.md").read_text("utf-8").replace("2:154", "2:3").replace("a text", "ab")
    (block,) = re.findall(r"^```python\n(.*?)^```$", page, re.M | re.S)
    monkeypatch.chdir(folder)
    exec(compile(block, "neurons.md", "exec"), {})
    assert capsys.readouterr().out.startswith("2:3 0.9")
