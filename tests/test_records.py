"""Records: texts that are cut out of files, and their ends."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support.documents import content, read_bytes, read_text, start_positions

from charrnn.config import END, TextConfig, TrainConfig
from charrnn.errors import CorpusError, VocabularyError
from charrnn.text.corpus import Corpus
from charrnn.text.files import sources
from charrnn.text.reading import read
from charrnn.text.records.cutter import cutter
from charrnn.text.validation import split
from charrnn.vocabulary import Vocabulary, code_points

SEPARATORS = {"line": "\n", "nul": "\0", "blank": "\n\n", "%": "\n%\n", "<|endoftext|>": "\n<|endoftext|>\n"}


def records(corpus: Corpus) -> list[str]:
    """The records of a corpus, each of which ends."""
    *found, rest = content(corpus).split(corpus.text.end)
    assert rest == ""
    assert corpus.records() == len(found)
    return found


def cut(data: str, what: str, size: int, files: int = 1) -> list[str]:
    """The records that a cutter finds in a text that comes `size` code points at a time."""
    cuts = cutter(TextConfig(split=what))
    found = []
    for _ in range(files):
        cuts.start()
        pieces = [cuts.add(code_points(data[n : n + size])) for n in range(0, len(data), size)]
        text = "".join(map(chr, np.concatenate([*pieces, cuts.finish()]).tolist()))
        found += [record for record in text.split(END) if record]
    return found


def fits(text: str, what: str) -> bool:
    """Whether a text may be a record between such separators."""
    if what == "blank":
        return not re.search("(^|\n)[ \t\v\f\r]*(\n|$)", text)
    if what in ("%", "<|endoftext|>"):
        return text != "" and what not in text.split("\n")
    return text != "" and {"nul": "\0", "line": "\n"}.get(what, END) not in text


LETTERS = "ab%<|endoftx>\n \té漢🙂"


@example(["a\n", "\n\nb"], "%", 1)
@example(["% ", "%%", "a\n%b", " %"], "%", 2)
@example(["a", " b \n c", "\td"], "blank", 1)
@given(st.lists(st.text(LETTERS, min_size=1)), st.sampled_from([*SEPARATORS]), st.integers(1, 9))
def test_any_list_of_texts_goes_through_any_separator_and_comes_back(texts, what, size) -> None:
    texts = [text for text in texts if fits(text, what)]
    data = "".join(text + SEPARATORS[what] for text in texts)
    if what != "line":
        assert cut(data, what, size, files=2) == texts * 2
        if what == "nul" or not data.removesuffix(SEPARATORS[what]).endswith("\n"):
            assert cut(data.removesuffix(SEPARATORS[what]), what, size) == texts
    if texts:
        corpus = read_text(data, TextConfig(split=what))
        assert records(corpus) == texts
        assert corpus.notes == ()
        assert corpus.vocabulary.characters.rstrip(END if what != "line" else "") == "".join(
            sorted(set("".join(texts) + "\n" * (what == "line")))
        )


def naive(data: str, what: str) -> list[str]:
    """The records of a text, by lines."""
    if what == "nul":
        return [part for part in data.split("\0") if part]
    found, lines = [], []
    for line in [*data.removesuffix("\n").split("\n"), what if what != "blank" else ""]:
        if line == what or (what == "blank" and not line.strip(" \t\v\f\r")):
            found.append("\n".join(lines))
            lines = []
        else:
            lines.append(line)
    return [record for record in found if record]


@example("\n%\n", "%", 1)
@example("\n\n%", "%", 1)
@example("a%\n%\n%a\n", "%", 1)
@given(st.text("a%\n \0", max_size=30), st.sampled_from(["%", "blank", "nul", "%%"]), st.integers(1, 40))
def test_any_text_in_any_pieces_has_the_records_that_its_lines_say(data, what, size) -> None:
    assert cut(data, what, size) == naive(data, what)
    assert cut(data, what, size, files=2) == 2 * naive(data, what)


@pytest.mark.parametrize("what", [*SEPARATORS])
def test_separators_lie_across_every_border_of_chunks(monkeypatch, what) -> None:
    texts = [f"text {n}" + "\nof lines" * (what != "line") for n in range(8)]
    data = SEPARATORS[what].join(texts).encode() + b"\n"
    if what == "nul":
        data = data[:-1]
    for size in range(1, 40):
        monkeypatch.setattr(sources, "CHUNK_BYTES", size)
        assert records(read_bytes(data, TextConfig(split=what))) == texts


def test_split_line_is_lines() -> None:
    assert TextConfig(split="line") == TextConfig(lines=True)


def test_a_text_cut_by_nul_and_by_a_line_holds_the_same_records() -> None:
    nul = read_bytes(b"a\nb\0c\0", TextConfig(split="nul"))
    line = read_bytes(b"a\nb\n%\nc\n%\n", TextConfig(split="%"))
    assert records(nul) == records(line) == ["a\nb", "c"]
    assert nul.vocabulary == line.vocabulary == Vocabulary("\nabc" + END)
    assert nul.documents.ids.tolist() == line.documents.ids.tolist()
    assert start_positions(nul.documents) == [0, 4]
    assert nul.documents.end == 4


@pytest.mark.parametrize(
    ("data", "texts", "empty"),
    [
        ("%\na\n%\nb\n%\n", ["a", "b"], 1),  # at the start
        ("a\n%\n%\nb\n%\n", ["a", "b"], 1),  # twice
        ("a\n%\n\n%\nb\n", ["a", "b"], 1),  # around an empty line
        ("a\n%\nb", ["a", "b"], 0),  # none at the end, nor a line end
        ("a\n%\nb\n%", ["a", "b"], 0),
        ("a\r\n%\r\nb\r\n%\r\n", ["a", "b"], 0),
        ("\n\na\n\n\n%\nb\n\n", ["\n\na\n\n", "b\n"], 0),  # one line end belongs to the separator
        ("x %\n%\n% y\n%\n%%\n", ["x %", "% y", "%%"], 0),
    ],
)
def test_separators_stand_in_any_place(data: str, texts: list[str], empty: int) -> None:
    corpus = read_text(data, TextConfig(split="%"))
    assert records(corpus) == texts
    assert ("1 empty text was left out" in corpus.notes) == (empty == 1)


def test_empty_lines_and_lines_of_spaces_separate_once() -> None:
    corpus = read_text("\n \na\n  b\n\n\t\n\nc \nd\n \n", TextConfig(split="blank"))
    assert records(corpus) == ["a\n  b", "c \nd"]
    assert corpus.notes == ()


def test_each_file_is_a_record_without_its_last_line_end(tmp_path: Path) -> None:
    for name, data in (("a", "one\ntwo\n"), ("b", ""), ("c", "\n"), ("d", "three"), ("e", "four\n\n")):
        (tmp_path / name).write_text(data)
    corpus = read([tmp_path], TextConfig(split="file"))
    assert records(corpus) == ["one\ntwo", "three", "four\n"]
    assert corpus.notes == ("2 empty texts were left out",)


@pytest.mark.parametrize("what", ["nul", "blank", "%"])
def test_a_file_ends_a_record(tmp_path: Path, what: str) -> None:
    (tmp_path / "a").write_text(f"one{SEPARATORS[what]}two")
    (tmp_path / "b").write_text("three")
    assert records(read([tmp_path], TextConfig(split=what))) == ["one", "two", "three"]


def test_bytes_are_cut_too() -> None:
    corpus = read_bytes(b"\xff\n\xc3\xa9\n\xfe", TextConfig(bytes=True, split="é"))
    assert records(corpus) == ["\xff", "\xfe"]


def test_the_end_of_a_record_is_no_character_of_a_text() -> None:
    corpus = read_text(f"a{END}b\n%\nc", TextConfig(split="%"))
    assert records(corpus) == ["a\ufffdb", "c"]


@pytest.mark.parametrize(
    ("data", "what", "said"),
    [
        (
            "a\n%%\nb\n%%\nc\n",
            "%",
            r"there is no line '%' to separate texts: .*one, and how often: '%%' \(2\)",
        ),
        ("a\n-----\nb\nc\n", "---", r"'-----' \(1\)"),
        ("a\n--- \nb\nc\n", "---", r"'--- ' \(1\)"),
        ("a\n<|end_of_text|>\nb\n", "<|endoftext|>", r"'<\|end_of_text\|>' \(1\)"),
        ("a\n* * *\nb\n* * *\nc\n", "%", r"'\* \* \*' \(2\)"),
        ("a\n\nb\n\nc\n", "%", "--split blank cuts at empty lines"),
        ("a\nb\n%\nc\n%\n", "blank", r"no empty line .*'%' \(2\)"),
        ("a\nb", "nul", "no NUL character to separate texts: --split line"),
    ],
)
def test_a_separator_that_never_occurs_names_what_looks_like_one(data: str, what: str, said: str) -> None:
    with pytest.raises(CorpusError, match=said):
        read_text(data, TextConfig(split=what))


def test_later_commands_read_a_single_record() -> None:
    vocabulary = Vocabulary("ab" + END)
    assert records(read_text("ab", TextConfig(split="%"), vocabulary=vocabulary)) == ["ab"]


def test_the_line_of_an_unknown_character_is_counted_with_the_separators() -> None:
    vocabulary = Vocabulary("\nab" + END)
    for data in ("a\n%\nb\n%\n%\nab\nb!", "%\na\n\n\n%\nb\nb!\n%\n"):
        line = data[: data.index("!")].count("\n") + 1
        with pytest.raises(VocabularyError, match=f"in line {line} of"):
            read_text(data, TextConfig(split="%"), vocabulary=vocabulary)


def test_a_record_of_skipped_characters_is_left_out() -> None:
    config, vocabulary = TextConfig(split="%"), Vocabulary("ab" + END)
    corpus = read_text("!a\n%\n!!\n%\nb", config, vocabulary=vocabulary, on_unknown="skip")
    assert records(corpus) == ["a", "b"]


def test_whole_records_are_held_out_as_lines_are() -> None:
    texts = [f"{n:03}" for n in range(100)]
    parts = []
    for what in ("line", "%", "nul"):
        corpus = read_text("".join(text + SEPARATORS[what] for text in texts), TextConfig(split=what))
        halves = split(corpus.documents, TrainConfig(steps=1, val_fraction=0.2, val_split="scattered"), -1)
        ids = [half.at(np.arange(len(half))) for half in halves]
        parts.append([corpus.vocabulary.decode(part).replace(corpus.text.end, "|") for part in ids])
    assert parts[0] == parts[1] == parts[2]
    assert len(parts[0][1]) == 20 * 4
    assert sorted("".join(parts[0]).split("|")) == ["", *texts]
