"""Rewriting: a network reads a source, and writes its target while it attends to it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from charrnn.checkpoint.model_file import Checkpoint
from charrnn.config import Kind, ModelConfig, TextConfig, TrainConfig
from charrnn.errors import CorpusError
from charrnn.labels import Column
from charrnn.nn.learning.learner import Learner
from charrnn.nn.parameters import Array
from charrnn.nn.reader import Batch, Reader, window_length
from charrnn.tasks.evaluation import Evaluation
from charrnn.tasks.reading.beam import Target, Wanted, search
from charrnn.tasks.reading.examples import Ragged, Rows, in_order, same_texts
from charrnn.tasks.reading.lines import whole
from charrnn.tasks.reading.pairs import PairFiles, Pairs, PairTexts, known_ids, read_pairs
from charrnn.tasks.reading.task import (
    Examples,
    Reading,
    batches_in_order,
    columns_of,
    reader_of,
    window_of,
)
from charrnn.text.files.lines import Lines
from charrnn.text.files.normalization import normalised
from charrnn.vocabulary import Vocabulary

LONGEST = 1000  # characters of a source that are read, and of a target that is learned
WRITTEN_TOGETHER = 4096  # characters of sources, times beginnings of targets, at a time
SHOWN = 1 << 20  # characters of a line that are written again
JUDGED = 1000  # sources that are rewritten in an evaluation


@dataclass(frozen=True)
class RewrittenFiles(PairFiles):
    """Files of sources and targets; see task.Assignment."""

    kind: ClassVar[Kind] = "rewriter"

    def read(self, text: TextConfig) -> PairTexts:
        found = super().read(text)
        corpora = (found.corpus, found.validation)
        own, held = (pairs and replace(pairs, notes=(*pairs.notes, *left_out(pairs))) for pairs in corpora)
        assert own is not None
        return replace(found, corpus=own, validation=held)


@dataclass(frozen=True)
class RewrittenTexts(PairTexts):
    """Sources and targets."""

    kind: ClassVar[Kind] = "rewriter"

    def task(self, model: ModelConfig, train: TrainConfig) -> Rewrite:
        vocabulary, column = self.corpus.vocabulary, self.corpus.columns[0]

        def examples(pairs: Pairs) -> Rewritten:
            return rewritten(pairs, vocabulary, column, one_way=model.has_memory)

        held = None if self.validation is None else examples(self.validation)
        return Rewrite(examples(self.corpus), held, train)

    def known_rows(self, initial: Checkpoint) -> dict[str, Array]:
        # What is unknown there is the end here.
        targets = initial.columns[0].positions_in(self.corpus.columns[0])
        decoder = {"decoder_weight": targets, "decoder_bias": targets}
        return {**decoder, "target_embedding_weight": targets[:-1]}


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
        return replace(self, texts=self.texts.take(rows), targets=self.targets.take(rows))

    def groups(self) -> Rows:
        return same_texts(self.texts)


@dataclass(frozen=True, eq=False)
class Answered(Rewritten):
    """The same for a network that reads in one direction: a source and its end, and then writes the target.

    While it writes it reads nothing, whose id is one beyond the last.
    """

    nothing: int

    def batch(self, rows: Rows, B: int) -> Batch:
        columns = columns_of(rows, B)
        asked, answered = self.texts.lengths[columns], self.targets.lengths[columns] + 1
        lengths = asked + answered - 1  # the end is told where the last character is
        T = window_length(int(lengths.max()))
        x = self.texts.window(columns, T, fill=self.nothing)
        steps = np.arange(T)[:, None] - (asked - 1)
        places = np.where(steps >= 0, self.targets.begins[columns] + steps, 0)
        ends = self.targets.lengths[columns]
        values = self.targets.values if len(self.targets.values) else np.zeros(1, np.int32)
        targets = np.where(steps < ends, values[np.minimum(places, len(values) - 1)], self.V)
        inside = (steps >= 0) & (steps <= ends) & (np.arange(B) < len(rows)) & (targets <= self.V)
        return Batch(x, lengths, np.minimum(targets, self.V), inside.astype(np.float32))


def _fits(pairs: Pairs) -> npt.NDArray[np.bool_]:
    """A mask of the pairs, (R,), that are not too long."""
    lengths = pairs.sources(pairs.vocabulary).lengths
    fits: npt.NDArray[np.bool_] = (lengths <= LONGEST) & (pairs.targets.lengths <= LONGEST)
    return fits


def left_out(pairs: Pairs) -> tuple[str, ...]:
    """A note about pairs that are too long. CorpusError: all are."""
    count = len(pairs.targets) - int(np.count_nonzero(_fits(pairs)))
    if count == len(pairs.targets):
        raise CorpusError(f"every pair has more than {LONGEST:,} characters on a side", "cut them")
    pairs_are = f"{count:,} pairs are" if count > 1 else "1 pair is"
    return (f"{pairs_are} left out for more than {LONGEST:,} characters on a side",) if count else ()


def rewritten(pairs: Pairs, vocabulary: Vocabulary, column: Column, *, one_way: bool = False) -> Rewritten:
    """Some pairs in these vocabularies, but for those that are too long.

    `one_way`: for a network that is told where a source ends.
    """
    sources, targets = pairs.sources(vocabulary, ends=one_way), pairs.targets_in(column)
    V = len(column.labels)
    targets.values[targets.values == V] = V + 1
    fits = np.flatnonzero(_fits(pairs))
    sources, targets = sources.take(fits), targets.take(fits)
    return Answered(sources, targets, V, len(vocabulary)) if one_way else Rewritten(sources, targets, V)


class Rewrite(Reading):
    """A network learns to rewrite texts."""

    def sizes(self, examples: Examples) -> Rows:
        """By targets first, since steps of the decoder cost most: of pronunciations, it makes 16 % fewer."""
        assert isinstance(examples, Rewritten)
        return examples.targets.lengths * (LONGEST + 1) + examples.texts.lengths

    def evaluate(self, network: Learner[Reader], stop: Callable[[], object]) -> Evaluation | None:
        examples = self.measured
        assert isinstance(examples, Rewritten)
        loss, total = 0.0, 0.0
        for part in losses(network.model, examples):
            loss, total = loss + part[0], total + part[1]
            if stop():
                return None
        sources, references = by_source(examples)
        found = rewritings(network.model, sources.take(np.arange(min(JUDGED, len(sources)))), Wanted(beam=1))
        right = [
            any(np.array_equal(best.ids, reference) for reference in own)
            for (best,), own in zip(found, references, strict=False)
        ]
        return Evaluation(loss / total, self.measured_characters, accuracy=float(np.mean(right)))


def losses(reader: Reader, examples: Rewritten) -> Iterator[tuple[float, float]]:
    """The sums of losses, and how many, batch by batch."""
    for _, batch in batches_in_order(examples):
        sums = (reader.losses(batch) * batch.weights).sum(dtype=np.float64), batch.weights.sum()
        yield float(sums[0]), float(sums[1])


def by_source(examples: Rewritten) -> tuple[Ragged, list[list[Array]]]:
    """The different sources, in the order in which they come, and the targets of each."""
    _, first, group = np.unique(examples.groups(), return_index=True, return_inverse=True)
    references: list[list[Array]] = [[] for _ in first]
    for r, number in enumerate(group.tolist()):  # texts are numbered as they come
        references[number].append(examples.targets.row(r))
    return examples.texts.take(first), references


def rewritings(reader: Reader, texts: Ragged, wanted: Wanted, most: int | None = None) -> list[list[Target]]:
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


class Rewriting(NamedTuple):
    """A target that a network wrote."""

    tokens: tuple[str, ...]  # characters or words
    log_probability: float  # in nats, that of the end included
    weights: Array  # (tokens, characters of the source): of attention; (0, ..) if not asked for

    @property
    def alignment(self) -> list[int]:
        """For each token the character of the source to which it attended most."""
        places: list[int] = self.weights.argmax(axis=1).tolist() if self.weights.size else []
        return places


class LineRewritings(NamedTuple):
    """One line, without its end, and its targets, the most probable first."""

    text: str
    source: str  # the text in the form of the model's: what was read of it
    rewritings: list[Rewriting]  # none of an empty line
    file: str
    number: int  # of the line in its file, from 1 on
    cut: bool = False  # only the beginning of a long line was read


class Rewriter:
    """A model that rewrites texts."""

    def __init__(self, checkpoint: Checkpoint, threads: int | None = None) -> None:
        self.checkpoint = checkpoint
        self.reader = reader_of(checkpoint, threads)
        self.joint = " " if checkpoint.text.targets == "words" else ""  # of the tokens of a target

    def rewrite(self, texts: Sequence[str], wanted: Wanted, most: int | None = None) -> list[list[Rewriting]]:
        """The targets of each text. A character that the model has never seen is read as one without any
        likeness to others. See `rewritings`."""
        end = self.checkpoint.text.end if self.checkpoint.config.has_memory else ""
        ids = [known_ids(self.checkpoint.vocabulary, text + end) for text in texts]
        read = [n for n, text in enumerate(texts) if text]
        found: list[list[Rewriting]] = [[] for _ in texts]
        labels = self.checkpoint.columns[0].labels
        for n, targets in zip(
            read, rewritings(self.reader, Ragged.of([ids[n] for n in read]), wanted, most), strict=True
        ):
            found[n] = [
                Rewriting(tuple(labels[k] for k in target.ids.tolist()), *target[1:]) for target in targets
            ]
        return found

    def lines(
        self, lines: Iterable[Lines], end: str, wanted: Wanted, most: int | None = None
    ) -> Iterator[list[LineRewritings]]:
        """The targets of each line, which ends in `end`, in the batches in which lines came."""
        form = self.checkpoint.text.form
        for texts, file, number, cut in whole(lines, end, SHOWN):
            read = [normalised(text, form) for text in texts]
            sources = [text[:LONGEST] for text in read]
            yield [
                LineRewritings(text, source, own, file, number + k, cut or len(source) < len(normal))
                for k, (text, normal, source, own) in enumerate(
                    zip(texts, read, sources, self.rewrite(sources, wanted, most), strict=True)
                )
            ]


@dataclass(frozen=True, slots=True)
class RewritingMeasures(Evaluation):
    """How good the rewritings of sources are, each compared with its nearest target.

    `accuracy` is the share of sources whose rewriting is one of their targets.
    """

    sources: int
    edit_distance: float  # of a source, in tokens: insertions, deletions and substitutions
    error_rate: float  # the same of all, divided by the number of tokens of those targets
    tokens: str  # what these are: characters or words

    @property
    def word_error_rate(self) -> float:
        """The share of sources whose rewriting is none of their targets."""
        assert self.accuracy is not None
        return 1 - self.accuracy


def measure(
    checkpoint: Checkpoint,
    paths: Sequence[str | Path],
    text: TextConfig,
    threads: int | None = None,
) -> tuple[RewritingMeasures, tuple[str, ...]]:
    """A rewriter's figures over pairs, and notes. What it has never seen in a target counts as wrong."""
    pairs = read_pairs(paths, text, text.targets or "characters")
    notes = (*pairs.notes, *left_out(pairs), *pairs.unknown(checkpoint.vocabulary, checkpoint.columns[0]))
    reader, column = reader_of(checkpoint, threads), checkpoint.columns[0]
    one_way = checkpoint.config.has_memory
    examples = rewritten(pairs, checkpoint.vocabulary, column, one_way=one_way)
    loss, total = map(sum, zip(*losses(reader, examples), strict=True))
    sources, references = by_source(examples)
    distances, tokens, right = 0, 0, 0
    for (best,), own in zip(rewritings(reader, sources, Wanted()), references, strict=True):
        distance, length = min((distance_between(best.ids, target), len(target)) for target in own)
        distances, tokens, right = distances + distance, tokens + length, right + (distance == 0)
    measures = RewritingMeasures(
        loss / total if total else math.nan, int(examples.texts.lengths.sum()), len(sources),
        distances / len(sources), distances / tokens, pairs.text.targets or "characters",
        accuracy=right / len(sources),
    )  # fmt: skip
    return measures, notes


def first(
    checkpoint: Checkpoint, paths: Sequence[str | Path], text: TextConfig
) -> tuple[Array, tuple[str, ...]]:
    """The first source, as a network with a memory reads it, and its target."""
    pairs = read_pairs(paths, text, text.targets or "characters")
    column = pairs.columns[0]
    told = tuple(column.labels[n] for n in pairs.targets_in(column).row(0).tolist())
    return pairs.sources(checkpoint.vocabulary, ends=True).row(0), told


def distance_between(a: Array, b: Array) -> int:
    """Levenshtein's distance of two rows of ids."""
    row = np.arange(len(b) + 1)
    steps = np.arange(len(b) + 1)
    for n, x in enumerate(a, 1):
        best = np.minimum(row[1:] + 1, row[:-1] + (b != x))
        # Insertions: the best of what is to the left, each step of which costs 1.
        row = np.minimum.accumulate(np.concatenate([[n], best]) - steps) + steps
    return int(row[-1])
