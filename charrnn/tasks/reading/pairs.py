"""Sources and their targets: what tagging and rewriting learn from."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from charrnn.config import COMMANDS, ModelConfig, Targets, TextConfig
from charrnn.labels import Column, Columns
from charrnn.nn.parameters import Array
from charrnn.tasks.files import Files
from charrnn.tasks.reading.examples import Ragged
from charrnn.tasks.reading.task import WholeTexts
from charrnn.text.corpus import Corpus
from charrnn.text.documents import Documents
from charrnn.text.reading import read
from charrnn.text.records.pairs import words
from charrnn.vocabulary import RARE, Vocabulary, code_points, positions


@dataclass(frozen=True, eq=False, slots=True)
class Pairs(Corpus):
    """A corpus of sources, each with a target, whose tokens are the labels of the only column."""

    targets: Ragged = field(kw_only=True)  # ids; one beyond the last label is unknown

    def fingerprint(self) -> str:
        ends = self.targets.ends.astype("<i8")
        values = self.targets.values.astype("<i4")
        return hashlib.sha256(Corpus.fingerprint(self).encode() + ends.data + values.data).hexdigest()

    def with_columns(self, columns: Columns) -> Self:
        found = Corpus.with_columns(self, columns)
        return replace(found, targets=self.targets_in(columns[0]))

    def sources(self, vocabulary: Vocabulary, *, ends: bool = False) -> Ragged:
        """The ids of the sources in a vocabulary; one beyond the last stands for what it lacks.

        With `ends`, that of its end is the last of each.
        """
        begins = self.documents.records()
        behind = np.append(begins[1:], len(self.documents)) - (not ends)
        table = known_ids(vocabulary, self.vocabulary.characters)
        return Ragged(table[self.documents.array], begins, behind)

    def targets_in(self, column: Column) -> Ragged:
        """The ids of the targets in another column; one beyond the last label stands for what it lacks."""
        return replace(self.targets, values=self.columns[0].positions_in(column)[self.targets.values])

    def unknown(self, vocabulary: Vocabulary, column: Column) -> tuple[str, ...]:
        """Notes about what a model with these has never seen."""
        unknown = len(vocabulary) if vocabulary.unknown < 0 else vocabulary.unknown
        counts = (
            ("character of sources", np.count_nonzero(self.sources(vocabulary).values == unknown)),
            ("token of targets", np.count_nonzero(self.targets_in(column).values == len(column.labels))),
        )
        return tuple(
            f"the model has never seen {n:,} {what.replace(' ', 's ' if n > 1 else ' ', 1)}"
            for what, n in counts
            if n
        )


def read_pairs(paths: Sequence[str | Path], text: TextConfig, targets: Targets) -> Pairs:
    """The pairs of a corpus, in vocabularies of their own. CorpusError: a line is no pair."""
    whole = read(paths, replace(text, targets=targets, min_count=1))
    ids, end = whole.documents.array, whole.documents.end
    ends, tabs = np.flatnonzero(ids == end), np.flatnonzero(ids == whole.vocabulary.find("\t"))
    begins = np.concatenate([np.zeros(1, np.int64), ends[:-1] + 1])
    first, second = Ragged(ids, begins, tabs), Ragged(ids, tabs + 1, ends)
    steps = np.zeros(len(ids) + 1, np.int8)  # at the borders of what is no source
    steps[begins if text.reverse else tabs] = 1
    steps[tabs + 1 if text.reverse else ends] = -1
    sources = ids[np.cumsum(steps[:-1], dtype=np.int8) == 0]
    column, found = _targets(first if text.reverse else second, whole)
    documents, vocabulary = _own(sources, whole, text.min_count)
    return Pairs(
        documents, vocabulary, replace(whole.text, min_count=text.min_count), whole.name, whole.notes,
        (column,), targets=found,
    )  # fmt: skip


def known_ids(vocabulary: Vocabulary, text: str) -> Array:
    """The id of each character; one beyond the last stands for those that the vocabulary lacks.

    To a network these are the zero vector, so that they keep their places.
    """
    found = positions(vocabulary.code_points, code_points(text)).astype(np.int32)
    found[found < 0] = len(vocabulary) if vocabulary.unknown < 0 else vocabulary.unknown
    return found


def _own(sources: Array, whole: Corpus, min_count: int) -> tuple[Documents, Vocabulary]:
    """The sources, each with its end, in a vocabulary of their own."""
    characters = whole.vocabulary.characters
    counts = np.bincount(sources, minlength=len(characters))
    end = characters[whole.documents.end]
    named = [RARE if n < min_count and c != end else c for c, n in zip(characters, counts, strict=True)]
    kept = "".join(sorted({c for c, n in zip(named, counts, strict=True) if n}))
    vocabulary = Vocabulary.of_text(kept, replace(whole.text, min_count=min_count))
    table = np.array([max(vocabulary.find(c), 0) for c in named]).astype(vocabulary.dtype)
    starts = np.zeros(1, np.int64)
    return Documents(table[sources], len(vocabulary), starts, vocabulary.find(end)), vocabulary


def _targets(targets: Ragged, whole: Corpus) -> tuple[Column, Ragged]:
    """The different tokens of targets, and their ids."""
    decode = whole.vocabulary.decode
    if whole.text.targets == "words":
        rows = [words(decode(targets.row(r))) for r in range(len(targets))]
        counts = Counter(word for row in rows for word in row)
        labels = sorted(counts)
        ids = {label: n for n, label in enumerate(labels)}
        found = Ragged.of([np.array([ids[word] for word in row], np.int32) for row in rows])
        return Column("", tuple(labels), tuple(counts[label] for label in labels)), found
    inside = np.zeros(len(targets.values) + 1, np.int8)
    inside[targets.begins] = 1
    inside[targets.ends] -= 1
    own = targets.values[np.cumsum(inside[:-1], dtype=np.int8) > 0]
    used = np.bincount(own, minlength=len(whole.vocabulary))
    table = np.cumsum(used > 0, dtype=np.int32) - 1
    ends = np.cumsum(targets.lengths)
    kept = tuple(whole.vocabulary.characters[n] for n in np.flatnonzero(used))
    column = Column("", kept, tuple(used[used > 0].tolist()))
    return column, Ragged(table[own], ends - targets.lengths, ends)


@dataclass(frozen=True)
class PairFiles(Files):
    """Files of pairs; see task.Assignment."""

    material: ClassVar[type[PairTexts]]

    def read(self, text: TextConfig) -> PairTexts:
        corpus = read_pairs(self.paths, text, self.targets(text))
        validation = read_pairs(self.val, corpus.text, self.targets(corpus.text)) if self.val else None
        return self.material(corpus, validation, len(corpus.vocabulary) - 1)

    def targets(self, text: TextConfig) -> Targets:
        """What the targets are."""
        return text.targets or "characters"


@dataclass(frozen=True)
class PairTexts(WholeTexts):
    """Pairs; those for validation keep vocabularies of their own, and may hold what is unknown."""

    corpus: Pairs
    validation: Pairs | None = None

    def fingerprint(self) -> str:
        return f"{COMMANDS[self.kind]} {self.corpus.fingerprint()}"

    def network(self, settings: dict[str, Any]) -> ModelConfig:
        corpus = self.corpus
        targets = (len(corpus.columns[0].labels),)
        return ModelConfig(len(corpus.vocabulary), **settings, kind=self.kind, targets=targets)

    def within(self, vocabulary: Vocabulary, columns: Columns = ()) -> PairTexts:
        return replace(self, corpus=self.corpus.with_vocabulary(vocabulary).with_columns(columns))
