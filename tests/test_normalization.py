"""Normal forms, of whole texts and of such as come in pieces."""

from __future__ import annotations

import sys
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from charrnn.config import Form
from charrnn.text.files.normalization import LONGEST, Normaliser, form_of, joins, normalised

# Letters and marks that meet, Hangul in parts, and what changes places.
PARTS = "ae\n \u0301\u0323\u0308é\u1ebd각각ᄀ\u1161\u11a8か\u3099क\u093c\u09c7\u09be語<\u0338"


def cut(text: str, size: int) -> list[str]:
    return [text[n : n + size] for n in range(0, len(text), size)]


@example("\u09c7\u09be", 1, "NFC")  # two marks, and nothing before them
@given(st.text(PARTS), st.integers(1, 5), st.sampled_from(["NFC", "NFD"]))
def test_a_text_in_pieces_becomes_what_it_becomes_as_a_whole(text: str, size: int, form: str) -> None:
    normaliser = Normaliser(Form(form))  # type: ignore[arg-type]
    pieces = [normaliser.add(piece) for piece in cut(text, size)] + [normaliser.add("", last=True)]
    whole = unicodedata.normalize(form, text)
    assert "".join(pieces) == whole == normalised(text, Form(form))  # type: ignore[arg-type]
    assert normaliser.changed == (whole != text)


def test_without_a_form_nothing_is_changed_or_kept_back() -> None:
    assert Normaliser(Form()).add("e") == "e"
    assert normalised("e\u0301", Form()) == "e\u0301"


def test_a_line_is_given_out_at_its_end() -> None:
    normaliser = Normaliser(Form("NFC"))
    assert normaliser.add("ae") == "a"
    assert normaliser.add("\u0301\n") == "é\n"


def test_no_more_than_a_bounded_rest_is_kept_back() -> None:
    normaliser = Normaliser(Form("NFD"))
    given = sum(len(normaliser.add("\u0301" * 100)) for _ in range(1000))
    assert given >= 100_000 - LONGEST - 100


def test_whatever_can_be_joined_is_known_to_be() -> None:
    """All characters that normalization combines with, or sorts among, what stands before them."""
    for character in map(chr, range(sys.maxunicode + 1)):
        decomposed = unicodedata.normalize("NFD", character)
        if unicodedata.combining(character) or unicodedata.combining(decomposed[0]):
            assert joins(character), hex(ord(character))
        for second in decomposed[1:] if unicodedata.normalize("NFC", decomposed) == character else "":
            assert joins(second), hex(ord(character))


@given(st.text(PARTS), st.integers(1, 5))
def test_a_form_is_what_all_of_a_text_is_in(text: str, size: int) -> None:
    forms = [form for form in ("NFC", "NFD") if unicodedata.is_normalized(form, text)]
    assert form_of("".join(set(text)), lambda: cut(text, size)) == (forms[0] if len(forms) == 1 else None)


def test_a_text_is_looked_at_only_where_characters_join() -> None:
    def no_pieces() -> list[str]:
        raise AssertionError

    assert form_of("café и語", no_pieces) == "NFC"
    with pytest.raises(AssertionError):
        form_of("cafe\u0301", no_pieces)


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("plain", None),
        ("語 и", None),
        ("café", "NFC"),
        ("cafe\u0301", "NFD"),
        ("café cafe\u0301", None),
        ("나라", "NFC"),
        ("שָׁלוֹם", None),
    ],
)
def test_a_text_has_a_form_only_where_it_could_have_another(text: str, form: str | None) -> None:
    assert form_of("".join(set(text)), lambda: [text]) == form
