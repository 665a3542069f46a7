"""What a model offers to somebody who writes by hand."""

from __future__ import annotations

import numpy as np
import pytest
from support.toy_models import log_probabilities, toy

from charrnn.search.suggestions import LONGEST, Offer, Offers


def what_follows(checkpoint, text: str) -> np.ndarray:
    """log p of each character after the text. No line of a model of lines is empty."""
    row = log_probabilities(checkpoint, "", text)[-1]
    if checkpoint.text.lines and not text:
        row[0] = -np.inf
    return row


def by_hand(checkpoint, context: str, text: str) -> str:
    """The most probable way to go on, up to the line's end."""
    found = ""
    while len(found) < LONGEST:
        best = int(np.argmax(what_follows(checkpoint, context + text + found)))
        character = checkpoint.vocabulary.characters[best]
        if character == "\n":
            return found or "\n"
        found += character
    return found


@pytest.mark.parametrize("lines", [True, False])
def test_offers_are_the_same_however_the_text_came_about(lines):
    checkpoint = toy(seed=8, characters="\nabcd", lines=lines, ending=0.2)
    offers = Offers(checkpoint)
    for text in ("", "a", "ab", "abc", "abd", "ad", "", "dcba", "d", "ab\nc"):
        offer = offers.after(text)
        if lines:
            context, read = "", text.rpartition("\n")[2]
        else:
            context, read = "" if text else "\n", text
        assert offer.continuation == by_hand(checkpoint, context, read), text
        p = np.exp(what_follows(checkpoint, context + read))
        assert [value for _, value in offer.next] == pytest.approx(sorted(p, reverse=True), abs=1e-5)
        assert "".join(c for c, _ in offer.next) == "".join(
            checkpoint.vocabulary.characters[n] for n in np.argsort(-p)
        )


def test_unknown_characters_are_named_and_passed_over():
    offers = Offers(toy())
    assert offers.unknown("aéb€é") == "é€"
    assert offers.after("aéb") == offers.after("ab")


@pytest.mark.parametrize(
    ("continuation", "word"),
    [("the end", "the"), (" the end", " the"), ("a", "a"), ("\n", "\n"), ("  ", "  ")],
)
def test_a_word_is_what_comes_up_to_the_next_gap(continuation, word):
    assert Offer(continuation, ()).word == word
