"""The most probable lines are those that trying all lines finds, in the same order."""

from __future__ import annotations

import functools
import math
import re
from itertools import pairwise

import numpy as np
import pytest
from naive import CELLS
from support.compiled_loop import Ready, let_load
from support.toy_models import all_log_probabilities, log_probabilities, texts, toy

import charrnn
from charrnn import api
from charrnn.api import enumerate_lines
from charrnn.checkpoint.model_file import Checkpoint
from charrnn.errors import ConfigError, SamplingError, SearchError, VocabularyError
from charrnn.search import enumeration
from charrnn.search.enumeration import Line


@pytest.fixture(autouse=True, params=[False, True], ids=["plain", "compiled"])
def path(request, monkeypatch):
    let_load(monkeypatch, Ready(0 if request.param else None))


@functools.cache
def everything(context: str, longest: int, **settings) -> dict[str, tuple[float, float]]:
    return all_log_probabilities(toy(**settings), context, longest)


def brute_force(
    context: str, before: str, count: int = 10**6, longest: int = 7, **settings
) -> list[tuple[float, str]]:
    """(-log p, line) of the best lines, of all that are as probable as what is too long to be looked at.

    An empty one is none of a model of lines, which `toy` is unless the settings say otherwise.
    """
    found = everything(context, longest, **settings)
    unseen = max(total for text, (total, _) in found.items() if len(text) == longest)
    lines = sorted((-whole, before + text) for text, (_, whole) in found.items() if whole > unseen)
    if settings.get("lines", True):
        lines = [(cost, line) for cost, line in lines if line]
    assert len(lines) > 8, "brute force has not seen enough"
    return lines[:count]


@pytest.mark.parametrize(("cell", "nonlinearity"), CELLS)
@pytest.mark.parametrize(
    ("lines", "prompt", "context", "before"),
    [(True, "", "", ""), (True, "ba", "ba", "ba"), (False, "", "\n", ""), (False, "b\nab", "b\nab", "ab")],
    ids=["lines", "lines-prompt", "prose", "prose-prompt"],
)
def test_it_is_brute_force_in_order(cell, nonlinearity, lines, prompt, context, before):
    settings = {"seed": 3, "lines": lines, "cell": cell, "nonlinearity": nonlinearity}
    checkpoint = toy(**settings)
    expected = brute_force(context, before, 25, **settings)
    assert all(b[0] - a[0] > 1e-5 for a, b in pairwise(expected)), "the order would be chance"
    found = list(enumerate_lines(checkpoint, prompt, count=len(expected)))
    assert [line.text for line in found] == [text for _, text in expected]
    np.testing.assert_allclose([-line.log_probability for line in found], [v for v, _ in expected], atol=1e-4)
    assert found[0].probability == math.exp(found[0].log_probability)


@pytest.mark.parametrize("seed", range(1, 7))
def test_it_is_brute_force_with_more_characters(seed):
    settings = {"seed": seed, "characters": "\nabcd", "ending": 2.5}
    expected = brute_force("", "", longest=4, **settings)
    found = list(enumerate_lines(toy(**settings), count=len(expected)))
    assert [line.text for line in found] == [text for _, text in expected]


def test_both_paths_and_any_number_of_threads_give_the_same_bits(monkeypatch):
    checkpoint = toy(seed=5, characters="\nabcdef", cell="gru")
    wanted = list(enumerate_lines(checkpoint, count=150))
    for compiled in (False, True):
        for threads in (1, 2, 3):
            let_load(monkeypatch, Ready(0 if compiled else None))
            assert list(enumerate_lines(checkpoint, count=150, threads=threads)) == wanted


def test_how_many_are_expanded_at_once_changes_nothing(monkeypatch):
    checkpoint = toy(seed=5, characters="\nabcdef")
    wanted = list(enumerate_lines(checkpoint, count=200))
    for width in (1, 7, 1000):
        monkeypatch.setattr(enumeration, "MAX_BATCH", width)
        assert list(enumerate_lines(checkpoint, count=200)) == wanted


def test_fewer_are_the_first_of_more():
    checkpoint = toy(seed=2)
    many = list(enumerate_lines(checkpoint, count=60))
    for count in (1, 2, 13):
        assert list(enumerate_lines(checkpoint, count=count)) == many[:count]


