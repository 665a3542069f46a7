"""Tables -> the texts in one of their fields: JSON lines, and CSV and TSV with a header."""

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
from charrnn.text.normalization import normalised

KINDS = {".csv": "csv", ".tsv": "tsv", ".tab": "tsv", ".jsonl": "json", ".ndjson": "json", ".json": "json"}
LONGEST = 2**31 - 1  # characters of a CSV field: the most that the reader can be told on every platform
AT_ONCE = 1 << 16  # characters of texts that are handed over together
MOST_NAMED = 20  # fields

_Row = tuple[int, Any]  # a row's line in its file, and its value in the field


def opened(pieces: Iterator[str], name: str, text: TextConfig, *, must: bool) -> tuple[Iterator[str], bool]:
    """The texts in the field `text.field` of a file that comes in pieces, and whether it is a table.

    The texts come in pieces, too, each text with `text.end`. `name` is the file's. Without `must`, one that
    has neither an ending of tables nor the field in its first line is no table: it comes as it is.

    Raises:
        CorpusError: a row is no such row, or lacks the field; it names the line.
    """
    field = text.field
    assert field is not None
    beginning = next(pieces, "")
    head, pieces = beginning.partition("\n")[0], chain([beginning], pieces)
    kind = KINDS.get(PurePath(name.lower().removesuffix(".gz")).suffix, "")
    if not kind:
        kind = "json" if head.lstrip().startswith("{") else "tsv" if "\t" in head else "csv"
        if not must and not _begins(head, kind, field):
            return pieces, False
    return _texts(_READERS[kind](_lines(pieces), name, field), name, text), True


def _texts(rows: Iterator[_Row], name: str, text: TextConfig) -> Iterator[str]:
    parts: list[str] = []
    length = 0
    for line, value in rows:
        parts.append(_cleaned(value, text, f"line {line:,} of {name}") + text.end)
        length += len(parts[-1])
        if length > AT_ONCE:
            yield "".join(parts)
            parts, length = [], 0
    yield "".join(parts)


def _begins(head: str, kind: str, field: str) -> bool:
    """Whether a table with the field begins with this line."""
    try:
        next(_READERS[kind](iter([head]), "", field), None)
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


def _json(lines: Iterator[str], name: str, field: str) -> Iterator[_Row]:
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
        if field not in row:
            raise _no_field(where, field, list(row))
        yield number, row[field]


def _separated(dialect: str, lines: Iterator[str], name: str, field: str) -> Iterator[_Row]:
    csv.field_size_limit(LONGEST)
    reader = csv.reader(lines, dialect, strict=True)
    names: list[str] = []
    column, began = 0, 1
    while True:
        where = f"line {began:,} of {name}"
        try:
            row = next(reader, None)
        except csv.Error as error:
            raise CorpusError(f"{where} begins no row ({error})", "mend its quotes") from error
        if row is None:
            return
        if row and not names:
            names = row
            if field not in names:
                raise _no_field(where, field, names)
            column = names.index(field)
        elif row:
            if len(row) != len(names):
                raise CorpusError(
                    f"{where} has {len(row)} fields, and the header {len(names)}", "mend that row"
                )
            yield began, row[column]
        began = reader.line_num + 1


_READERS: dict[str, Callable[[Iterator[str], str, str], Iterator[_Row]]] = {
    "json": _json, "csv": partial(_separated, "excel"), "tsv": partial(_separated, "excel-tab"),
}  # fmt: skip


def _no_field(where: str, field: str, names: Sequence[str]) -> CorpusError:
    there = ", ".join(quoted(name) for name in names[:MOST_NAMED])
    return CorpusError(f"{where} has no field {quoted(field)}", f"its fields are {there}")


_SURROGATES = re.compile("[\ud800-\udfff]")


def _cleaned(value: Any, text: TextConfig, where: str) -> str:
    """A text as a record: JSON can hold what a decoder or a Cleaner would have changed in a file."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise CorpusError(
            f"the field {quoted(text.field)} in {where} is no text: {quoted(value)}", "name another"
        )
    if not text.keep_newlines and "\r" in value:
        value = value.replace("\r\n", "\n").replace("\r", "\n")
    if not value.isascii():
        if text.encoding_errors == "strict" and _SURROGATES.search(value):
            raise CorpusError(
                f"{where} holds half of a surrogate pair", "--encoding-errors skip leaves it out"
            )
        value = _SURROGATES.sub("" if text.encoding_errors == "skip" else "\ufffd", value)
        value = value.replace(END, "\ufffd")
    if text.lines and "\n" in value:
        raise CorpusError(f"{where} holds a text of several lines", "leave out --lines")
    return normalised(value, text.form)
