"""Expressions against Python's own, and what is refused."""

from __future__ import annotations

import itertools
import re
import sys
import time

import pytest

from charrnn.constraints import expressions
from charrnn.constraints.expressions import compiled
from charrnn.errors import CharrnnError, ConfigError, SamplingError

CHARACTERS = "\n a1bcé語"


def accepts(expression: str, text: str, characters: str = CHARACTERS) -> bool:
    automaton = compiled(expression, characters)
    state = automaton.start
    for character in text:
        state = int(automaton.table[state, characters.index(character)])
        if state < 0:
            return False
    return bool(automaton.final[state])


@pytest.mark.parametrize(
    "expression",
    [
        "", "a", "a|ab", "(ab|a)(c|bc)", "(a|b)*c", "a{2,3}b?", "a{2}", "a{2,}", "[^a]*", r"\w{2}", r"\W+\w",
        r"\d|\D\D", r"\s*é", r"[\wé]+", r"[^\w]+", r"[^\W]+", ".*", "(?s).*", "(?i)A+", r"\x61", "^a|b$",
        "(?:a*?)b", "(?P<name>ab)+", "(?i)[^A]b", "(?i:[A-B])a", "(?s:.)a.", "(?i)(?-i:A|b)C", "語?é{1,2}",
        r"a\.?", "[]a]", "[^]a]", "a日|b", "a日?",
    ],
)  # fmt: skip
def test_whole_texts_are_accepted_as_python_does(expression):
    wanted = re.compile(expression)
    for n in range(4):
        for characters in itertools.product(CHARACTERS, repeat=n):
            text = "".join(characters)
            assert accepts(expression, text) == bool(wanted.fullmatch(text)), text


@pytest.mark.parametrize(
    ("expression", "members"),
    [
        (r"\p{L}", "abcé語"), (r"\pL", "abcé語"), (r"\p{Han}", "語"), (r"\P{L}", "\n 1"), (r"\p{Greek}", ""),
        (r"[\p{Greek}b]", "b"), (r"[\p{L}--[a-c]]", "é語"), (r"[\w&&\D]", "abcé語"), ("[[:digit:]a]", "1a"),
    ],
)  # fmt: skip
def test_unicode_classes_and_sets(expression, members):
    assert sorted(c for c in CHARACTERS if accepts(expression, c)) == sorted(members)


@pytest.mark.parametrize(
    "expression",
    ["a.{60}", r"[a-c]\w{2,60}b", "[^1]{30,60}1", "[ab][^\n]{50}c", "a.{10,50}1\\n", "(?i)[A-C].{40}"],
)
def test_a_first_character_that_may_come_again_costs_no_states(expression):
    assert len(compiled(expression, CHARACTERS).table) < 500


def test_many_letters_are_as_quick_as_one():
    assert len(compiled(r"\w{200}", CHARACTERS).table) < 2000


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("(a", "a ( that is not closed at position 0"), ("[a", "a [ that is not closed at position 0"),
        ("a)(", "a ) without its ( at position 1"), ("a\\", "a backslash with nothing after it"),
        (r"(a)\1", "a back-reference"), ("a(?=b)", "look-around"), ("(?<!a)b", "look-around"),
        (r"\bab", r"\b, which an automaton"), ("a^b", "^, which only"), ("a$b", "$, which only"),
        ("*a", "nothing to repeat"), ("a{3,2}", "min repeat greater"), ("[z-a]", "bad character range"),
        (r"\q", "bad escape"), (r"\p{Nonsense}", "does not know"), ("a" * 10_001, "10,001 characters"),
        ("(" * 5000 + ")" * 5000, "nested too deeply"), ("(?x) a b # c", "the flag x"),
    ],
)  # fmt: skip
def test_what_is_no_expression_is_an_error_that_says_why(expression, words):
    with pytest.raises(ConfigError) as caught:
        compiled(expression, CHARACTERS)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("expression", ["(a|b)*a(a|b){40}", "((a{100}){100}){100}", r".*a.{17}b"])
def test_a_hostile_expression_is_refused_soon(expression, monkeypatch):
    monkeypatch.setattr(expressions, "SECONDS", 1)
    started = time.monotonic()
    with pytest.raises(ConfigError, match="too large"):
        compiled(expression, CHARACTERS)
    assert time.monotonic() - started < 60  # not for ever: the worker was ended


def test_an_automaton_of_many_states_is_refused(monkeypatch):
    monkeypatch.setattr(expressions, "MAX_STATES", 100)
    with pytest.raises(ConfigError, match="too large"):
        compiled("a{120}", CHARACTERS)


def test_without_the_library_the_error_says_what_to_install(monkeypatch, tmp_path):
    (tmp_path / "outlines_core.py").write_text("raise ImportError")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(SamplingError, match="pip install outlines-core"):
        compiled("not asked before", CHARACTERS)


def test_without_python_the_error_says_so(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(CharrnnError, match="Python cannot be started"):
        compiled("nor this", CHARACTERS)
