"""Cleaning that is asked for: it is said, kept in the model file, and done to all that the model reads."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.documents import content, read_text

from charrnn.config import END, Form, TextConfig
from charrnn.errors import ConfigError, CorpusError
from charrnn.text.files.normalization import Normaliser, normalised
from charrnn.vocabulary import RARE, Vocabulary


@given(st.text("aÉΣσςİß É\u0301\n"), st.integers(1, 5), st.sampled_from([None, "NFC", "NFD"]))
def test_lower_case_does_not_depend_on_the_pieces(text: str, size: int, normal: str | None) -> None:
    form = Form(normal, lowercase=True)  # type: ignore[arg-type]
    normaliser = Normaliser(form)
    pieces = [normaliser.add(text[n : n + size]) for n in range(0, len(text), size)]
    whole = normalised(text, form)
    assert "".join([*pieces, normaliser.add("", last=True)]) == whole
    assert normalised(whole, form) == whole
    assert not any(c.isupper() for c in whole)


def test_lower_case_is_said_and_concerns_separators_too() -> None:
    corpus = read_text("Ab\nEND\ncD\n", TextConfig(split="END", lowercase=True))
    assert content(corpus) == f"ab{END}cd{END}"
    assert corpus.notes == ("the text was brought to lower case",)
    assert read_text("ab", TextConfig(lowercase=True)).notes == ()


def test_nfc_is_said_and_kept() -> None:
    corpus = read_text("cafe\u0301", TextConfig(normal_form="NFC", lowercase=True))
    assert content(corpus) == "café"
    assert corpus.notes == ("the text was brought to lower case and NFC",)
    assert read_text("cafe", TextConfig(normal_form="NFC")).text.normal_form == "NFC"


@pytest.mark.parametrize("what", [None, "line", "%"])
def test_rare_characters_become_one_that_stands_for_all_unknown_ones(what: str | None) -> None:
    end = {None: "\n", "line": "\n", "%": "\n%\n"}[what]
    corpus = read_text(f"abab{end}cxya{end}", TextConfig(split=what, min_count=2))
    own = {None: "\n", "line": "\n", "%": END}[what]
    assert content(corpus).replace(own, "|") == f"abab|{RARE * 3}a|"
    assert corpus.vocabulary.characters == "".join(sorted({"a", "b", RARE, own}))
    assert corpus.notes == (
        "3 characters, 3 different ones that occur less than 2 times, became one that stands for all unknown "
        "ones and is never written",
    )
    assert corpus.vocabulary.decode(corpus.vocabulary.encode("a?b")) == f"a{RARE}b"
    later = read_text("a?b", corpus.text, vocabulary=corpus.vocabulary)
    assert content(later).rstrip(own) == f"a{RARE}b"


def test_ends_are_never_rare() -> None:
    corpus = read_text("aaa", TextConfig(lines=True, min_count=3))
    assert content(corpus) == "aaa\n"
    assert not corpus.vocabulary.unknown >= 0


def test_a_text_without_rare_characters_has_no_unknown_one() -> None:
    corpus = read_text("abab", TextConfig(min_count=2))
    assert corpus.vocabulary == Vocabulary("ab")
    assert corpus.vocabulary.unknown == -1
    assert corpus.notes == ()


@given(
    st.lists(st.text("ab\n", min_size=1, max_size=9).filter(lambda text: text != "\n"), min_size=1),
    st.integers(1, 9),
)
def test_longer_records_are_left_out(texts: list[str], most: int) -> None:
    data, config = "".join(text + "\0" for text in texts), TextConfig(split="nul", max_chars=most)
    kept = [text for text in texts if len(text) <= most]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("charrnn.text.reading.CHUNK", 7)
        if not kept:
            with pytest.raises(CorpusError, match=f"every text has more than {most} characters"):
                read_text(data, config)
            return
        corpus = read_text(data, config)
    assert content(corpus) == "".join(text + END for text in kept)
    assert corpus.vocabulary == Vocabulary.build("".join([*kept, END]))
    left_out = len(texts) - len(kept)
    assert any("left out for more than" in note for note in corpus.notes) == (left_out > 0)


def test_longer_lines_are_left_out() -> None:
    corpus = read_text("ab\nabc\na\n", TextConfig(lines=True, max_chars=2))
    assert content(corpus) == "ab\na\n"
    assert corpus.notes == ("1 text was left out for more than 2 characters",)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"max_chars": 3}, "--max-chars leaves out whole texts"),
        ({"bytes": True, "lowercase": True}, "--bytes and --lowercase contradict"),
        ({"bytes": True, "min_count": 2}, "--bytes and --min-count contradict"),
        ({"min_count": 0}, "min-count is 0"),
        ({"lines": True, "max_chars": 0}, "max-chars is 0"),
        ({"lines": True, "split": "%"}, "--lines and --split contradict"),
    ],
)
def test_contradictions_are_wrong_usage(settings: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        TextConfig(**settings)  # type: ignore[arg-type]
