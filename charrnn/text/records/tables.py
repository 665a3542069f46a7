"""Tables -> the texts in one of their fields: JSON lines, and CSV and TSV with a header.

Fields with labels come before each text, as in lines of labels: label<TAB>text.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import chain
from pathlib import PurePath
from typing import Any

from charrnn.config import END, TextConfig
from charrnn.errors import CorpusError, quoted
from charrnn.text.files.decoding import OTHER_SURROGATES
from charrnn.text.files.normalization import normalised

KINDS = {".csv": "csv", ".tsv": "tsv", ".tab": "tsv", ".jsonl": "json", ".ndjson": "json", ".json": "json"}
LONGEST = 2**31 - 1  # characters of a CSV field: the most that the reader can be told on every platform
AT_ONCE = 1 << 16  # characters of texts that are handed over together
LONGEST_HEAD = 1 << 20  # characters of a first line that are waited for, to see whether it begins a table
MOST_NAMED = 20  # fields

_Fields = tuple[str, ...]  # the names of the texts' field, and of those of labels
_Row = tuple[int, list[Any]]  # a row's line in its file, and its values in these fields


def opened(
    pieces: Iterator[str], name: str, text: TextConfig, *, must: bool, as_they_come: bool = False
) -> tuple[Iterator[str], bool]:
    """The texts in the field `text.field` of a file that comes in pieces, and whether it is a table.

    The texts come in pieces, too, each text with `text.end`, and after its labels from `text.label_fields`.
    `name` is the file's. Without `must`, one that has neither an ending of tables nor the field in its first
    line is no table: it comes as it is. For filters, texts are handed over `as_they_come`: each as soon as
    its row is there, in the form in which it stands, with bytes that are invalid in the encoding.

    Raises:
        CorpusError: a row is no such row, or lacks the field; it names the line.
    """
    assert text.field is not None
    names = (text.field, *text.label_fields)
    beginning = next(pieces, "")
    while "\n" not in beginning and len(beginning) < LONGEST_HEAD and (piece := next(pieces, "")):
        beginning += piece
    head, pieces = beginning.partition("\n")[0], chain([beginning], pieces)
    kind = KINDS.get(PurePath(name.lower().removesuffix(".gz")).suffix, "")
    if not kind:
        kind = "json" if head.lstrip().startswith("{") else "tsv" if "\t" in head else "csv"
        if not must and not _begins(head, kind, names):
            return pieces, False
    rows = _READERS[kind](_lines(pieces), name, names)
    return _texts(rows, name, text, as_they_come=as_they_come), True


def _texts(rows: Iterator[_Row], name: str, text: TextConfig, *, as_they_come: bool) -> Iterator[str]:
    parts: list[str] = []
    length = 0
    for line, (value, *labels) in rows:
        where = f"line {line:,} of {name}"
        before = "".join(_label(*label, where) for label in zip(text.label_fields, labels, strict=True))
        own = _text(value, text, where)
        own = OTHER_SURROGATES.sub("\ufffd", own) if as_they_come else _cleaned(own, text, where)
        parts.append(before + own + text.end)
        length += len(parts[-1])
        if as_they_come or length > AT_ONCE:
            yield "".join(parts)
            parts, length = [], 0
    yield "".join(parts)


def _begins(head: str, kind: str, names: _Fields) -> bool:
    """Whether a table with these fields begins with this line."""
    try:
        next(_READERS[kind](iter([head]), "", names), None)
    except CorpusError:
        return False
    return True


def _lines(pieces: Iterator[str]) -> Iterator[str]:
    """Lines with their "\\n"."""
    rest = ""
    for piece in pieces:
        *whole, rest = (rest + piece).split("\n")
        yield from (line + "\n" for line in whole)
    if rest:
        yield rest


def _json(lines: Iterator[str], name: str, names: _Fields) -> Iterator[_Row]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"line {number:,} of {name}"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise CorpusError(f"{where} is no JSON ({error})", "give one object on each line") from error
        if not isinstance(row, dict):
            raise CorpusError(f"{where} is no JSON object", "give one object on each line: jq -c '.[]'")
        if names[0] not in row:
            raise _no_field(where, names[0], list(row))
        yield number, [row.get(field) for field in names]  # a label that is not there is unknown


def _separated(dialect: str, lines: Iterator[str], name: str, names: _Fields) -> Iterator[_Row]:
    csv.field_size_limit(LONGEST)
    reader = csv.reader(lines, dialect, strict=True)
    header: list[str] = []
    columns: list[int] = []
    began = 1
    while True:
        where = f"line {began:,} of {name}"
        try:
            row = next(reader, None)
        except csv.Error as error:
            raise CorpusError(f"{where} begins no row ({error})", "mend its quotes") from error
        if row is None:
            return
        if row and not header:
            header = row
            for field in names:
                if field not in header:
                    raise _no_field(where, field, header)
            columns = [header.index(field) for field in names]
        elif row:
            if len(row) != len(header):
                raise CorpusError(
                    f"{where} has {len(row)} fields, and the header {len(header)}", "mend that row"
                )
            yield began, [row[column] for column in columns]
        began = reader.line_num + 1


_READERS: dict[str, Callable[[Iterator[str], str, _Fields], Iterator[_Row]]] = {
    "json": _json, "csv": partial(_separated, "excel"), "tsv": partial(_separated, "excel-tab"),
}  # fmt: skip


def _no_field(where: str, field: str, names: Sequence[str]) -> CorpusError:
    there = ", ".join(quoted(name) for name in names[:MOST_NAMED])
    return CorpusError(f"{where} has no field {quoted(field)}", f"its fields are {there}")


_SURROGATES = re.compile("[\ud800-\udfff]")


def _label(field: str, value: Any, where: str) -> str:
    """The beginning of a record that says its label: a tab after it. One that is not there is empty."""
    if value is None:
        return "\t"
    if isinstance(value, (dict, list)):
        raise CorpusError(
            f"the field {quoted(field)} in {where} is no label: {quoted(value)}", "name another"
        )
    label = value if isinstance(value, str) else json.dumps(value)
    if any(mark in label for mark in "\t\n\r" + END):
        raise CorpusError(
            f"the label {quoted(label)} in {where} holds a tab or a line end", "give labels without them"
        )
    return _SURROGATES.sub("\ufffd", label) + "\t"


def _text(value: Any, text: TextConfig, where: str) -> str:
    """The text in a field; null is an empty one."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise CorpusError(
            f"the field {quoted(text.field)} in {where} is no text: {quoted(value)}", "name another"
        )
    if not text.keep_newlines and "\r" in value:
        value = value.replace("\r\n", "\n").replace("\r", "\n")
    if text.lines and "\n" in value:
        raise CorpusError(f"{where} holds a text of several lines", "leave out --lines")
    return str(value).replace(END, "\ufffd")


def _cleaned(value: str, text: TextConfig, where: str) -> str:
    """A text in the form of the configuration. JSON can hold what a decoder would have refused in a file."""
    if not value.isascii():
        if text.encoding_errors == "strict" and _SURROGATES.search(value):
            raise CorpusError(
                f"{where} holds half of a surrogate pair", "--encoding-errors skip leaves it out"
            )
        value = _SURROGATES.sub("" if text.encoding_errors == "skip" else "\ufffd", value)
    return normalised(value, text.form)
