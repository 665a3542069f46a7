"""The joined automaton against brute force: all texts of a small alphabet."""

from __future__ import annotations

import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from charrnn import automaton
from charrnn.automaton import Automaton, build
from charrnn.errors import ConfigError, SamplingError
from charrnn.expressions import compiled
from charrnn.steering import FINAL

CHARACTERS = "\nabc"
LONGEST = 4


def language(found: Automaton, start: int, lines: bool) -> set[str]:
    """All texts of at most LONGEST characters; of lines without their ends."""
    texts = set()

    def follow(state: int, text: str) -> None:
        row = found.table[state]
        if row[found.classes[0]] == FINAL if lines else found.reach[state] == 0:
            texts.add(text)
        if len(text) < LONGEST:
            for character, column in zip(CHARACTERS, found.classes, strict=True):
                if row[column] > FINAL:
                    follow(row[column], text + character)

    follow(start, "")
    return texts


def allowed(text: str, bans: list[str], only: str | None, prompt: str, lines: bool) -> bool:
    whole = prompt + text + "\n" * lines
    ends = [match.start() + len(ban) for ban in bans for match in re.finditer(f"(?={re.escape(ban)})", whole)]
    return all(end <= len(prompt) for end in ends) and (only is None or set(text) <= set(only))


EXPRESSIONS = [None, "(a|b)*c", "a{1,2}(b|c)?", "[^a]*", "(ab|abc)+", "(?s).*", "(..)*"]


@given(
    st.sampled_from(EXPRESSIONS),
    st.lists(st.text("abc\n", min_size=1, max_size=3), max_size=3),
    st.sampled_from([None, "ab", "c\n"]),
    st.text("abc", max_size=3),
    st.booleans(),
)
def test_it_is_the_texts_that_match_and_hold_nothing_banned(expression, bans, only, prompt, lines):
    if expression is None and not lines:
        return  # prose goes on for ever: see below
    pattern = None if expression is None else re.compile(expression)
    texts = ("".join(t) for n in range(LONGEST + 1) for t in itertools.product(CHARACTERS[lines:], repeat=n))
    expected = {
        text
        for text in texts
        if (pattern is None or pattern.fullmatch(text)) and allowed(text, bans, only, prompt, lines)
    }
    shape = None if expression is None else compiled(expression, CHARACTERS)
    for told in (prompt, None):  # before, or afterwards
        try:
            found = build(CHARACTERS, lines=lines, expression=shape, bans=bans, only=only, prompt=told)
            start = found.start(prompt)
        except SamplingError:
            assert not expected
            continue
        assert language(found, start, lines) == expected
        if expression is not None and expected:
            assert found.reach[start] == min(map(len, expected))


@given(st.lists(st.text("abc\n", min_size=1, max_size=3), max_size=4), st.sampled_from([None, "ab", "a"]))
def test_prose_never_comes_to_a_dead_end(bans, only):
    try:
        found = build(CHARACTERS, lines=False, bans=bans, only=only)
    except SamplingError:
        # Then no text is long.
        texts = map("".join, itertools.product(only or CHARACTERS, repeat=9))
        assert not any(allowed(text, bans, only, "", False) for text in texts)
        return
    reachable, frontier = {found.start()}, [found.start()]
    while frontier:
        row = found.table[frontier.pop()]
        assert (row >= 0).any()
        new = set(row[row >= 0].tolist()) - reachable
        reachable |= new
        frontier += new


def test_a_ban_reaches_over_the_end_of_the_prompt():
    found = build(CHARACTERS, lines=False, bans=["abc"], prompt="cab")
    assert found.table[found.start("cab"), found.classes[CHARACTERS.index("c")]] < 0


@pytest.mark.parametrize(
    ("options", "words"),
    [({"bans": [""]}, "a banned text is empty"), ({"only": ""}, "the set of characters is empty")],
)
def test_empty_options_are_errors(options, words):
    with pytest.raises(ConfigError, match=words):
        build(CHARACTERS, lines=True, **options)


@pytest.mark.parametrize(
    "options", [{"only": "xyz"}, {"bans": ["a", "b", "c", "\n"]}, {"only": "a", "bans": ["aa"]}]
)
def test_what_cannot_be_written_is_said(options):
    with pytest.raises(SamplingError, match="no text of the model's characters"):
        build(CHARACTERS, lines=False, **options)


def test_its_size_is_bounded(monkeypatch):
    monkeypatch.setattr(automaton, "MAX_STATES", 50)
    with pytest.raises(ConfigError, match="too large"):
        build(CHARACTERS, lines=False, bans=["abc" * 30])
    monkeypatch.setattr(automaton, "MAX_CELLS", 100)
    with pytest.raises(ConfigError, match="too large"):
        build(CHARACTERS, lines=False, bans=["abc" * 30])
