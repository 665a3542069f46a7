"""Characters <-> ids."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from charrnn.errors import VocabularyError
from charrnn.vocabulary import Vocabulary, describe, id_dtype

texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
EVERY_SCRIPT = "Zoë, naïve 漢字 🙂👩‍👩‍👧 e\u0301 \u200f\t\n\x00\x7f\U0010ffff"


@given(texts)
def test_decode_inverts_encode(text: str) -> None:
    vocabulary = Vocabulary.build(text)
    assert vocabulary.decode(vocabulary.encode(text)) == text


@given(texts, st.text(st.characters(exclude_categories=["Cs"])))
def test_skip_drops_the_unknown_characters_and_nothing_else(known: str, text: str) -> None:
    vocabulary = Vocabulary.build(known)
    kept = "".join(c for c in text if c in known)
    assert vocabulary.decode(vocabulary.encode(text, "skip")) == kept


@given(texts)
def test_ids_are_ranks_by_code_point(text: str) -> None:
    vocabulary = Vocabulary.build(text)
    assert vocabulary.characters == "".join(sorted(set(text)))
    assert [vocabulary.characters[i] for i in vocabulary.encode(text)] == list(text)
    assert vocabulary.code_points.tolist() == [ord(c) for c in vocabulary.characters]


@given(texts, texts)
def test_merged_has_the_characters_of_both(a: str, b: str) -> None:
    merged = Vocabulary.build(a).merged(Vocabulary.build(b))
    assert merged == Vocabulary.build(a + b)
    assert merged == Vocabulary.build(b).merged(Vocabulary.build(a))


@given(texts, texts)
def test_positions_in_finds_each_character_or_says_minus_one(a: str, b: str) -> None:
    own, other = Vocabulary.build(a), Vocabulary.build(b)
    positions = own.positions_in(other)
    assert positions.dtype == np.int64
    assert positions.tolist() == [other.characters.find(c) for c in own.characters]


@given(texts)
def test_code_points_rebuild_the_vocabulary(text: str) -> None:
    vocabulary = Vocabulary.build(text)
    assert Vocabulary.from_code_points(vocabulary.code_points) == vocabulary


def test_every_script_comes_out_as_it_went_in() -> None:
    vocabulary = Vocabulary.build(EVERY_SCRIPT)
    assert vocabulary.decode(vocabulary.encode(EVERY_SCRIPT)) == EVERY_SCRIPT


def test_combining_marks_are_characters_of_their_own() -> None:
    assert len(Vocabulary.build("e\u0301")) == 2  # not composed to the one character é


@pytest.mark.parametrize(
    ("size", "dtype"),
    [
        (1, np.uint8),
        (256, np.uint8),
        (257, np.uint16),
        (65536, np.uint16),
        (65537, np.uint32),
    ],
)
def test_ids_have_the_smallest_type(size: int, dtype: type) -> None:
    code_points = [p for p in range(size + 0x800) if not 0xD800 <= p <= 0xDFFF][:size]
    vocabulary = Vocabulary.from_code_points(code_points)
    ids = vocabulary.encode(vocabulary.characters)
    assert vocabulary.dtype == id_dtype(size) == ids.dtype == dtype
    assert np.array_equal(ids, np.arange(size))


def test_contains_single_known_characters_only() -> None:
    vocabulary = Vocabulary("abc")
    assert "b" in vocabulary
    for absent in ("", "ab", "d", 1):
        assert absent not in vocabulary


def test_equal_characters_make_equal_vocabularies() -> None:
    assert Vocabulary("ab") == Vocabulary.build("baab")
    assert hash(Vocabulary("ab")) == hash(Vocabulary.build("ba"))
    assert Vocabulary("ab") != Vocabulary("abc")
    assert pickle.loads(pickle.dumps(Vocabulary("ab"))) == Vocabulary("ab")


def test_a_vocabulary_cannot_be_changed() -> None:
    vocabulary = Vocabulary("ab")
    with pytest.raises(AttributeError):
        vocabulary.characters = "cd"  # type: ignore[misc]
    with pytest.raises(ValueError, match="read-only"):
        vocabulary.code_points[0] = 0


@pytest.mark.parametrize("characters", ["", "ba", "aa", "a\ud800"])
def test_characters_are_distinct_sorted_and_whole(characters: str) -> None:
    with pytest.raises(VocabularyError):
        Vocabulary(characters)


@pytest.mark.parametrize("points", [[], [5, 3], [3, 3], [-1, 4], [0x110000], [0xD800]])
def test_code_points_are_distinct_sorted_and_valid(points: list[int]) -> None:
    with pytest.raises(VocabularyError):
        Vocabulary.from_code_points(points)


def test_an_unknown_character_is_named_with_code_point_and_position() -> None:
    with pytest.raises(VocabularyError) as caught:
        Vocabulary("ab").encode("abéa漢")
    assert "'é' (U+00E9 LATIN SMALL LETTER E WITH ACUTE)" in caught.value.message
    assert "position 2" in caught.value.message
    assert "--on-unknown skip" in caught.value.hint


@pytest.mark.parametrize("character", ["\x1b", "\n", "\x9b", "\u2028", "\udcff"])
def test_control_characters_never_reach_a_message_raw(character: str) -> None:
    with pytest.raises(VocabularyError) as caught:
        Vocabulary("ab").encode(character)
    assert str(caught.value).isprintable()
    assert f"U+{ord(character):04X}" in str(caught.value)


def test_describe_pads_and_grows_the_code_point() -> None:
    assert describe("\t") == "'\\t' (U+0009)"
    assert describe("🙂") == "'🙂' (U+1F642 SLIGHTLY SMILING FACE)"


def test_empty_texts_have_no_ids() -> None:
    vocabulary = Vocabulary("ab")
    ids = vocabulary.encode("")
    assert ids.shape == (0,)
    assert ids.dtype == np.uint8
    assert vocabulary.decode(ids) == vocabulary.decode([]) == ""


@pytest.mark.parametrize("ids", [[2], [-1], [0, 1, 300]])
def test_decode_refuses_ids_outside_the_vocabulary(ids: list[int]) -> None:
    with pytest.raises(VocabularyError):
        Vocabulary("ab").decode(ids)


def test_texts_are_encoded_together_as_they_are_alone_without_what_is_unknown():
    vocabulary, texts = Vocabulary("abé"), ["ab", "", "xaéx", "y", "b"]
    ids, ends = vocabulary.encode_all(texts)
    parts = np.split(ids, ends[:-1])
    assert [part.tolist() for part in parts] == [vocabulary.encode(text, "skip").tolist() for text in texts]
    assert ids.dtype == vocabulary.dtype
