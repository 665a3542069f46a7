"""Labels of texts, such as `Russian` or `1900`: their names and ids, by column."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
import numpy.typing as npt

from charrnn.errors import VocabularyError, quoted
from charrnn.system.spelling import close_names


@dataclass(frozen=True, slots=True)
class Column:
    """The different labels that texts have in one column; the position of a label is its id."""

    name: str  # "" if there is no other column
    labels: tuple[str, ...]  # distinct and sorted
    counts: tuple[int, ...]  # how many texts have each

    def id_of(self, label: str, where: str = "") -> int:
        """The id of a label; that of the empty one, which is unknown, is beyond the last.

        Raises:
            VocabularyError: there is no such label; `where` is its place.
        """
        if not label:
            return len(self.labels)
        if label in self.labels:
            return self.labels.index(label)
        what = f"label {quoted(label)}" + (f" of {self.name}" if self.name else "") + where
        near = close_names(label, self.labels)
        raise VocabularyError(
            f"the model has never seen the {what}",
            f"did you mean {' or '.join(map(shown, near))}?" if near else "charrnn info lists those it has",
        )

    def to_dict(self) -> dict[str, Any]:
        """The column as `from_dict` takes it."""
        return {"name": self.name, "labels": list(self.labels), "counts": list(self.counts)}

    @classmethod
    def from_dict(cls, values: Any) -> Column:
        """The column that `to_dict` wrote. ValueError: the values are invalid."""
        if not isinstance(values, dict) or values.keys() != {"name", "labels", "counts"}:
            raise ValueError("its labels are no table of name, labels and counts")
        name, labels, counts = values["name"], values["labels"], values["counts"]
        if not (isinstance(labels, list) and all(isinstance(label, str) and label for label in labels)):
            raise ValueError("its labels are no texts")
        if not (isinstance(name, str) and labels == sorted(set(labels))):
            raise ValueError("its labels are not distinct and sorted")
        numbers = isinstance(counts, list) and all(type(n) is int and 0 <= n < 2**63 for n in counts)
        if not numbers or len(counts) != len(labels):
            raise ValueError("its labels have no counts")
        return cls(name, tuple(labels), tuple(counts))

    def merged(self, other: Column) -> Column:
        """The labels of both, with the counts of this one."""
        counts = dict.fromkeys(other.labels, 0) | dict(zip(self.labels, self.counts, strict=True))
        labels = sorted(counts)
        return Column(self.name, tuple(labels), tuple(counts[label] for label in labels))

    def positions_in(self, other: Column) -> npt.NDArray[np.int32]:
        """For each id, and then that of unknown ones, the same label's id in `other`."""
        places = {label: n for n, label in enumerate(other.labels)}
        unknown = len(other.labels)
        return np.array([*(places.get(label, unknown) for label in self.labels), unknown], np.int32)


Columns = tuple[Column, ...]


def sizes_of(columns: Columns) -> tuple[int, ...]:
    """How many labels each column has."""
    return tuple(len(column.labels) for column in columns)


def parts(sizes: Sequence[int]) -> list[slice]:
    """Where the labels of each column, of which it has so many, stand among those of all."""
    return [slice(end - size, end) for size, end in zip(sizes, accumulate(sizes), strict=True)]


def places_among(columns: Columns, others: Columns) -> npt.NDArray[np.int64]:
    """Where the labels of columns, one after the other, stand among those of all others; -1: nowhere."""
    own = {
        other.name: (part.start, other) for part, other in zip(parts(sizes_of(others)), others, strict=True)
    }
    found = [np.zeros(0, np.int64)]
    for column in columns:
        places = np.full(len(column.labels), -1)
        if column.name in own:
            start, other = own[column.name]
            places = column.positions_in(other)[:-1].astype(np.int64)
            places = np.where(places < len(other.labels), start + places, -1)
        found.append(places)
    return np.concatenate(found)


def places_of(ids: npt.NDArray[Any], sizes: Sequence[int]) -> npt.NDArray[np.int32]:
    """Where labels stand among those of all columns, by their ids (.., columns); -1: they are unknown."""
    own, first = np.array(sizes, np.int32), np.array([part.start for part in parts(sizes)], np.int32)
    return np.where(ids < own, ids + first, np.int32(-1)).astype(np.int32)


def from_record(values: Any) -> Columns:
    """The columns in a model file. ValueError: they are invalid."""
    if not isinstance(values, list):
        raise ValueError("its labels are no list of columns")
    columns = tuple(map(Column.from_dict, values))
    if len(set(names(columns))) < len(columns):
        raise ValueError("two columns of its labels have the same name")
    return columns


def merged(columns: Columns, others: Columns) -> Columns:
    """The labels of both, with the counts of the first, whose columns come first."""
    found = {column.name: column for column in columns}
    for column in others:
        found[column.name] = found[column.name].merged(column) if column.name in found else column
    return tuple(found.values())


def names(columns: Columns) -> tuple[str, ...]:
    """The names of the columns."""
    return tuple(column.name for column in columns)


def shown(label: str) -> str:
    """A label in messages: as it is if it is printable, else quoted."""
    return label if label.isprintable() and label.strip() == label else repr(label)


def ids_of(columns: Columns, given: Mapping[str, str]) -> tuple[int, ...]:
    """The ids of labels that are given by the names of their columns; others are unknown.

    Raises:
        VocabularyError: there is no such column, or no such label.
    """
    if not columns:
        raise VocabularyError("the model has no labels", "train one with --labels")
    for name in given:
        if name not in names(columns):
            has = (
                ", ".join(map(shown, names(columns))) if columns[0].name else "a single column without a name"
            )
            raise VocabularyError(f"the model has no labels named {quoted(name)}", f"it has {has}")
    return tuple(column.id_of(given.get(column.name, "")) for column in columns)


def cut(text: str, columns: int) -> tuple[str, str]:
    """`Russian<TAB>Iv` -> the labels, with tabs between them, and the text; with fewer tabs, no labels."""
    parts = text.split("\t", columns)
    return ("\t".join(parts[:columns]), parts[columns]) if len(parts) > columns else ("", text)
