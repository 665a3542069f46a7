"""What lines cost a network: as the naive reference says, whatever stands beside them."""

from __future__ import annotations

import io
import math
from pathlib import Path

import naive
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.model_files import checkpoint

from charrnn import api
from charrnn.checkpoint import library
from charrnn.config import TextConfig
from charrnn.errors import ConfigError
from charrnn.kernels.products.tile import HAS_BFLOAT16
from charrnn.nn import precision
from charrnn.scoring import surprisal
from charrnn.scoring.surprisal import LineScore, Scorer, Stream, score_lines
from charrnn.text.files.lines import read_lines

ROOT = Path(__file__).parent.parent
CHARACTERS = "\nabcd"
UNKNOWN = 20.0


def model(text: TextConfig, characters: str = CHARACTERS, **settings):
    from dataclasses import replace

    sizes = {"cell": "gru", "hidden_size": 6, "num_layers": 2, "embedding_size": 6} | settings
    return replace(checkpoint(3, characters, **sizes), text=text)


LINES = model(TextConfig(lines=True))
PROSE = model(TextConfig())
NO_LINE_END = model(TextConfig(), "abcd")
MODELS = {"lines": LINES, "prose": PROSE, "no line end": NO_LINE_END}
SCORERS = {name: Scorer(m, threads=2, unknown_bits=UNKNOWN) for name, m in MODELS.items()}


def naive_bits(m, line: str) -> tuple[float | None, int, int]:
    """Bits, characters and unknown ones of a line, from float64 and plain loops; None: it is left out."""
    if m.text.lines and not line:
        return None, 0, 0
    characters = m.vocabulary.characters
    whole = line + "\n" if "\n" in characters else line
    ids = [characters.index(c) for c in whole if c in characters]
    lead = [characters.index("\n")] if "\n" in characters and not m.text.lines else []
    unknown = len(whole) - len(ids)
    read = lead + ids
    bits = UNKNOWN * unknown
    if read:
        x = np.array([len(characters), *read[:-1]], np.int32)[:, None]
        tensors = {name: tensor.astype(float) for name, tensor in m.tensors.items()}
        c = m.config
        logits, *_ = naive.forward(tensors, c.cell, "tanh", c.num_layers, c.norm, c.residual, x)
        p = naive.log_softmax(logits[:, 0])
        bits -= sum(p[t, read[t]] for t in range(len(lead), len(read))) / math.log(2)
    return bits, len(whole), unknown


def scores(scorer: Scorer, text: str, most: int | None = None) -> list[LineScore]:
    data = io.BytesIO(text.encode("utf-8", "surrogateescape"))
    lines = read_lines(["-"], scorer.checkpoint.text, most or scorer.most, lambda: None, stdin=data)
    return [line for together in score_lines(scorer, lines) for line in together]


@pytest.mark.parametrize("name", MODELS)
@given(texts=st.lists(st.text("abcdé ", max_size=12), max_size=12))
def test_a_line_costs_the_naive_sum_of_its_surprises(name, texts):
    found = scores(SCORERS[name], "".join(line + "\n" for line in texts))
    assert [line.text for line in found] == texts
    for number, (line, text) in enumerate(zip(found, texts, strict=True), 1):
        bits, characters, unknown = naive_bits(MODELS[name], text)
        assert (line.characters, line.unknown, line.number) == (characters, unknown, number)
        if bits is None:
            assert line.bits is line.bpc is None
            continue
        assert line.bits == pytest.approx(bits, abs=1e-3)
        assert line.bpc == pytest.approx(bits / characters if characters else 0.0, abs=1e-3)


def test_the_sum_over_lines_is_what_evaluate_says_which_knows_no_empty_lines(tmp_path):
    text = "\nabc\nd\n\n\nabcd\n" * 20
    (tmp_path / "text").write_text(text)
    found = [line for lines in api.score_lines(LINES, tmp_path / "text") for line in lines]
    assert [line.text for line in found] == text.split("\n")[:-1]
    found = [line for line in found if line.text]
    bits, count = sum(line.bits for line in found), sum(line.characters for line in found)
    result = api.evaluate(LINES, tmp_path / "text")
    assert count == result.characters
    assert bits / count == pytest.approx(result.bpc, abs=1e-6)
    np.testing.assert_allclose(
        sum(line.bits for line in found) * math.log(2),
        api.score(LINES, text).sum(dtype=float),
        rtol=1e-6,
    )
    assert len(api.score(LINES, text)) == len(text)
    for pieces in (api.surprises(LINES, tmp_path / "text"), [("", "", stream_bits(text))]):
        assert sum(piece[2].sum() for piece in pieces) == pytest.approx(bits)


def stream_bits(text: str) -> np.ndarray:
    """Character by character."""
    stream = Stream(SCORERS["lines"])
    return np.concatenate([stream.bits(character) for character in text])


def test_an_empty_line_is_ordinary_text_to_a_model_of_prose():
    _, empty = scores(SCORERS["prose"], "a\n\n")
    assert empty.text == ""
    assert empty.characters == 1
    assert empty.bits == pytest.approx(naive_bits(PROSE, "")[0], abs=1e-3)
    assert api.score(PROSE, "a\n\n")[2] > 0


