"""Tables, of which one field holds the texts."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.documents import content, read_bytes, read_text

from charrnn.config import END, TextConfig
from charrnn.errors import ConfigError, CorpusError, VocabularyError
from charrnn.text.corpus import Corpus
from charrnn.text.files import sources
from charrnn.text.files.lines import read_lines
from charrnn.text.reading import read
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


# --- labels in other fields, and filters -------------------------------------------------------

LABELLED = TextConfig(field="text", label_fields=("origin", "year"))
CSV = 'year,text,origin\n1900,Ivanov,Russian\n,"Papa\ndopoulos",Greek\n1900,,Greek\n1800,Li,\n'
JSON = (
    '{"text": "Ivanov", "origin": "Russian", "year": 1900}\n{"text": "Papa\\ndopoulos", "origin": "Greek"}\n'
    '{"text": "", "origin": "Greek", "year": 1900}\n{"text": "Li", "origin": null, "year": 1800}\n'
)


def labelled_records(corpus: Corpus) -> list[tuple[str, ...]]:
    """(text, labels..) of each record; "": unknown."""
    labels = corpus.documents.labels_at(corpus.documents.records())
    assert labels is not None
    names = [(*column.labels, "") for column in corpus.columns]
    return [
        (text, *(own[n] for own, n in zip(names, row, strict=True)))
        for text, row in zip(records(corpus), labels, strict=True)
    ]


@pytest.mark.parametrize("data", [CSV, CSV.replace(",", "\t"), JSON], ids=["csv", "tsv", "json"])
def test_labels_are_other_fields_of_a_table(data: str) -> None:
    corpus = read_text(data, LABELLED)
    assert [(column.name, column.labels) for column in corpus.columns] == [
        ("origin", ("Greek", "Russian")), ("year", ("1800", "1900")),
    ]  # fmt: skip
    wanted = [("Ivanov", "Russian", "1900"), ("Papa\ndopoulos", "Greek", ""), ("Li", "", "1800")]
    assert labelled_records(corpus) == wanted
    again = read_text(data, corpus.text, vocabulary=corpus.vocabulary, columns=corpus.columns[::-1])
    assert labelled_records(again) == wanted


def test_labels_of_fields_are_none_of_the_vocabulary_and_keep_their_case() -> None:
    text = TextConfig(field="text", label_fields=("origin",), lines=True, lowercase=True)
    corpus = read_text("text,origin\nAb,Zz\n", text)
    assert corpus.vocabulary == Vocabulary("\nab")
    assert corpus.columns[0].labels == ("Zz",)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("text,year\na,1\n", "line 1 of standard input has no field 'origin': its fields are 'text', 'year'"),
        ('text,year,origin\na,1,"b\nc"\n', "the label 'b.nc' in line 2 of .* holds a tab or a line end"),
        ('{"text": "a", "origin": ["b"]}', "the field 'origin' in line 1 of .* is no label"),
        ('{"text": "a"}', "no text has a label of origin"),
    ],
)
def test_a_label_that_cannot_be_one_is_named_with_its_place(data: str, said: str) -> None:
    with pytest.raises(CorpusError, match=said):
        read_text(data, LABELLED)


def test_a_file_that_is_no_table_has_no_labels_to_be_evaluated_by() -> None:
    corpus = read_text(CSV, LABELLED)
    with pytest.raises(CorpusError, match="has no field 'text'"):
        read_text("Li\n", corpus.text, vocabulary=corpus.vocabulary, columns=corpus.columns)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"label_fields": ("a",)}, "--label-field names a field of tables: give --field"),
        ({"field": "a", "label_fields": ("a",)}, "a field is named twice"),
        ({"field": "a", "label_fields": ("b", "b")}, "a field is named twice"),
        ({"field": "a", "label_fields": ("",)}, "label-fields is"),
        ({"field": "a", "label_fields": ("b",), "label_by": "file"}, "contradict each other"),
    ],
)
def test_fields_of_labels_that_make_no_sense_are_wrong_usage(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        TextConfig(**settings)


def test_the_fields_of_labels_are_kept_in_files() -> None:
    stored = json.loads(json.dumps(LABELLED.to_dict()))
    assert TextConfig.from_dict(stored) == LABELLED
    assert "label_fields" not in FIELD.to_dict()


def as_filters_read(data: bytes, text: TextConfig, size: int = 1 << 16) -> list[str]:
    """The texts of lines or records as score and classify get them."""
    found = read_lines(["-"], text.of_commands(), size, lambda: None, stdin=io.BytesIO(data))
    joined = "".join(lines.text for lines in found)
    return joined.split(text.end)[:-1]


@given(st.lists(st.text(LETTERS), min_size=1), st.sampled_from([".csv", ".tsv", ".json"]), st.integers(1, 50))
def test_filters_read_the_texts_of_tables_as_training_does(texts: list[str], suffix: str, size: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sources, "CHUNK_BYTES", size)
        assert as_filters_read(table(texts, suffix), FIELD) == [text for text in texts if text]


@pytest.mark.parametrize("data", [CSV, CSV.replace(",", "\t"), JSON], ids=["csv", "tsv", "json"])
def test_filters_leave_labels_aside_and_texts_in_their_form(data: str) -> None:
    assert as_filters_read(data.encode(), replace(LABELLED, lowercase=True)) == [
        "Ivanov", "Papa\ndopoulos", "Li",
    ]  # fmt: skip


def test_filters_cut_other_texts_and_take_lines_and_bad_bytes() -> None:
    assert as_filters_read(b"ab\n\ncd", FIELD) == ["ab", "cd"]
    lines = TextConfig(field="body", lines=True)
    assert as_filters_read(b"body,b\n\xff,\n,\nc,\n", lines) == ["\udcff", "", "c"]
    assert as_filters_read(b"ab\ncd", lines) == ["ab", "cd"]
    assert as_filters_read(b'{"body": "a\\ud800b"}', FIELD) == ["a\ufffdb"]
    nul = FIELD.of_commands(nul=True)
    (found,) = read_lines(["-"], nul, 99, lambda: None, stdin=io.BytesIO(b"body\0b,c\0"))
    assert found.text == f"body{END}b,c{END}"


@pytest.mark.parametrize(("head", "row"), [("", '{{"body": "{}"}}\n'), ("a,body\n", "1,{}\n")])
def test_a_row_of_a_table_is_handed_over_as_soon_as_it_is_there(head: str, row: str) -> None:
    out, into = os.pipe()
    with os.fdopen(out, "rb") as stdin, os.fdopen(into, "wb", buffering=0) as pipe:
        found = read_lines(["-"], FIELD, 1 << 16, lambda: None, stdin=stdin)
        pipe.write(head.encode())
        for text in ("ab", "c"):
            pipe.write(row.format(text).encode())
            assert next(found).text == text + END  # waits for ever unless it is there