def test_equally_probable_lines_come_in_the_order_of_their_texts():
    checkpoint = toy(characters="\nabc", ending=0.0)
    for tensor in checkpoint.tensors.values():
        tensor[:] = 0
    found = [line.text for line in enumerate_lines(checkpoint, count=12)]
    assert found == list(texts("abc", 2))[1:]


def test_length_bounds_what_follows_the_prompt_and_may_leave_fewer():
    expected = sorted((-whole, "b" + text) for text, (_, whole) in everything("b", 2, seed=1).items())
    found = list(enumerate_lines(toy(seed=1), "b", count=1000, length=2))
    assert [line.text for line in found] == [text for _, text in expected]
    assert len(found) == 7


def test_a_constraint_leaves_the_lines_it_allows_with_their_own_probabilities():
    """The line has 2, 4, .. times the character a, and no b before the first a."""
    checkpoint = toy(seed=3)
    assert checkpoint.vocabulary.characters == "\nab"
    table = np.array([[-1, 1, -1], [-1, 2, 1], [0, 1, 2]], np.int32)
    even = enumeration.Constraint(0, table, np.arange(3, dtype=np.int32))
    expected = [
        (value, text)
        for value, text in brute_force("", "", seed=3)
        if text.startswith("a") and text.count("a") % 2 == 0
    ]
    assert len(expected) > 3
    found = list(enumerate_lines(checkpoint, count=len(expected), constraint=even))
    assert [line.text for line in found] == [text for _, text in expected]
    np.testing.assert_allclose([-line.log_probability for line in found], [v for v, _ in expected], atol=1e-4)


@pytest.mark.parametrize(
    "expression", ["a*b+", "(ab|ba)*", "[^b]{2,4}", "(?:a|b){3}", "b.*a|.", "", "a?", "(aa)+b|b(aa)*"]
)
@pytest.mark.parametrize("prompt", ["", "ba"])
def test_lines_that_match_are_those_of_all_that_do(expression, prompt):
    settings = {"seed": 3}
    expected = [
        (value, line)
        for value, line in brute_force(prompt, prompt, **settings)
        if re.fullmatch(expression, line.removeprefix(prompt))
    ]
    assert expected or not (expression or prompt)  # what matches is an empty line alone
    found = list(api.enumerate_lines(toy(**settings), prompt, count=len(expected) or 1, match=expression))
    assert [line.text for line in found] == [line for _, line in expected]
    np.testing.assert_allclose([-line.log_probability for line in found], [v for v, _ in expected], atol=1e-4)


def test_a_finite_set_of_lines_is_found_as_a_whole():
    found = [line.text for line in api.enumerate_lines(toy(), count=100, match="(a|b){1,3}")]
    assert sorted(found) == sorted(texts("ab", 3))[1:]
    bounded = [line.text for line in api.enumerate_lines(toy(), count=100, match="(a|b){1,3}", length=2)]
    assert bounded == [text for text in found if len(text) < 3]


def test_matching_says_what_cannot_be():
    with pytest.raises(SamplingError, match="no text of the model's characters"):
        api.enumerate_lines(toy(), match="x")
    with pytest.raises(ConfigError, match="not closed"):
        api.enumerate_lines(toy(), match="(a")
    with pytest.raises(ConfigError, match="never seen a line end"):
        api.enumerate_lines(toy(characters="abc", lines=False), match="a")
    with pytest.raises(SamplingError, match="the shortest text that matches has 5 characters, not 2"):
        api.enumerate_lines(toy(), match="a{5}", length=2)


def test_what_comes_before_the_memory_is_used_up_is_exact(monkeypatch):
    checkpoint = toy(seed=3, characters="\nabcd", ending=0.5)
    exact = list(enumerate_lines(checkpoint, count=400))
    given = []
    for size in (
        2**13,
        2**15,
        2**17,
    ):  # bytes that a node counts for, so that 128, 32, 8 nodes fill the memory
        monkeypatch.setattr(enumeration, "NODE_BYTES", size)
        found: list[Line] = []
        lines = enumerate_lines(checkpoint, count=400, memory=2**20)
        with pytest.raises(SearchError, match="--memory"):
            found.extend(lines)  # which keeps what came before the error
        assert found == exact[: len(found)]
        given.append(len(found))
    assert 400 > given[0] > given[1] > given[2] >= 0


