"""Tables, of which one field holds the texts."""

from __future__ import annotations

import csv
import gzip
import io
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.documents import content, read_bytes, read_text

from charrnn.config import END, TextConfig
from charrnn.errors import ConfigError, CorpusError, VocabularyError
from charrnn.text import sources
from charrnn.text.corpus import Corpus, read
from charrnn.vocabulary import Vocabulary

FIELD = TextConfig(field="body")
SUFFIXES = [".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".csv.gz", ".jsonl.gz", ""]


def records(corpus: Corpus) -> list[str]:
    return content(corpus).removesuffix(END).split(END)


def table(texts: list[str], suffix: str) -> bytes:
    """A table with these bodies, and a title each."""
    rows = [(f"title {n}", text) for n, text in enumerate(texts)]
    out = io.StringIO(newline="")
    if "json" in suffix or not suffix:
        for title, text in rows:
            out.write(json.dumps({"title": title, "body": text}, ensure_ascii=len(text) % 2 == 0) + "\n")
    else:
        writer = csv.writer(out, "excel-tab" if "tsv" in suffix else "excel")
        writer.writerows([("title", "body"), *rows])
    data = out.getvalue().encode()
    return gzip.compress(data) if suffix.endswith(".gz") else data


LETTERS = st.characters(exclude_categories=["Cs"], exclude_characters="\r\0\ufeff" + END)


@given(st.lists(st.text(LETTERS, min_size=1), min_size=1), st.sampled_from(SUFFIXES), st.integers(1, 50))
def test_any_list_of_texts_goes_through_any_table_and_comes_back(
    tmp_path_factory, texts, suffix, size
) -> None:
    path = tmp_path_factory.mktemp("tables") / f"x{suffix}"
    path.write_bytes(table(texts, suffix))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sources, "CHUNK_BYTES", size)
        assert records(read([path], FIELD)) == texts


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".json"])
def test_standard_input_is_told_by_its_first_line(suffix: str) -> None:
    texts = ['two\nlines, and a "quote"', "tab\tand comma,", "é"]
    assert records(read_bytes(table(texts, suffix), FIELD)) == texts


def test_folders_of_tables_are_read(tmp_path: Path) -> None:
    for suffix in (".csv", ".jsonl.gz", ".tsv"):
        (tmp_path / f"x{suffix}").write_bytes(table([suffix], suffix))
    assert records(read([tmp_path], FIELD)) == [".csv", ".jsonl.gz", ".tsv"]


def test_texts_of_one_line_may_be_read_as_lines() -> None:
    corpus = read_bytes(table(["Ann", "Bob", ""], ".csv"), TextConfig(field="body", lines=True))
    assert content(corpus) == "Ann\nBob\n"
    assert corpus.notes[-1] == "1 empty line was left out"
    with pytest.raises(CorpusError, match="line 2 of standard input holds a text of several lines"):
        read_bytes(table(["a\nb"], ".csv"), TextConfig(field="body", lines=True))


def test_the_default_separator_of_fields_is_an_empty_line() -> None:
    assert FIELD.split == "blank"
    assert TextConfig(field="body", split="nul").split == "nul"
    assert TextConfig(field="body", lines=True).split is None


def test_empty_and_absent_texts_are_left_out() -> None:
    corpus = read_text('{"body": "a"}\n\n{"body": null}\n{"body": ""}\n{"body": "b"}\n', FIELD)
    assert records(corpus) == ["a", "b"]
    assert corpus.notes == ("2 empty texts were left out",)


def test_what_json_escapes_is_cleaned_as_in_a_file() -> None:
    assert records(read_text(r'{"body": "a\r\nb\rc\udbff\udfff"}', FIELD)) == ["a\nb\nc\ufffd"]
    with pytest.raises(CorpusError, match="line 1 of standard input holds half of a surrogate pair"):
        read_text(r'{"body": "a\ud800"}', FIELD)
    skipping = TextConfig(field="body", encoding_errors="skip", lowercase=True)
    assert records(read_text(r'{"body": "A\ud800B"}', skipping)) == ["ab"]


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("x.jsonl", '{"body": "a"}\n{"body" "b"}\n', "line 2 of .*x.jsonl is no JSON"),
        ("x.jsonl", '[{"body": "a"}]', "line 1 of .* is no JSON object: give one object on each line"),
        ("x.jsonl", '{"body": "a"}\n{"text": "b", "id": 3}\n', "line 2 .* no field 'body': .* 'text', 'id'"),
        ("x.jsonl", '{"body": 3}', "the field 'body' in line 1 of .* is no text: 3"),
        (
            "x.csv",
            "title,text\na,b\n",
            "line 1 of .*x.csv has no field 'body': its fields are 'title', 'text'",
        ),
        ("x.csv", 'title,body\na,"b\nc"\nd\n', "line 4 of .* has 1 fields, and the header 2"),
        ("x.tsv", 'title\tbody\na\t"b\nc\n', "line 2 of .* begins no row"),
        ("x.txt", "some prose\n", "line 1 of .*x.txt has no field 'body': its fields are 'some prose'"),
    ],
)
def test_a_bad_row_is_named_by_file_and_line(tmp_path: Path, name: str, data: str, said: str) -> None:
    (tmp_path / name).write_text(data)
    with pytest.raises(CorpusError, match=said):
        read([tmp_path / name], FIELD)


def test_later_commands_read_tables_and_texts_that_are_cut(tmp_path: Path) -> None:
    vocabulary = Vocabulary("\nabcd" + END)
    for name, data, texts in (
        ("x.txt", "ab\n\ncd\n", ["ab", "cd"]),
        ("x", "body,b\nab,c\n", ["ab"]),
        ("y", '{"body": "ab"}\n', ["ab"]),
    ):
        (tmp_path / name).write_text(data)
        assert records(read([tmp_path / name], FIELD, vocabulary=vocabulary)) == texts
    (tmp_path / "x.csv").write_text("body\nab!\n")
    with pytest.raises(VocabularyError, match=r"'!' .*, in .*x\.csv"):
        read([tmp_path / "x.csv"], FIELD, vocabulary=vocabulary)


def test_a_table_of_bytes_is_a_contradiction() -> None:
    with pytest.raises(ConfigError, match="--bytes and --field contradict each other"):
        TextConfig(bytes=True, field="body")
