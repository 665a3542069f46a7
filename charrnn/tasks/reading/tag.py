"""Tagging: each character of a text has a label, and a network tells them all together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np

from charrnn.checkpoint.model_file import Checkpoint
from charrnn.config import Kind, ModelConfig, Targets, TextConfig, TrainConfig
from charrnn.labels import Column
from charrnn.nn.learning.learner import Learner
from charrnn.nn.parameters import Array
from charrnn.nn.reader import Batch, Reader
from charrnn.tasks.evaluation import Evaluation
from charrnn.tasks.reading.examples import Ragged, Rows, pieces, same_texts
from charrnn.tasks.reading.lines import whole
from charrnn.tasks.reading.pairs import PairFiles, Pairs, PairTexts, known_ids, read_pairs
from charrnn.tasks.reading.spans import Spans, compared
from charrnn.tasks.reading.task import (
    Reading,
    batches_in_order,
    columns_of,
    reader_of,
    window_of,
)
from charrnn.text.files.lines import Lines
from charrnn.text.files.normalization import normalised
from charrnn.vocabulary import Vocabulary

LONGEST = 512  # characters that are learned from together
READ, BESIDE = 2048, 128  # characters of a text that are tagged together, and others read on each side
SHOWN = 1 << 20  # characters of a line that are tagged


@dataclass(frozen=True)
class TaggedFiles(PairFiles):
    """Files of texts with their tags; see task.Assignment."""

    kind: ClassVar[Kind] = "tagger"

    def targets(self, text: TextConfig) -> Targets:
        return "tags"


@dataclass(frozen=True)
class TaggedTexts(PairTexts):
    """Texts with their tags."""

    kind: ClassVar[Kind] = "tagger"

    def task(self, model: ModelConfig, train: TrainConfig) -> Tag:
        vocabulary, column = self.corpus.vocabulary, self.corpus.columns[0]
        held = None if self.validation is None else tagged(self.validation, vocabulary, column)
        return Tag(tagged(self.corpus, vocabulary, column), held, train)

    def begun(self, initial: Checkpoint, fresh: dict[str, Array]) -> dict[str, Array]:
        tensors, name = super().begun(initial, fresh), "crf.transitions"
        if initial.config.kind == self.kind:
            tags, tensors[name] = self._tags(initial), fresh[name]
            tensors[name][np.ix_(tags, tags)] = initial.tensors[name]
        return tensors

    def known_rows(self, initial: Checkpoint) -> dict[str, Array]:
        own = ("decoder_weight", "decoder_bias", "crf_start_transitions", "crf_end_transitions")
        return dict.fromkeys(own, self._tags(initial))

    def _tags(self, initial: Checkpoint) -> Array:
        """Where the tags of another tagger stand among these."""
        return initial.columns[0].positions_in(self.corpus.columns[0])[:-1]


TaggedFiles.material = TaggedTexts


@dataclass(frozen=True, eq=False)
class Tagged:
    """Texts, or pieces of them, with their tags; see task.Examples."""

    texts: Ragged
    tags: Ragged  # of the same lengths; -1: unknown
    text: Rows  # (R,): a number that pieces of one text, and equal texts, share

    def batch(self, rows: Rows, B: int) -> Batch:
        columns = columns_of(rows, B)
        x, lengths = window_of(self.texts, columns)
        weights = (np.arange(B) < len(rows)).astype(np.float32)
        return Batch(x, lengths, self.tags.window(columns, len(x)), weights)

    def take(self, rows: Rows) -> Tagged:
        return Tagged(self.texts.take(rows), self.tags.take(rows), self.text[rows])

    def groups(self) -> Rows:
        return self.text


def tagged(pairs: Pairs, vocabulary: Vocabulary, column: Column) -> Tagged:
    """The texts and tags of some pairs in these vocabularies."""
    texts, tags = pairs.sources(vocabulary), pairs.targets_in(column)
    tags.values[tags.values == len(column.labels)] = -1  # see kernels.loops.chain
    found, rows = pieces(texts, LONGEST)
    return Tagged(found, pieces(tags, LONGEST)[0], same_texts(texts)[rows])


class Tag(Reading):
    """A network learns the tags of texts."""

    def evaluate(self, network: Learner[Reader], stop: Callable[[], object]) -> Evaluation | None:
        examples = self.measured
        assert isinstance(examples, Tagged)
        loss, right = 0.0, 0
        for rows, batch in batches_in_order(examples):
            n = len(rows)
            loss += float(network.model.losses(batch)[:n].sum(dtype=np.float64))
            best, _ = network.model.best(batch.x, batch.lengths)
            inside = np.arange(len(best))[:, None] < batch.lengths[:n]
            right += int(np.count_nonzero((best == batch.targets)[:, :n] & inside))
            if stop():
                return None
        total = self.measured_characters
        return Evaluation(loss / total, total, accuracy=right / total)


class LineTags(NamedTuple):
    """One line, without its end, and the tag of each of its characters."""

    text: str  # in the form of the model's texts, if that has another length
    tags: tuple[str, ...]
    probabilities: tuple[float, ...]  # of these tags; () if they were not asked for
    file: str
    number: int  # of the line in its file, from 1 on
    cut: bool = False  # the text is only the beginning of a long line


class Tagger:
    """A model that tags texts."""

    def __init__(self, checkpoint: Checkpoint, threads: int | None = None) -> None:
        self.checkpoint = checkpoint
        self.reader = reader_of(checkpoint, threads)

    def tags(self, texts: Sequence[str], *, probable: bool = False) -> list[tuple[Array, Array]]:
        """For each text the ids of its tags (n,), and, if asked for, their probabilities (n,)."""
        ids = [known_ids(self.checkpoint.vocabulary, text) for text in texts]
        return self.of_ids(Ragged.of(ids), probable=probable)

    def of_ids(self, texts: Ragged, *, probable: bool = False) -> list[tuple[Array, Array]]:
        """The same for ids of characters."""
        reader = self.reader
        parts, rows = pieces(texts, READ)
        begins = np.maximum(parts.begins - BESIDE, texts.begins[rows])
        ends = np.minimum(parts.ends + BESIDE, texts.ends[rows])
        read = Tagged(Ragged(texts.values, begins, ends), Ragged(texts.values, begins, ends), rows)
        tags, chances = np.zeros(len(texts.values), np.int32), np.zeros(len(texts.values), np.float32)
        for numbers, batch in batches_in_order(read):
            best, _ = reader.best(batch.x, batch.lengths)
            shares = reader.marginals(batch.x, batch.lengths) if probable else None
            for column, n in enumerate(numbers.tolist()):
                part, low = slice(parts.begins[n], parts.ends[n]), int(parts.begins[n] - begins[n])
                own = np.arange(low, low + int(parts.ends[n] - parts.begins[n]))
                tags[part] = best[own, column]
                if shares is not None:
                    chances[part] = shares[own, column, best[own, column]]
        found = (slice(a, b) for a, b in zip(texts.begins.tolist(), texts.ends.tolist(), strict=True))
        return [(tags[part], chances[part if probable else slice(0)]) for part in found]

    def lines(self, lines: Iterable[Lines], end: str, *, probable: bool = False) -> Iterator[list[LineTags]]:
        """The tags of each line, which ends in `end`, in the batches in which lines came."""
        labels, form = self.checkpoint.columns[0].labels, self.checkpoint.text.form
        for texts, file, number, cut in whole(lines, end, SHOWN):
            read = [normalised(text, form) for text in texts]
            found = self.tags(read, probable=probable)
            yield [
                LineTags(
                    text if len(text) == len(normal) else normal,
                    tuple(labels[n] for n in tags.tolist()), tuple(chances.tolist()), file, number + k, cut,
                )
                for k, (text, normal, (tags, chances)) in enumerate(zip(texts, read, found, strict=True))
            ]  # fmt: skip


@dataclass(frozen=True, slots=True)
class TagMeasures(Evaluation):
    """How good the tags of texts are; of `accuracy`, the share of characters whose tags are right."""

    texts: int
    right_texts: float  # the share of texts all of whose tags are right
    spans: Spans | None  # None: the tags mark none


def measure(
    checkpoint: Checkpoint,
    paths: Sequence[str | Path],
    text: TextConfig,
    threads: int | None = None,
) -> tuple[TagMeasures, tuple[str, ...]]:
    """A tagger's figures over pairs, and notes. A tag that it has never seen counts as wrong."""
    pairs = read_pairs(paths, text, "tags")
    tagger, column = Tagger(checkpoint, threads), checkpoint.columns[0]
    examples = tagged(pairs, checkpoint.vocabulary, column)
    losses = (
        tagger.reader.losses(batch)[: len(rows)].sum(dtype=np.float64)
        for rows, batch in batches_in_order(examples)
    )
    loss = float(sum(losses))
    texts, both = pairs.sources(checkpoint.vocabulary), column.merged(pairs.columns[0])
    tags = pairs.targets_in(both)
    expected = np.concatenate([tags.row(r) for r in range(len(tags))])
    found = column.positions_in(both)[np.concatenate([tags for tags, _ in tagger.of_ids(texts)])]
    begins, right = np.cumsum(texts.lengths) - texts.lengths, expected == found
    wrong = np.add.reduceat(~right, begins)
    measures = TagMeasures(
        loss / len(found), len(found), len(texts), float(np.mean(wrong == 0)),
        compared(expected, found, both.labels, begins), accuracy=float(np.mean(right)),
    )  # fmt: skip
    return measures, (*pairs.notes, *pairs.unknown(checkpoint.vocabulary, column))
