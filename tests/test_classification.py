"""Which model's text a line is: Bayes' rule, finite whatever the alphabets."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from support.model_files import checkpoint

from charrnn import api
from charrnn.checkpoint import library
from charrnn.config import TextConfig
from charrnn.errors import ConfigError
from charrnn.events import Finished
from charrnn.scoring import surprisal
from charrnn.scoring.classification import posteriors

ROOT = Path(__file__).parent.parent
SIZES = {"cell": "gru", "hidden_size": 6, "num_layers": 1, "embedding_size": 6}
A = checkpoint(1, "\nabc", **SIZES)
B = checkpoint(2, "\nbcdé", **SIZES)
PROSE = replace(A, text=TextConfig())
C = replace(checkpoint(3, "".join(map(chr, range(256))), **SIZES), text=TextConfig(bytes=True))


def classified(models, path, **options):
    return [line for lines in api.classify(models, path, **options) for line in lines]


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text"
    path.write_text("abc\ncbd\nd\nxyz\nbé\n" + "abcd" * 20, encoding="utf-8")
    return path


def test_posteriors_are_bayes_rule():
    bits, prior = [[3, 5, 4], [0, 0, 0]], [0.5, 0.25, 0.25]
    wanted = []
    for row in bits:
        joint = [Fraction(p) / 2**b for p, b in zip(prior, row, strict=True)]
        wanted.append([float(j / sum(joint)) for j in joint])
    np.testing.assert_allclose(posteriors(bits, prior), wanted, rtol=1e-12)


def test_a_text_of_a_million_bits_has_posteriors():
    np.testing.assert_allclose(posteriors([[1e6, 1e6 + 1, 2e6]], [1 / 3] * 3), [[2 / 3, 1 / 3, 0]])


def test_the_bits_are_those_of_score(text):
    found = classified([A, B], text, unknown_bits=9)
    for n, m in enumerate((A, B)):
        alone = [line for lines in api.score_lines(m, text, unknown_bits=9) for line in lines]
        assert [line.bits[n] for line in found] == [line.bits for line in alone]
        assert [(line.text, line.number) for line in found] == [(line.text, line.number) for line in alone]


def test_every_line_gets_finite_posteriors_whatever_its_characters(text):
    for line in classified([A, B, C], text):
        assert sum(line.posterior) == pytest.approx(1)
        assert all(math.isfinite(b) for b in line.bits)
        assert line.posterior[line.best] == max(line.posterior)


def test_a_model_of_bytes_reads_text_in_utf_8(text):
    mixed = classified([C, A], text)
    alone = [line for lines in api.score_lines(C, text) for line in lines]
    assert [line.bits[0] for line in mixed] == [line.bits for line in alone]
    assert [line.text for line in mixed][4] == "bé"


def test_a_prior_moves_the_odds(text):
    even = classified([A, B], text)
    tilted = classified([A, B], text, prior=[9, 1])
    for before, after in zip(even, tilted, strict=True):
        odds = before.posterior[0] / before.posterior[1] * 9
        assert after.posterior[0] / after.posterior[1] == pytest.approx(odds)


def test_long_lines_come_in_pieces(text, monkeypatch):
    whole = classified([A, B, C], text)
    monkeypatch.setattr(surprisal, "CHARACTERS", 1)
    monkeypatch.setattr(surprisal, "COLUMNS", 8)
    for before, after in zip(whole, classified([A, B, C], text, threads=1), strict=True):
        np.testing.assert_allclose(before.bits, after.bits, rtol=1e-6)
        assert before.text == after.text


@pytest.mark.parametrize(
    ("models", "options"),
    [
        ([A], {}),
        ([], {}),
        ([A, B], {"prior": [1]}),
        ([A, B], {"prior": [1, 0]}),
        ([A, B], {"prior": [1, math.nan]}),
        ([A, B], {"unknown_bits": -1}),
    ],
)
def test_what_makes_no_sense_is_refused(models, options, text):
    with pytest.raises(ConfigError):
        classified(models, text, **options)


def test_two_models_tell_their_texts_apart(tmp_path):
    """Places, by the model that comes with charrnn, from lines of tales, which a tiny model learned."""
    tales = (ROOT / "corpora" / "tales.txt").read_text().splitlines()
    tales = [line for line in tales if len(line) > 40]
    (tmp_path / "train.txt").write_text("\n".join(tales[:-100]))
    settings = {"hidden_size": 32, "num_layers": 1, "embedding_size": 16, "steps": 60, "batch_size": 16}
    out = tmp_path / "tales.safetensors"
    events = list(api.train(tmp_path / "train.txt", out=out, text=TextConfig(lines=True), **settings))
    assert isinstance(events[-1], Finished)
    places = (ROOT / "corpora" / "places.txt").read_text(encoding="utf-8").splitlines()[::80][:100]
    (tmp_path / "mixed.txt").write_text("\n".join(places + tales[-100:]), encoding="utf-8")
    found = classified([library.bundled("places"), out], tmp_path / "mixed.txt")
    right = sum(line.best == (n >= len(places)) for n, line in enumerate(found))
    assert right >= 0.98 * len(found)


def test_an_empty_line_is_no_models_where_one_of_them_leaves_it_out(tmp_path):
    path = tmp_path / "text"
    path.write_text("\nabc\n\n", encoding="utf-8")
    for models in ([A, B], [PROSE, A]):
        first, line, last = classified(models, path)
        assert (first.text, first.number, first.best) == ("", 1, None)
        assert (first.posterior, first.bits) == ((), ())
        assert (last.number, last.best) == (3, None)
        assert (line.number, sum(line.posterior)) == (2, pytest.approx(1))
    first, *_ = classified([PROSE, PROSE], path)
    assert first.best == 0
