"""Classifying texts: records with labels, whose classes a network tells."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from charrnn.checkpoint.model_file import Checkpoint
from charrnn.config import Kind, ModelConfig, TextConfig, TrainConfig
from charrnn.errors import CorpusError
from charrnn.nn.learning.learner import Learner
from charrnn.nn.network import initial_tensors
from charrnn.nn.parameters import Array
from charrnn.nn.reader import Batch, Reader
from charrnn.nn.workers import Workers
from charrnn.tasks.evaluation import Evaluation
from charrnn.tasks.files import Files
from charrnn.tasks.reading.examples import Ragged, Rows, same_texts
from charrnn.tasks.reading.lines import whole
from charrnn.tasks.reading.task import (
    Reading,
    batches_in_order,
    columns_of,
    grown,
    learner,
    reader_of,
    window_of,
)
from charrnn.tasks.task import Material
from charrnn.text.corpus import Corpus, read
from charrnn.text.lines import Lines
from charrnn.text.normalization import normalised

LONGEST = 1024  # characters of a text that are read
SHOWN = 10_000  # characters of a line that are written again


@dataclass(frozen=True)
class LabelledFiles(Files):
    """Files of records with labels; see task.Assignment."""

    kind: ClassVar[Kind] = "classifier"

    def read(self, text: TextConfig) -> LabelledTexts:
        if text.label_by is None:
            text = replace(text, label_by="column", lines=text.lines or not text.records)
        corpus = read(self.paths, text)
        for column in corpus.columns:
            if len(column.labels) < 2:
                of = f" of {column.name}" if column.name else ""
                raise CorpusError(f"all texts have the same label{of}, {column.labels[0]}", "give several")
        validation = None
        if self.val:
            validation = read(
                self.val, corpus.text, vocabulary=corpus.vocabulary, on_unknown="skip", columns=corpus.columns
            )
        texts = LabelledTexts(corpus, validation, len(corpus.vocabulary) - bool(corpus.text.end))
        return texts.within(corpus.vocabulary, corpus.columns)


@dataclass(frozen=True)
class LabelledTexts(Material):
    """Texts with labels."""

    kind: ClassVar[Kind] = "classifier"

    def fingerprint(self) -> str:
        return f"classify {self.corpus.fingerprint()}"

    def network(self, settings: dict[str, Any]) -> ModelConfig:
        corpus = self.corpus
        targets = tuple(len(column.labels) for column in corpus.columns)
        vocab_size = len(corpus.vocabulary) - (corpus.text.split is not None)
        return ModelConfig(vocab_size, **settings, kind=self.kind, targets=targets)

    def begin(
        self, model: ModelConfig, train: TrainConfig, initial: Checkpoint | None, workers: Workers
    ) -> tuple[Classify, Learner[Reader]]:
        examples = classified(self.corpus)
        validation = None if self.validation is None else classified(self.validation)
        task = Classify(examples, validation, train)
        tensors = initial_tensors(model, train.seed)
        if initial is not None:
            characters = initial.vocabulary.positions_in(self.corpus.vocabulary)
            classes = initial.columns[0].positions_in(self.corpus.columns[0])[:-1]
            tensors = grown(
                initial, tensors,
                embedding_weight=characters, decoder_weight=classes, decoder_bias=classes,
            )  # fmt: skip
        return task, learner(model, train, tensors, task.columns, workers)


@dataclass(frozen=True, eq=False)
class Classified:
    """Texts with the probabilities of their classes; see task.Examples."""

    texts: Ragged
    targets: npt.NDArray[np.float32]  # (R, N)
    weights: npt.NDArray[np.float32]  # (R,)

    def batch(self, rows: Rows, B: int) -> Batch:
        columns = columns_of(rows, B)
        weights = self.weights[columns] * (np.arange(B) < len(rows))
        return Batch(*window_of(self.texts, columns), self.targets[columns], weights)

    def take(self, rows: Rows) -> Classified:
        return Classified(self.texts.take(rows), self.targets[rows], self.weights[rows])

    def groups(self) -> Rows:
        return np.arange(len(self.texts))


def classified(corpus: Corpus) -> Classified:
    """The texts of a corpus with labels, equal ones as one that has several classes."""
    labels = corpus.documents.labels
    assert labels is not None
    texts = _records(corpus)
    N = len(corpus.columns[0].labels)
    own = labels.ids[labels.parts(texts.begins), 0]
    known = np.flatnonzero((own < N) & (texts.lengths > 0))
    texts, own = texts.take(known), own[known]
    groups = same_texts(texts)
    _, first = np.unique(groups, return_index=True)
    counts = np.zeros((len(first), N), np.float32)
    np.add.at(counts, (groups, own), 1.0)
    weights = counts.sum(axis=1)
    return Classified(texts.take(first), counts / weights[:, None], weights)


def _records(corpus: Corpus) -> Ragged:
    """The records of a corpus without their ends, or its files; of long ones the beginning."""
    documents = corpus.documents
    begins = documents.records() if documents.end >= 0 else documents.starts
    ends = np.append(begins[1:], len(documents)) - (documents.end >= 0)
    return Ragged(documents.ids, begins, np.minimum(ends, begins + LONGEST))


class Classify(Reading):
    """A network learns the classes of texts."""

    def evaluate(self, network: Learner[Reader], stop: Callable[[], object]) -> Evaluation | None:
        examples = self.measured
        assert isinstance(examples, Classified)
        loss, right, total = 0.0, 0.0, 0.0
        for rows, batch in batches_in_order(examples):
            n = len(rows)
            logits = network.model.forward(batch.x, batch.lengths)[:n].astype(np.float64)
            weights, targets = examples.weights[rows], examples.targets[rows]
            loss += float(-(weights[:, None] * targets * log_softmax(logits)).sum())
            right += float((weights * targets[np.arange(n), logits.argmax(axis=1)]).sum())
            total += float(weights.sum())
            if stop():
                return None
        return Evaluation(loss / total, self.measured_characters, accuracy=right / total)


def log_softmax(logits: Array) -> Array:
    """The logarithms of probabilities (.., N)."""
    logits = logits - logits.max(axis=-1, keepdims=True)
    found: Array = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    return found


class LineClasses(NamedTuple):
    """One line, without its end, and the probability of each class, in the order of the labels."""

    text: str
    probabilities: tuple[float, ...]  # sums to 1; () for an empty line, which has no class
    file: str
    number: int  # of the line in its file, from 1 on
    cut: bool = False  # the text is only the beginning of a long line


class Classifier:
    """A model that tells the classes of texts."""

    def __init__(self, checkpoint: Checkpoint, threads: int | None = None) -> None:
        self.checkpoint = checkpoint
        self._reader = reader_of(checkpoint, threads)

    def probabilities(self, texts: Sequence[str]) -> npt.NDArray[np.float64]:
        """The probability of each class, (texts, N). Unknown characters are left out."""
        encode = self.checkpoint.vocabulary.encode
        ids = [encode(text[:LONGEST], "skip") for text in texts]
        ragged = Ragged.of(ids)
        N = self.checkpoint.config.targets[0]
        unknown = np.zeros((len(texts), N), np.float32)
        found = np.zeros((len(texts), N))
        examples = Classified(ragged, unknown, np.ones(len(texts), np.float32))
        for rows, batch in batches_in_order(examples):
            logits = self._reader.forward(batch.x, np.maximum(batch.lengths, 1))[: len(rows)]
            found[rows] = np.exp(log_softmax(logits.astype(np.float64)))
        return found

    def lines(self, lines: Iterable[Lines], end: str) -> Iterator[list[LineClasses]]:
        """The classes of each line, which ends in `end`, in the batches in which lines came."""
        for texts, file, number, cut in whole(lines, end, SHOWN):
            found = self.probabilities([normalised(text, self.checkpoint.text.form) for text in texts])
            yield [
                LineClasses(text, tuple(row) if text else (), file, number + n, cut)
                for n, (text, row) in enumerate(zip(texts, found.tolist(), strict=True))
            ]