@pytest.mark.parametrize("name", MODELS)
def test_a_line_costs_the_same_in_any_company(name):
    random = np.random.default_rng(1)
    texts = ["".join(random.choice(list("abcdé"), n)) for n in [*random.integers(0, 40, 400), 500, 3]]
    text = "".join(line + "\n" for line in texts)
    m = MODELS[name]
    whole = [line.bits if line.bits is not None else 0 for line in scores(Scorer(m, threads=1), text)]
    for threads, most in ((1, 997), (2, 100), (3, 10**6)):
        scorer = Scorer(m, threads=threads)
        # to the last bit, but for lines that come in pieces, whose sums are of pieces
        again = [line.bits if line.bits is not None else 0 for line in scores(scorer, text, most)]
        np.testing.assert_allclose(again, whole, rtol=1e-12)
    alone = [line.bits for line in texts and scores(Scorer(m, threads=2), texts[7] + "\n")]
    assert alone == [whole[7]]


@pytest.mark.parametrize("name", MODELS)
def test_a_long_line_is_read_in_pieces_that_carry_the_state(name, monkeypatch):
    monkeypatch.setattr(surprisal, "WINDOW", 7)
    monkeypatch.setattr(surprisal, "SHOWN", 25)
    line = "abcdé" * 30
    (found,) = scores(SCORERS[name], line + "\n", most=16)
    bits, characters, unknown = naive_bits(MODELS[name], line)
    assert found.bits == pytest.approx(bits, abs=1e-2)
    assert (found.characters, found.unknown) == (characters, unknown)
    assert found.text == line[:25]
    assert found.cut


def test_a_line_that_is_shown_whole_is_not_called_cut(monkeypatch):
    monkeypatch.setattr(surprisal, "SHOWN", 25)
    for name in MODELS:
        (found,) = scores(SCORERS[name], "a" * 25 + "\n", most=16)
        assert (found.text, found.cut) == ("a" * 25, False)


@pytest.mark.skipif(not HAS_BFLOAT16, reason="this CPU has no bfloat16 instructions")
@pytest.mark.parametrize("name", MODELS)
def test_bfloat16_is_nearly_as_exact_and_as_independent(name):
    lines = ["abcd" * n for n in range(40)] + ["dcba", "aaaa"]
    exact = bits_of(SCORERS[name], lines)
    rounded = [
        bits_of(Scorer(MODELS[name], threads=threads, unknown_bits=UNKNOWN, precision="bfloat16"), lines)
        for threads in (1, 2)
    ]
    assert rounded[0] == rounded[1] != exact
    assert rounded[0] == pytest.approx(exact, rel=0.01, abs=0.02)
    alone = Scorer(MODELS[name], threads=2, unknown_bits=UNKNOWN, precision="bfloat16")
    assert bits_of(alone, lines[-1:]) == rounded[0][-1:]
    text = "dcba\n" * 50  # one column, for which several threads work in another way
    assert np.mean(Stream(alone).bits(text)) == pytest.approx(
        np.mean(Stream(SCORERS[name]).bits(text)), rel=0.01
    )


def bits_of(scorer: Scorer, lines: list[str]) -> list[float]:
    return scorer.lines("".join(line + "\n" for line in lines))[0].tolist()


def test_a_precision_that_is_not_there_is_refused(monkeypatch):
    with pytest.raises(ConfigError, match="float32 or bfloat16"):
        Scorer(LINES, precision="float16")
    monkeypatch.setattr(precision, "HAS_BFLOAT16", False)
    with pytest.raises(ConfigError, match="no bfloat16 instructions"):
        Scorer(LINES, precision="bfloat16")


def test_surprises_read_a_file_as_evaluate_does(tmp_path):
    (tmp_path / "a").write_text("abc\ncd\n" * 300)
    for m in (LINES, PROSE):
        pieces = list(api.surprises(m, tmp_path / "a"))
        bits = np.concatenate([piece[2] for piece in pieces])
        assert "".join(piece[1] for piece in pieces) == "abc\ncd\n" * 300
        assert bits.mean() == pytest.approx(api.evaluate(m, tmp_path / "a").bpc, abs=1e-5)
        own = api.score(m, "abc\ncd\n" * 300).astype(float) / math.log(2)
        np.testing.assert_allclose(bits, own, atol=1e-5)


def test_each_file_begins_anew(tmp_path):
    (tmp_path / "a").write_text("abc")
    found = [bits for _, _, bits in api.surprises(PROSE, [tmp_path / "a", tmp_path / "a"])]
    np.testing.assert_array_equal(found[0], found[1])


def test_an_unknown_character_counts_and_the_network_does_not_see_it():
    bits = Stream(SCORERS["lines"]).bits("aéb\n")
    without = Stream(SCORERS["lines"]).bits("ab\n")
    assert bits[1] == UNKNOWN
    np.testing.assert_array_equal(bits[[0, 2, 3]], without)


def test_shuffled_letters_are_found(tmp_path):
    """A hundred lines with shuffled letters among 2,000 real ones, by the model that comes with charrnn."""
    random = np.random.default_rng(2)
    names = (ROOT / "corpora" / "places.txt").read_text(encoding="utf-8").splitlines()
    names = [name for name in names if len(name) >= 8]
    real = [names[n] for n in random.permutation(len(names))[:2000]]
    odd = ["".join(random.permutation(list(name))) for name in real[:100]]
    (tmp_path / "text").write_text("\n".join([*real, *odd]), encoding="utf-8")
    found = [s.bpc for lines in api.score_lines(library.bundled("places"), tmp_path / "text") for s in lines]
    low, high = np.array(found[:2000]), np.array(found[2000:])
    area = np.mean(high[:, None] > low) + np.mean(high[:, None] == low) / 2
    assert area >= 0.95
