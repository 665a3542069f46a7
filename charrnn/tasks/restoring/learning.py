"""Learning to restore: a text without what it shall learn to put back, cut into pieces."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from charrnn.config import STRIPS, Kind, ModelConfig, TextConfig, TrainConfig
from charrnn.errors import ConfigError, CorpusError
from charrnn.labels import Column
from charrnn.nn.reader import Batch
from charrnn.tasks.files import OF_WRITERS, Files
from charrnn.tasks.reading.examples import Ragged, Rows, same_texts
from charrnn.tasks.reading.task import TellingCharacters, WholeTexts, columns_of, window_of
from charrnn.tasks.restoring.stripping import (
    MOST_IN_A_GAP,
    MOST_MARKS,
    NOTHING,
    Operation,
    Places,
    Points,
    Stripping,
    lowered,
)
from charrnn.text.corpus import Corpus
from charrnn.text.documents import Documents
from charrnn.text.reading import read
from charrnn.text.records.labels import Labelling
from charrnn.vocabulary import END, Vocabulary, id_dtype, positions, text_of

Labels = npt.NDArray[np.int32]

CHUNK = 1 << 20  # characters that are stripped at a time
NEWLINE = ord("\n")
# An operation is learned that occurs so often, and among this many characters.
LEAST, AMONG, MOST = 2, 1_000_000, 1024
BLOCK = 16  # pieces of a running text that are held out together
_MISSING = {  # what a text is that has nothing to restore, or nothing else
    "diacritics": "has no letter with a diacritic",
    "case": "has no letters in both cases",
    "spaces": "has no spaces",
    "punctuation": "has no punctuation",
}


@dataclass(frozen=True)
class RestoredFiles(Files):
    """Files of plain text; see task.Assignment."""

    kind: ClassVar[Kind] = "restorer"
    unused: ClassVar[frozenset[str]] = OF_WRITERS - {"seq_len"}  # of pieces, here

    def read(self, text: TextConfig) -> StrippedTexts:
        if not text.strip:
            raise ConfigError(
                "nothing says what to restore", f"give --strip with some of {', '.join(STRIPS)}"
            )
        corpus = stripped(read(self.paths, text))
        validation = None
        if self.val:
            validation = stripped(read(self.val, corpus.text), corpus.columns[0], corpus.vocabulary)
        return StrippedTexts(corpus, validation, corpus.vocab_size)


def stripped(corpus: Corpus, column: Column | None = None, vocabulary: Vocabulary | None = None) -> Corpus:
    """The sources of a corpus, and as labels the operations that make it of them.

    Before each line there is a line end. The operations and characters are those of a model, or the frequent
    ones of this corpus.

    Raises:
        CorpusError: there is nothing to restore.
    """
    stripping = Stripping(corpus.text.strip)
    sources, labels, starts, names = _in_chunks(corpus, stripping)
    counts = np.bincount(labels, minlength=len(names))
    if column is None or vocabulary is None:
        _require_both(stripping, sources, [Operation.of(name) for name in names], counts)
        column = _column(names, counts, len(labels))
        points = np.unique(np.append(sources, [NEWLINE, *(ord(END),) * (corpus.text.split is not None)]))
        vocabulary = Vocabulary(text_of(points.astype(np.uint32)), corpus.vocabulary.rare)
    known = {label: n for n, label in enumerate(column.labels)}
    table = np.array([known.get(name, len(known)) for name in names], np.int32)
    labels = table[labels]
    changes = np.flatnonzero(np.diff(labels, prepend=-1))
    ids = positions(vocabulary.code_points, sources)
    unknown = vocabulary.unknown if vocabulary.rare else len(vocabulary)
    ids[ids < 0] = unknown
    newline = vocabulary.find("\n")
    documents = Documents(
        ids.astype(id_dtype(len(vocabulary) + 1)), len(vocabulary), starts,
        newline if corpus.text.lines else -1,
        labels=Labelling(changes, labels[changes][:, None]),
    )  # fmt: skip
    return replace(corpus, documents=documents, vocabulary=vocabulary, columns=(column,), parts=(0,))


def _in_chunks(corpus: Corpus, stripping: Stripping) -> tuple[Points, Labels, Places, list[str]]:
    """The sources, the number of each one's operation, where texts start, and the operations' names.

    Texts are files or records; each begins with a line end.
    """
    names: dict[str, int] = {}
    sources, labels, starts, done = [], [], [], 0
    for text, is_start in _lines(corpus):
        clusters = stripping.clusters(text)
        sources.append(clusters.sources)
        labels.append(cluster_operations(text, clusters.begins, stripping, names))
        starts.append(done + np.searchsorted(clusters.begins, np.flatnonzero(is_start)))
        done += len(clusters.begins)
    return np.concatenate(sources), np.concatenate(labels), np.concatenate(starts), list(names)


def _lines(corpus: Corpus) -> Iterator[tuple[Points, npt.NDArray[np.bool_]]]:
    """The code points of all lines in pieces, each with the line end before it; and where texts start."""
    documents, records = corpus.documents, corpus.text.records
    stop = ord(corpus.text.end) if records else NEWLINE
    ends = np.append(documents.starts[1:], len(documents))
    for start, end in zip(documents.starts.tolist(), ends.tolist(), strict=True):
        parts, fresh = [np.zeros(0, np.uint32)], True
        for low in range(start, end, CHUNK):
            points = corpus.vocabulary.code_points[documents.ids[low : min(low + CHUNK, end)]]
            breaks = np.flatnonzero(points == stop)
            last = low + CHUNK >= end
            cut = len(points) if last else int(breaks[-1]) + 1 if len(breaks) else 0
            if cut:
                whole = np.concatenate([np.array([NEWLINE], np.uint32), *parts, points[:cut]])
                whole = whole[:-1] if whole[-1] == stop else whole
                starts = (whole == stop) & records
                starts[0] = records or fresh
                yield np.where(starts, np.uint32(NEWLINE), whole), starts
                parts, fresh = [], False
            parts.append(points[cut:])


def cluster_operations(text: Points, begins: Places, stripping: Stripping, names: dict[str, int]) -> Labels:
    """The numbers of the operations of clusters, by `names`, to which new ones are added."""
    found = np.empty(len(begins), np.int32)

    def number(cluster: str) -> int:
        operation = stripping.taken(cluster)
        return -1 if operation is None else names.setdefault(operation.label, len(names))

    single = np.diff(begins, append=len(text)) == 1
    distinct, which = np.unique(text[begins[single]], return_inverse=True)
    found[single] = np.array([number(chr(point)) for point in distinct.tolist()], np.int32)[which]
    numbers: dict[str, int] = {}
    ends = np.append(begins[1:], len(text))
    for n in np.flatnonzero(~single):
        cluster = text_of(text[begins[n] : min(ends[n], begins[n] + MOST_IN_A_GAP + MOST_MARKS + 2)])
        if cluster not in numbers:
            numbers[cluster] = number(cluster)
        found[n] = numbers[cluster]
    odd = names.setdefault("", len(names)) if (found < 0).any() else 0
    return np.where(found < 0, np.int32(odd), found)


def _column(names: list[str], counts: Places, total: int) -> Column:
    """The operations that occur often enough."""
    least = max(LEAST, total // AMONG)
    operations = sorted(zip(names, counts.tolist(), strict=True), key=lambda pair: (-pair[1], pair[0]))
    kept = {name: count for name, count in operations[:MOST] if name and count >= least and _short(name)}
    kept.setdefault(NOTHING, 0)
    return Column("", tuple(sorted(kept)), tuple(kept[name] for name in sorted(kept)))


def _short(name: str) -> bool:
    operation = Operation.of(name)
    return len(operation.marks) <= MOST_MARKS and len(operation.gap) <= MOST_IN_A_GAP


def _require_both(stripping: Stripping, sources: Points, operations: list[Operation], counts: Places) -> None:
    """CorpusError: of a kind that is stripped there is nothing in the text, or of letters only capitals."""
    distinct, times = np.unique(sources, return_counts=True)
    both = [
        lowered(chr(point).upper()[:1]) == chr(point) != chr(point).upper() for point in distinct.tolist()
    ]
    cased = int(times[both].sum())
    upper = sum(n for o, n in zip(operations, counts.tolist(), strict=True) if o.upper)
    gaps = [operation.gap for operation in operations]
    there = {
        "diacritics": any(operation.marks for operation in operations),
        "case": 0 < upper < cased,
        "spaces": any(stripping.has("spaces", gap) for gap in gaps),
        "punctuation": any(stripping.has("punctuation", gap) for gap in gaps),
    }
    for kind in stripping.kinds:
        if not there[kind]:
            raise CorpusError(
                f"the text {_MISSING[kind]}, so it does not teach where to put them back",
                "give another text, or leave that out of --strip",
            )


@dataclass(frozen=True)
class StrippedTexts(WholeTexts):
    """Texts without what shall be restored, and with labels that say what that is."""

    kind: ClassVar[Kind] = "restorer"

    @property
    def texts(self) -> int:
        """Their lines."""
        newline = self.corpus.vocabulary.find("\n")
        return int(np.count_nonzero(self.corpus.documents.ids == newline))

    def fingerprint(self) -> str:
        return f"restore {self.corpus.fingerprint()}"

    def network(self, settings: dict[str, Any]) -> ModelConfig:
        corpus = self.corpus
        return ModelConfig(
            corpus.vocab_size, **settings, kind=self.kind, targets=(len(corpus.columns[0].labels),)
        )

    def task(self, model: ModelConfig, train: TrainConfig) -> Restore:
        validation = None if self.validation is None else Pieces.of(self.validation, train.seq_len)
        return Restore(Pieces.of(self.corpus, train.seq_len), validation, train)


@dataclass(frozen=True, eq=False)
class Pieces:
    """Pieces of texts with the label of each character; see task.Examples."""

    texts: Ragged
    labels: npt.NDArray[np.int32]  # (N,), of the array of characters; `unknown` where there is none
    unknown: int
    blocks: Rows  # (R,), which are held out together

    @classmethod
    def of(cls, corpus: Corpus, size: int) -> Pieces:
        """The texts of a corpus in pieces of at most `size` characters, cut at line ends if there are any."""
        documents = corpus.documents
        labelling, N = documents.labels, len(documents.ids)
        assert labelling is not None
        labels = np.repeat(labelling.ids[:, 0], np.diff(labelling.starts, append=N))
        starts = documents.starts
        breaks = np.flatnonzero(documents.array == corpus.vocabulary.find("\n"))
        begins = cuts(starts, breaks, N, size)
        texts = Ragged(documents.array, begins, np.append(begins[1:], N))
        if corpus.text.records:
            records = same_texts(Ragged(documents.array, starts, np.append(starts[1:], N)))
            blocks = records[np.searchsorted(starts, begins, side="right") - 1]
        else:
            blocks = np.arange(len(begins)) // BLOCK
        return cls(texts, labels, len(corpus.columns[0].labels), blocks)

    def batch(self, rows: Rows, B: int) -> Batch:
        columns = columns_of(rows, B)
        x, lengths = window_of(self.texts, columns)
        places = np.minimum(self.texts.begins[columns] + np.arange(len(x))[:, None], len(self.labels) - 1)
        targets = self.labels[places]
        weights = (targets < self.unknown) & (np.arange(len(x))[:, None] < lengths)
        weights &= np.arange(B) < len(rows)
        return Batch(x, lengths, np.where(weights, targets, 0), weights.astype(np.float32))

    def take(self, rows: Rows) -> Pieces:
        return replace(self, texts=self.texts.take(rows), blocks=self.blocks[rows])

    def groups(self) -> Rows:
        return self.blocks


def cuts(starts: Places, breaks: Places, N: int, size: int) -> Places:
    """Where pieces of at most `size` begin: at all `starts`, else at `breaks`, and in long lines anywhere.

    All are sorted places of N characters. Pieces of a long line are about equal.
    """
    found = []
    for low, end in zip(starts.tolist(), np.append(starts[1:], N).tolist(), strict=True):
        while end - low > size:
            found.append(low)
            n = int(np.searchsorted(breaks, low + size, side="right"))
            if n and breaks[n - 1] > low:
                low = int(breaks[n - 1])
            else:
                stop = int(breaks[n]) if n < len(breaks) and breaks[n] < end else end
                low += -(-(stop - low) // -(-(stop - low) // size))
        found.append(low)
    return np.array(found, np.int64)


class Restore(TellingCharacters):
    """A network learns what to put back at each character."""
