"""Gaps are filled with what trying all fillings finds."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from naive import CELLS
from support.toy_models import log_probability, texts, toy

import charrnn
from charrnn.api import fill
from charrnn.errors import ConfigError, SearchError, VocabularyError
from charrnn.search.infilling import Pattern
from charrnn.vocabulary import Vocabulary

GAP = 3
PATTERNS = ["a?b", "??", "a*", "*b", "_a_", "a?*b", "*a*", "*?a", "ab__b*"]


def matching(pattern: str, letters: str = "ab") -> list[str]:
    """All texts that the pattern fits."""
    runs = {"?": "[^\n]", "*": f"[^\n]{{0,{GAP}}}"}
    expression = re.sub("_+", f"[^\n]{{1,{GAP}}}", "".join(runs.get(c, c) for c in pattern))
    longest = 2 * GAP + len(pattern)
    return [text for text in texts(letters, longest) if re.fullmatch(expression, text)]


@pytest.mark.parametrize(("cell", "nonlinearity"), CELLS[:2])
@pytest.mark.parametrize(("pattern", "part"), [*((p, False) for p in PATTERNS), ("a?b", True), ("a*", True)])
def test_it_is_brute_force_in_order(cell, nonlinearity, pattern, part):
    checkpoint = toy(seed=6, cell=cell, nonlinearity=nonlinearity)
    end = "" if part else "\n"
    expected = sorted((-log_probability(checkpoint, "", text + end), text) for text in matching(pattern))
    found = fill(checkpoint, pattern, count=10**4, gap=GAP, part=part)
    assert [one.text for one in found] == [text for _, text in expected]
    values = np.array([-value for value, _ in expected])
    np.testing.assert_allclose([one.log_probability for one in found], values, atol=1e-4)
    shares = np.exp(values) / np.exp(values).sum()
    np.testing.assert_allclose([one.probability for one in found], shares, atol=1e-4)
    assert all(one.certain for one in found)


def test_prose_begins_after_a_line_end():
    checkpoint = toy(seed=6, lines=False)
    expected = sorted((-log_probability(checkpoint, "\n", t + "\n"), t) for t in matching("a*b"))
    found = fill(checkpoint, "a*b", count=5, gap=GAP)
    assert [one.text for one in found] == [text for _, text in expected[:5]]
    two_lines = fill(checkpoint, "a?\nb", count=2)
    assert [one.text for one in two_lines] in (["aa\nb", "ab\nb"], ["ab\nb", "aa\nb"])


@pytest.mark.parametrize("seed", range(3))
def test_what_is_certain_in_a_narrow_beam_is_the_beginning_of_the_truth(seed):
    checkpoint = toy(seed=seed, characters="\nabcdefgh")
    truth = fill(checkpoint, "?*a??", count=10**5, gap=2, beam=10**5)
    assert all(one.certain for one in truth)
    certain = []
    for beam in (4, 64, 2000):
        found = fill(checkpoint, "?*a??", count=50, gap=2, beam=beam)
        sure = [one.text for one in found if one.certain]
        assert sure == [one.text for one in truth[: len(sure)]]
        assert [one.certain for one in found] == sorted((one.certain for one in found), reverse=True)
        certain.append(len(sure))
    assert certain[0] <= certain[1] <= certain[2]
    assert certain[2] > 0


def test_both_sides_count():
    """Of what may stand in the gap, not the most probable wins, but what the rest goes on from best."""
    checkpoint = toy(seed=1, characters="\nabcd")
    for right in ("aa", "bb", "cc", "dd"):
        best = fill(checkpoint, "?" + right)[0].text
        by_hand = max("abcd", key=lambda c: log_probability(checkpoint, "", c + right + "\n"))
        assert best == by_hand + right


def test_no_text_is_found_twice_however_the_gaps_share_it():
    found = fill(toy(seed=2), "***a*", count=10**4, gap=2)
    assert len({one.text for one in found}) == len(found)
    assert math.fsum(one.probability for one in found) == pytest.approx(1)


def test_many_gaps_end_soon():
    checkpoint = toy(seed=2, characters="\nabcdef")
    found = fill(checkpoint, "*a*b*c*d*", count=5, beam=4)
    assert len(found) == 5
    for one in found:
        assert re.fullmatch(".*a.*b.*c.*d.*", one.text)


def test_a_backslash_makes_a_gap_a_character():
    checkpoint = toy(characters="\n*?\\_a")
    found = fill(checkpoint, r"\??\*\_\\", count=100)
    assert sorted(one.text for one in found) == sorted(rf"?{c}*_\ "[:-1] for c in "*?\\_a")


@pytest.mark.parametrize("pattern", ["a\\b?", "?\\"])
def test_a_backslash_before_anything_else_is_refused(pattern):
    with pytest.raises(ConfigError, match="backslash"):
        fill(toy(), pattern)


def test_log_probabilities_are_those_of_evaluation():
    checkpoint = toy(seed=4, characters="\nabcdef")
    for one in fill(checkpoint, "a??_", count=20):
        surprises = charrnn.score(checkpoint, one.text + "\n")
        assert one.log_probability == pytest.approx(-float(surprises.sum(dtype=np.float64)), abs=1e-4)


def test_what_cannot_be_filled_is_said():
    with pytest.raises(ConfigError, match="no gap"):
        fill(toy(), "ab")
    with pytest.raises(ConfigError, match="line end within"):
        fill(toy(), "a?\nb")
    with pytest.raises(VocabularyError, match="position 2 of the pattern"):
        fill(toy(), "a?é")
    assert [one.text for one in fill(toy(), "é?é", on_unknown="skip")] != []
    with pytest.raises(ConfigError, match="line end"):
        fill(toy(characters="abc", lines=False), "a?")
    assert fill(toy(characters="abc", lines=False), "a?", part=True)
    for wrong in ({"count": 0}, {"beam": 0}, {"gap": 0}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            fill(toy(), "a?", **wrong)


def test_a_state_of_the_pattern_is_a_set_of_places():
    pattern = Pattern("a*b", Vocabulary("\nabc"), gap=2)
    start = pattern.start()
    assert not pattern.ends(start)
    ((after_a, ids),) = pattern.next(start)
    assert ids.tolist() == [1]
    reached = {tuple(ids.tolist()): places for places, ids in pattern.next(after_a)}
    assert set(reached) == {(2,), (1, 3)}
    assert pattern.ends(reached[2,])
    assert not pattern.ends(reached[1, 3])


def test_an_impossible_filling_is_an_error(monkeypatch):
    checkpoint = toy()
    from charrnn.search.predictor import Predictor

    monkeypatch.setattr(Predictor, "predict", lambda self, cursors: np.full((len(cursors), 3), -math.inf))
    with pytest.raises(SearchError, match="nothing fits"):
        fill(checkpoint, "a?")


def test_a_gap_of_nothing_is_no_line_of_a_model_of_lines():
    for lines in (True, False):
        found = [filling.text for filling in fill(toy(ending=4.0, lines=lines), "*", count=5)]
        assert ("" in found) == (not lines)
        assert "" in [filling.text for filling in fill(toy(ending=4.0, lines=lines), "*", count=5, part=True)]