@functools.cache
def first_lines(checkpoint: Checkpoint) -> list[Line]:
    return list(enumerate_lines(checkpoint, count=200))


LETTERS = toy(seed=3, characters="\nabcd", ending=0.5)


@pytest.mark.parametrize("count", [None, 5, 12, 500])
@pytest.mark.parametrize("places", [0, 1, 11, 12, 150])
def test_lines_down_to_a_probability_are_the_first_of_all(count, places):
    exact = first_lines(LETTERS)
    above = math.exp((exact[places].log_probability + exact[places + 1].log_probability) / 2)
    found = list(enumerate_lines(LETTERS, count=count, above=above))
    assert found == exact[: min(places + 1, count or 200)]
    assert found == list(api.enumerate_lines(LETTERS, count=count, above=above))


def test_probabilities_too_small_for_a_number_are_compared_all_the_same():
    least = math.log(5e-324)
    checkpoint = toy(ending=-742.0)  # to end at all is almost as improbable as that
    exact = list(enumerate_lines(checkpoint, count=30, length=4))
    found = list(enumerate_lines(checkpoint, above=5e-324, length=4))
    assert found == [line for line in exact if line.log_probability >= least]
    assert 0 < len(found) < len(exact)


def test_nothing_so_probable_is_nothing():
    assert list(enumerate_lines(toy(), above=0.999999)) == []


def test_the_memory_bounds_lines_that_wait_too(monkeypatch):
    checkpoint = toy(seed=3, characters="\nabcd", ending=0.5)
    exact = list(enumerate_lines(checkpoint, count=400))
    monkeypatch.setattr(enumeration, "LINE_BYTES", 2**14)
    found: list[Line] = []
    with pytest.raises(SearchError, match="--memory MB, or ask for fewer lines"):
        found.extend(enumerate_lines(checkpoint, above=exact[-1].probability / 2, memory=2**20))
    assert found == exact[: len(found)]
    assert found


def test_a_model_that_hardly_ends_its_lines_is_stopped(monkeypatch):
    monkeypatch.setattr(enumeration, "NODE_BYTES", 2**13)
    with pytest.raises(SearchError, match="after 0 lines"):
        list(enumerate_lines(toy(ending=-60.0), count=1, memory=2**20))


@pytest.mark.parametrize("lines", [True, False])
def test_log_probabilities_are_those_of_evaluation(lines):
    checkpoint = toy(seed=4, characters="\nabcdef", lines=lines)
    for line in enumerate_lines(checkpoint, count=30):
        # A model of prose begins after a line's end, whose own surprise is none of the line's.
        context = "" if lines else "\n"
        surprises = charrnn.score(checkpoint, context + line.text + "\n")[len(context) :]
        assert line.log_probability == pytest.approx(-float(surprises.sum(dtype=np.float64)), abs=1e-4)


def test_unknown_characters_of_the_prompt_are_refused_or_left_out():
    checkpoint = toy()
    with pytest.raises(VocabularyError, match="position 1"):
        list(enumerate_lines(checkpoint, "a€b"))
    skipped = list(enumerate_lines(checkpoint, "a€b", count=5, on_unknown="skip"))
    assert skipped == list(enumerate_lines(checkpoint, "ab", count=5))


@pytest.mark.parametrize(
    "wrong",
    [{"count": 0}, {"memory": 5}, {"length": -1}]
    + [{"above": above} for above in (0.0, 1.0, -0.1, 2.0, math.nan, math.inf)],
)
def test_settings_out_of_range_are_named(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        enumerate_lines(toy(), **wrong)


def test_a_model_without_a_line_end_has_no_lines():
    with pytest.raises(ConfigError, match="line end"):
        enumerate_lines(toy(characters="abc", lines=False))


def test_the_reference_and_the_model_agree():
    """What brute force rests on: its probabilities sum to 1 at each place."""
    table = log_probabilities(toy(), "", "abab")
    np.testing.assert_allclose(np.exp(table).sum(axis=1), 1)
