"""The joined automaton against brute force: all texts of a small alphabet."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from charrnn.constraints import automaton
from charrnn.constraints.automaton import Automaton, build
from charrnn.constraints.expressions import compiled
from charrnn.errors import ConfigError, SamplingError
from charrnn.inference.constrained_step import FINAL

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
            found = build(
                CHARACTERS, end="\n" if lines else "", expression=shape, bans=bans, only=only, prompt=told
            )
            start = found.start(prompt)
        except SamplingError:
            assert not expected
            continue
        assert language(found, start, lines) == expected
        if expression is not None and expected:
            assert found.reach[start] == min(map(len, expected))


WORDS = " ,.ab"


def both(expression: str, *, lines: bool = False, bans: tuple[str, ...] = ()) -> tuple[Automaton, Automaton]:
    """As the expression says, and as it ends naturally."""
    characters = "\n" + WORDS
    shape = compiled(expression, characters)
    free, natural = (
        build(characters, end="\n" if lines else "", expression=shape, bans=bans, natural=natural)
        for natural in (False, True)
    )
    return free, natural


def accepts(found: Automaton, text: str, lines: bool) -> bool:
    state = found.start()
    for character in text:
        state = found.table[state][found.classes[("\n" + WORDS).index(character)]]
        if state <= FINAL:
            return False
    return bool(found.table[state][found.classes[0]] == FINAL if lines else found.reach[state] == 0)


@pytest.mark.parametrize("lines", [False, True])
@given(st.text(WORDS, min_size=1, max_size=13))
def test_no_word_begins_at_the_end_of_the_most_characters(lines, text):
    free, natural = both(".{4,12}", lines=lines)
    assert accepts(free, text, lines) == (4 <= len(text) <= 12)
    begins = any(c in " ," for c in text[9:])  # in the last quarter
    assert accepts(natural, text, lines) == (accepts(free, text, lines) and not begins)


@pytest.mark.parametrize("lines", [False, True])
@given(st.text(WORDS, max_size=16), st.sampled_from(["", ".", "..", ". ", ".a."]))
def test_the_end_of_a_sentence_is_the_end_of_a_text_in_its_second_half(lines, text, end):
    text += end
    free, natural = both(".{4,15}[.]", lines=lines)
    assert accepts(free, text, lines) == (5 <= len(text) <= 16 and text.endswith("."))
    # After a stop that may be the last character, the eighth or later, no white space follows.
    after_an_end = any(text[n - 1] == "." and text[n] in " ," for n in range(8, len(text)))
    # In the last quarter, where a stop may come, a word goes on until it comes.
    begins = any(c in " ," for c in text[12:])
    assert accepts(natural, text, lines) == (accepts(free, text, lines) and not (after_an_end or begins))


@pytest.mark.parametrize(
    "expression",
    [
        "a{1,2}( [ab]{1,5}){0,3}", "[ab]{1,9}(, [ab]{1,3}){1,4}[.]", "[ab]+( [ab]+)*", ".*", ".+[.]",
        "[ab]{2} [ab]{2}", "([ab]{1,4} ){2,5}", "(a b|a, b|a. b){1,4}", "[ab]{3,40}",
    ],
)  # fmt: skip
@pytest.mark.parametrize("lines", [False, True])
def test_what_says_itself_where_words_end_stays_as_it_is(expression, lines):
    free, natural = both(expression, lines=lines)
    moves = [found.table[:, found.classes] for found in (free, natural)]
    assert [found.starts for found in (free, natural)] == [natural.starts] * 2
    np.testing.assert_array_equal(moves[0], moves[1])


SHAPES = [
    ".{3,20}",
    ".{0,30}[.,]",
    "(.{2,9}[.] ?){1,3}",
    "a.{1,18}b?",
    "[^.]{5,25}",
    "(a|. ){2,12}",
    ".{1,4}",
]


@given(st.sampled_from(SHAPES), st.lists(st.text(WORDS, min_size=1, max_size=3), max_size=2), st.booleans())
def test_a_natural_end_leaves_no_dead_end_and_adds_no_text(expression, bans, lines):
    try:
        free, natural = both(expression, lines=lines, bans=tuple(bans))
    except SamplingError:
        return
    moves, fewer = (found.table[:, found.classes] for found in (free, natural))
    assert ((fewer == moves) | (fewer < 0)).all()
    may_end = natural.reach == 0
    lead_on = (fewer >= 0) & (natural.reach[fewer] < natural.reach[:, None])
    alive = natural.reach < automaton.FAR
    assert (may_end | lead_on.any(axis=1))[alive].all()


@given(st.lists(st.text("abc\n", min_size=1, max_size=3), max_size=4), st.sampled_from([None, "ab", "a"]))
def test_prose_never_comes_to_a_dead_end(bans, only):
    try:
        found = build(CHARACTERS, end="", bans=bans, only=only)
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
    found = build(CHARACTERS, end="", bans=["abc"], prompt="cab")
    assert found.table[found.start("cab"), found.classes[CHARACTERS.index("c")]] < 0


@pytest.mark.parametrize(
    ("options", "words"),
    [({"bans": [""]}, "a banned text is empty"), ({"only": ""}, "the set of characters is empty")],
)
def test_empty_options_are_errors(options, words):
    with pytest.raises(ConfigError, match=words):
        build(CHARACTERS, end="\n", **options)


@pytest.mark.parametrize(
    "options", [{"only": "xyz"}, {"bans": ["a", "b", "c", "\n"]}, {"only": "a", "bans": ["aa"]}]
)
def test_what_cannot_be_written_is_said(options):
    with pytest.raises(SamplingError, match="no text of the model's characters"):
        build(CHARACTERS, end="", **options)


def test_its_size_is_bounded(monkeypatch):
    monkeypatch.setattr(automaton, "MAX_STATES", 50)
    with pytest.raises(ConfigError, match="too large"):
        build(CHARACTERS, end="", bans=["abc" * 30])
    monkeypatch.setattr(automaton, "MAX_CELLS", 100)
    with pytest.raises(ConfigError, match="too large"):
        build(CHARACTERS, end="", bans=["abc" * 30])
