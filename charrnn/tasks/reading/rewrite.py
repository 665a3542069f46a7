"""Rewriting: a network reads a source, and writes its target while it attends to it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np

from charrnn.checkpoint.model_file import Checkpoint
from charrnn.config import Kind, ModelConfig, TrainConfig
from charrnn.labels import Column
from charrnn.nn.learning.learner import Learner
from charrnn.nn.network import initial_tensors
from charrnn.nn.reader import Batch, Reader
from charrnn.nn.workers import Workers
from charrnn.tasks.evaluation import Evaluation
from charrnn.tasks.reading.beam import Target, Wanted, search
from charrnn.tasks.reading.examples import Array, Ragged, Rows, in_order, same_texts, window_length
from charrnn.tasks.reading.lines import whole
from charrnn.tasks.reading.pairs import PairFiles, Pairs, PairTexts
from charrnn.tasks.reading.task import (
    Reading,
    batches_in_order,
    columns_of,
    grown,
    learner,
    reader_of,
    window_of,
)
from charrnn.text.lines import Lines
from charrnn.text.normalization import normalised
from charrnn.vocabulary import Vocabulary, code_points, positions

LONGEST = 1000  # characters of a source that are read, and of a target that is learned
WRITTEN_TOGETHER = 4096  # characters of sources, times beginnings of targets, at a time
JUDGED = 1000  # sources that are rewritten in an evaluation


@dataclass(frozen=True)
class RewrittenFiles(PairFiles):
    """Files of sources and targets; see task.Assignment."""

    kind: ClassVar[Kind] = "rewriter"


@dataclass(frozen=True)
class RewrittenTexts(PairTexts):
    """Sources and targets."""

    kind: ClassVar[Kind] = "rewriter"

    def begin(
        self, model: ModelConfig, train: TrainConfig, initial: Checkpoint | None, workers: Workers
    ) -> tuple[Rewrite, Learner[Reader]]:
        corpus = self.corpus
        vocabulary, column = corpus.vocabulary, corpus.columns[0]
        held = None if self.validation is None else rewritten(self.validation, vocabulary, column)
        task = Rewrite(rewritten(corpus, vocabulary, column), held, train)
        tensors = initial_tensors(model, train.seed)
        if initial is not None:
            characters = initial.vocabulary.positions_in(vocabulary)
            targets = initial.columns[0].positions_in(column)  # what is unknown there is the end here
            tensors = grown(
                initial, tensors, embedding_weight=characters, target_embedding_weight=targets[:-1],
                decoder_weight=targets, decoder_bias=targets,
            )  # fmt: skip
        return task, learner(model, train, tensors, task.columns, workers)


RewrittenFiles.material = RewrittenTexts


@dataclass(frozen=True, eq=False)
class Rewritten:
    """Sources and their targets; see task.Examples."""

    texts: Ragged
    targets: Ragged
    V: int  # different tokens of targets, and the id of their end; V + 1: unknown

    def batch(self, rows: Rows, B: int) -> Batch:
        columns = columns_of(rows, B)
        x, lengths = window_of(self.texts, columns)
        ends = self.targets.lengths[columns]
        T = window_length(int(ends.max()) + 1)
        targets = self.targets.window(columns, T, fill=self.V)
        previous = np.concatenate([np.full((1, B), self.V + 1, np.int32), targets[:-1]])
        inside = (np.arange(T)[:, None] <= ends) & (np.arange(B) < len(rows)) & (targets <= self.V)
        return Batch(x, lengths, np.minimum(targets, self.V), inside.astype(np.float32), previous)

    def take(self, rows: Rows) -> Rewritten:
        return Rewritten(self.texts.take(rows), self.targets.take(rows), self.V)

    def groups(self) -> Rows:
        return same_texts(self.texts)


def rewritten(pairs: Pairs, vocabulary: Vocabulary, column: Column) -> Rewritten:
    """Some pairs in these vocabularies, but for those that are too long."""
    sources, targets = pairs.sources(vocabulary), pairs.targets_in(column)
    V = len(column.labels)
    targets.values[targets.values == V] = V + 1
    fits = np.flatnonzero((sources.lengths <= LONGEST) & (targets.lengths <= LONGEST))
    return Rewritten(sources.take(fits), targets.take(fits), V)


class Rewrite(Reading):
    """A network learns to rewrite texts."""

    def evaluate(self, network: Learner[Reader], stop: Callable[[], object]) -> Evaluation | None:
        examples = self.measured
        assert isinstance(examples, Rewritten)
        loss, total = 0.0, 0.0
        for _, batch in batches_in_order(examples):
            loss += float((network.model.losses(batch) * batch.weights).sum(dtype=np.float64))
            total += float(batch.weights.sum(dtype=np.float64))
            if stop():
                return None
        groups = examples.groups()
        _, first = np.unique(groups, return_index=True)
        first = np.sort(first)[:JUDGED]
        references = _references(examples, groups)
        found = rewritings(network.model, examples.texts.take(first), Wanted(beam=1))
        right = sum(best.ids.tobytes() in references[groups[r]] for r, (best,) in zip(first, found, strict=True))
        return Evaluation(loss / total, self.measured_characters, accuracy=right / len(first))


def _references(examples: Rewritten, groups: Rows) -> dict[int, list[bytes]]:
    """The targets of each source."""
    found: dict[int, list[bytes]] = {}
    for r, group in enumerate(groups.tolist()):
        found.setdefault(group, []).append(examples.targets.row(r).astype(np.int32).tobytes())
    return found


def rewritings(
    reader: Reader, texts: Ragged, wanted: Wanted, most: int | None = None
) -> list[list[Target]]:
    """The most probable targets of each text, each of at most `most` characters."""
    found: list[list[Target]] = [[] for _ in range(len(texts))]
    for rows in in_order(texts.lengths, max(1, WRITTEN_TOGETHER // wanted.beam)):
        B = window_length(len(rows))
        x, lengths = window_of(texts, columns_of(rows, B))
        limits = np.full(len(rows), most) if most else 2 * lengths[: len(rows)] + 20
        targets = search(reader, x, lengths, limits, wanted)
        for row, own in zip(rows.tolist(), targets, strict=True):
            found[row] = own
    return found
