"""Lines of a source and its target: how they are read, and what is no pair."""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from charrnn.config import TextConfig
from charrnn.errors import ConfigError, CorpusError
from charrnn.tasks.reading.examples import Ragged, pieces
from charrnn.tasks.reading.pairs import Pairs, read_pairs
from charrnn.text.files.decoding import CodePoints
from charrnn.text.records import pairs as records
from charrnn.vocabulary import RARE, code_points, text_of


def write(path: Path, text: str) -> Path:
    path.write_bytes(text.encode())
    return path


def shown(pairs: Pairs) -> list[tuple[str, list[str]]]:
    """Sources and the tokens of their targets."""
    sources, labels = pairs.sources(pairs.vocabulary), pairs.columns[0].labels
    texts = [pairs.vocabulary.decode(sources.row(r)) for r in range(len(sources))]
    targets = [[labels[n] for n in pairs.targets.row(r)] for r in range(len(pairs.targets))]
    return list(zip(texts, targets, strict=True))


def read(path: Path, targets: Any = "characters", **text: Any) -> Pairs:
    return read_pairs([path], TextConfig(targets=targets, **text), targets)


def test_sources_and_targets_have_vocabularies_of_their_own(tmp_path: Path) -> None:
    found = read(write(tmp_path / "a.tsv", "bé\tXY\nb\tX\n\na\tYYY\n"))
    assert shown(found) == [("bé", ["X", "Y"]), ("b", ["X"]), ("a", ["Y", "Y", "Y"])]
    assert found.vocabulary.characters == "\nabé"
    assert (found.columns[0].labels, found.columns[0].counts) == (("X", "Y"), (2, 4))
    assert found.text.lines
    assert found.text.targets == "characters"
    assert found.notes == ("1 empty line was left out",)


def test_words_are_what_stands_between_spaces(tmp_path: Path) -> None:
    found = read(write(tmp_path / "a.tsv", "the\tDH AH\ncat\tK  AE T \n"), "words")
    assert shown(found) == [("the", ["DH", "AH"]), ("cat", ["K", "AE", "T"])]
    assert found.columns[0].labels == ("AE", "AH", "DH", "K", "T")


def test_reversed_pairs_are_those_of_a_file_with_the_columns_swapped(tmp_path: Path) -> None:
    there = read(write(tmp_path / "a.tsv", "the\tDH AH\ncat\tK AE T\n"), reverse=True)
    back = read(write(tmp_path / "b.tsv", "DH AH\tthe\nK AE T\tcat\n"))
    assert shown(there) == shown(back) == [("DH AH", list("the")), ("K AE T", list("cat"))]
    words = read(write(tmp_path / "c.tsv", "DH AH\tthe\nK AE T\tcat\n"), "words", reverse=True)
    assert shown(words) == [("the", ["DH", "AH"]), ("cat", ["K", "AE", "T"])]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("abc\tBMM\nd\tS\n", [list("BMM"), ["S"]]),
        ("d\tS\nabc\tB M M\n", [["S"], list("BMM")]),
        ("abc\tB-X I-X O\nd\tB-X\n", [["B-X", "I-X", "O"], ["B-X"]]),
        ("d\tB-X\n", [["B-X"]]),
        ("d\tB\n", [["B"]]),
    ],
)
def test_tags_are_characters_or_words_whichever_are_as_many_as_characters(
    text: str, expected: list[list[str]], tmp_path: Path
) -> None:
    found = read(write(tmp_path / "a.tsv", text), "tags")
    assert [tags for _, tags in shown(found)] == expected
    assert found.text.targets == ("words" if " " in text or "-" in text else "characters")


@pytest.mark.parametrize(
    ("text", "targets", "words"),
    [
        ("ab\tX\nab\n", "characters", "a line has no tab, in line 2 of {}"),
        ("ab\tX\n\n\nab\tX\tY\n", "characters", "a line has 2 tabs, in line 4 of {}"),
        ("ab\tX\n\tY\n", "characters", "a source is empty, in line 2 of {}"),
        ("ab\tX\nab\t", "characters", "a target is empty, in line 2 of {}"),
        ("ab\tX\nab\t  \n", "words", "a target is empty, in line 2 of {}"),
        ("abc\tBMM\nab\tBMM\n", "tags", "a text of 2 characters has 3 tags, in line 2 of {}"),
        ("a\tB\nabc\tB M\n", "tags", "a text of 3 characters has 2 tags, in line 2 of {}"),
        ("abc\tB M M\nab\tBM\n", "tags", "others have none, in line 2 of {}"),
        ("abc\tBMM\na\tB-X\n", "tags", "others have none, in line 2 of {}"),
        ("a\tB M\n", "tags", "a text of 1 character has 2 tags, in line 1 of {}"),
    ],
)
def test_an_error_names_the_file_and_the_line(text: str, targets: str, words: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.tsv", text)
    with pytest.raises(CorpusError, match=re.escape(words.format(path))):
        read(path, targets)


def test_reversed_pairs_call_empty_what_is_empty(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="a source is empty, in line 1"):
        read(write(tmp_path / "a.tsv", "X\t\n"), reverse=True)


def in_pieces(text: str, size: int) -> Iterator[tuple[CodePoints, Callable[[int], str]]]:
    """Code points, with what counts the lines before one."""
    for at in range(0, len(text), size):
        yield code_points(text[at : at + size]), lambda n, at=at: f"{text[: at + n].count(chr(10)) + 1}"


def test_a_line_may_come_in_any_pieces() -> None:
    good = "ab\tXY\ncd\tZ\n"
    for size in (1, 2, 3, 7, 100):
        with pytest.raises(CorpusError, match=r"a line has no tab, 4"):
            list(records.Pairs(TextConfig(targets="characters")).checked(in_pieces(good + "\nbad\n", size)))
        found = records.Pairs(TextConfig(targets="characters")).checked(in_pieces(good, size))
        assert "".join(text_of(points) for points, _ in found) == good


def test_pairs_are_read_as_other_corpora_are(tmp_path: Path) -> None:
    folder = tmp_path / "pairs"
    folder.mkdir()
    (folder / "a.tsv").write_bytes("né\tX\r\nb\tY".encode("latin-1"))
    (folder / "b.tsv.gz").write_bytes(gzip.compress("ü\tZ\n".encode("latin-1")))
    found = read(folder, encoding="latin-1")
    assert shown(found) == [("né", ["X"]), ("b", ["Y"]), ("ü", ["Z"])]
    assert found.notes == ("CRLF line ends became LF (--keep-newlines leaves them)",)
    assert found.text.normal_form == "NFC"
    with pytest.raises(CorpusError, match="in line 1"):
        read(folder)


def test_rare_characters_of_sources_become_one_and_targets_stay(tmp_path: Path) -> None:
    found = read(write(tmp_path / "a.tsv", "aab\tXQ\naac\tX\n"), min_count=2)
    assert shown(found) == [("aa" + RARE, ["X", "Q"]), ("aa" + RARE, ["X"])]
    assert found.vocabulary.rare
    assert found.text.min_count == 2


@pytest.mark.parametrize("more", [{"split": "blank"}, {"bytes": True}, {"field": "x"}, {"label_by": "file"}])
def test_pairs_are_lines_of_characters(more: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="sources and targets are lines"):
        read(write(tmp_path / "a.tsv", "a\tb\n"), **more)


def test_another_target_is_another_corpus(tmp_path: Path) -> None:
    texts = ("a\tX\nb\tY\n", "a\tY\nb\tX\n", "a\tXY\nb\tX\n", "a\tX\nb\tXY\n")
    corpora = [read(write(tmp_path / f"{n}.tsv", text)) for n, text in enumerate(texts)]
    assert len({corpus.fingerprint() for corpus in corpora}) == 4
    assert corpora[0].fingerprint() == read(tmp_path / "0.tsv").fingerprint()


def test_what_other_vocabularies_lack_keeps_its_place(tmp_path: Path) -> None:
    own = read(write(tmp_path / "a.tsv", "ab\tXY\n"))
    other = read(write(tmp_path / "b.tsv", "azb\tXQQ\n"))
    assert other.sources(own.vocabulary).values[:3].tolist() == [1, 3, 2]
    assert other.targets_in(own.columns[0]).values.tolist() == [0, 2, 2]
    assert other.unknown(own.vocabulary, own.columns[0]) == (
        "the model has never seen 1 character of sources", "the model has never seen 2 tokens of targets",
    )  # fmt: skip
    assert own.unknown(own.vocabulary, own.columns[0]) == ()


def test_pieces_of_sequences_are_all_of_them_in_order() -> None:
    texts = Ragged.of([np.arange(5), np.arange(0), np.arange(4), np.arange(1)])
    found, rows = pieces(texts, 2)
    assert rows.tolist() == [0, 0, 0, 2, 2, 3]
    assert [found.row(n).tolist() for n in range(len(found))] == [[0, 1], [2, 3], [4], [0, 1], [2, 3], [0]]
