"""Classifying texts: records with labels, whose classes a network tells."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from charrnn.checkpoint.model_file import Checkpoint
from charrnn.config import Kind, ModelConfig, TextConfig, TrainConfig
from charrnn.counts.class_grams import NEVER, ClassGrams
from charrnn.counts.learning.class_grams import Counted, learned
from charrnn.errors import CorpusError, printable, quoted
from charrnn.kernels.loops.beside.class_grams import Texts
from charrnn.labels import Column, Columns, parts, places_among, places_of, shown, sizes_of
from charrnn.nn.learning.learner import Learner
from charrnn.nn.parameters import Array
from charrnn.nn.reader import Batch, Reader, log_softmax
from charrnn.tasks.evaluation import Evaluation
from charrnn.tasks.files import OF_WRITERS, Files
from charrnn.tasks.reading.calibration import Calibration, fit, surest
from charrnn.tasks.reading.confusion import ClassEvaluation, Confusion
from charrnn.tasks.reading.examples import Ragged, Rows, same_texts
from charrnn.tasks.reading.lines import whole
from charrnn.tasks.reading.task import Reading, WholeTexts, batches_in_order, columns_of, reader_of, window_of
from charrnn.text.corpus import Corpus
from charrnn.text.files.lines import Lines
from charrnn.text.files.normalization import normalised
from charrnn.text.reading import read
from charrnn.vocabulary import OnUnknown

LONGEST = 1024  # characters of a text that are read
SHOWN = 10_000  # characters of a line that are written again
# An example of a class counts by the class's frequency to the power of -RARER.
RARER = 0.1
UNEVEN = 3.0  # how often the most frequent class is as frequent as the rarest, where that is said
HIDDEN = 0.1  # the share of characters that are unknown while the network learns
# While it learns, this much of what grams tell of a text is added to its logits, so that it learns the rest:
# grams by ratios, without the text's own counts.
TOLD = 0.5


@dataclass(frozen=True)
class LabelledFiles(Files):
    """Files of records with labels; see task.Assignment."""

    kind: ClassVar[Kind] = "classifier"
    unused: ClassVar[frozenset[str]] = OF_WRITERS - {"counts"}

    def read(self, text: TextConfig) -> LabelledTexts:
        if not text.records:
            whole_files = text.label_by == "folder"  # of which a folder has many; a file's class has one
            text = replace(text, **({"split": "file"} if whole_files else {"lines": True}))
        text = replace(text, label_by=text.label_by or "column")
        corpus = read(self.paths, text)
        for column in corpus.columns:
            if len(column.labels) < 2:
                of = f" of {column.name}" if column.name else ""
                names = printable(", ".join(map(str, self.paths)))
                raise CorpusError(
                    f"all texts of {names} have the same label{of}, {quoted(column.labels[0])}",
                    "give texts of two classes at least",
                )
        validation = None
        if self.val:
            validation = read(
                self.val, corpus.text, vocabulary=corpus.vocabulary, on_unknown="skip",
                columns=corpus.columns, skips_labels=False,
            )  # fmt: skip
        texts = LabelledTexts(corpus, validation, len(corpus.vocabulary) - bool(corpus.text.end))
        return texts.within(corpus.vocabulary, corpus.columns)


@dataclass(frozen=True)
class LabelledTexts(WholeTexts):
    """Texts with labels."""

    kind: ClassVar[Kind] = "classifier"

    def fingerprint(self) -> str:
        return f"classify {self.corpus.fingerprint()}"

    def beside(self, initial: Checkpoint) -> LabelledTexts:
        """With the characters of the model to start from, whose classes alone are no classes here."""
        return super().beside(replace(initial, columns=()))

    def network(self, settings: dict[str, Any]) -> ModelConfig:
        corpus = self.corpus
        targets = sizes_of(corpus.columns)
        return ModelConfig(corpus.vocab_size, **settings, kind=self.kind, targets=targets)

    def task(self, model: ModelConfig, train: TrainConfig) -> Classify:
        return Classify(self.corpus, self.validation, train)

    def known_rows(self, initial: Checkpoint) -> dict[str, Array]:
        classes = places_among(initial.columns, self.corpus.columns)
        return {"decoder_weight": classes, "decoder_bias": classes}


@dataclass(frozen=True, eq=False)
class Classified:
    """Texts, and how often each class was told of them; see task.Examples.

    Those of several columns stand side by side: N is the number of the classes of all.
    """

    texts: Ragged
    counts: npt.NDArray[np.float32]  # (R, N)
    records: npt.NDArray[np.float32]  # (R,), how many there are of each text
    weights: npt.NDArray[np.float32]  # (N,), how much an example of each class counts in training

    def batch(self, rows: Rows, B: int) -> Batch:
        columns = columns_of(rows, B)
        records = self.records[columns]
        targets = self.counts[columns] * self.weights / records[:, None]
        return Batch(*window_of(self.texts, columns), targets, records * (np.arange(B) < len(rows)))

    def take(self, rows: Rows) -> Classified:
        return replace(
            self, texts=self.texts.take(rows), counts=self.counts[rows], records=self.records[rows]
        )

    def groups(self) -> Rows:
        return np.arange(len(self.texts))

    def grams_of(self, vocab_size: int) -> Texts:
        """The texts, of so many characters, as their grams are counted and asked."""
        return Texts(self.texts.values, self.texts.begins, self.texts.ends, vocab_size)


def classified(corpus: Corpus) -> Classified:
    """The texts of a corpus with labels, equal ones as one that has several classes."""
    labels = corpus.documents.labels
    assert labels is not None
    texts = _records(corpus)
    sizes = sizes_of(corpus.columns)
    classes = places_of(labels.ids[labels.parts(texts.begins)], sizes)
    kept = np.flatnonzero((classes >= 0).any(axis=1) & (texts.lengths > 0))
    texts, classes = texts.take(kept), classes[kept]
    groups = same_texts(texts)
    _, first = np.unique(groups, return_index=True)
    counts = np.zeros((len(first), sum(sizes)), np.float32)
    for own in classes.T:
        known = own >= 0
        np.add.at(counts, (groups[known], own[known]), 1.0)
    weights = np.concatenate([balance(counts[:, part].sum(axis=0)) for part in parts(sizes)])
    records = np.bincount(groups, minlength=len(first)).astype(np.float32)
    return Classified(texts.take(first), counts, records, weights)


def balance(frequencies: Array) -> npt.NDArray[np.float32]:
    """How much an example of each class counts: the rarer, the more, and 1 in the mean over examples."""
    weights = np.maximum(frequencies, 1.0) ** -RARER
    found: npt.NDArray[np.float32] = weights * (frequencies.sum() / (weights * frequencies).sum())
    return found.astype(np.float32)


def _records(corpus: Corpus) -> Ragged:
    """The records of a corpus without their ends, or its files; of long ones the beginning."""
    documents = corpus.documents
    begins = documents.records() if documents.end >= 0 else documents.starts
    ends = np.append(begins[1:], len(documents)) - (documents.end >= 0)
    return Ragged(documents.array, begins, np.minimum(ends, begins + LONGEST))


class Classify(Reading):
    """A network learns the classes of texts. What was held out also tells how to calibrate it."""

    def __init__(self, corpus: Corpus, validation: Corpus | None, train: TrainConfig) -> None:
        examples, apart = classified(corpus), None if validation is None else classified(validation)
        super().__init__(examples, apart, train)
        assert isinstance(self.own, Classified)
        self._all = examples if apart is None else None  # those held out of them are among them
        self._columns, self._parts = corpus.columns, parts(sizes_of(corpus.columns))
        self._seed, self._unknown = train.seed, corpus.vocab_size
        self._frequencies = [frequencies(column) for column in corpus.columns]
        self._calibrations: list[Calibration] = []
        # Grams that have counted a text tell too much of it, so their weight is found on others.
        self._most_bytes = round(train.counts * 1e6) if self.measured_on == "validation" else 0
        self._wants_grams = bool(train.counts)
        self._counted: Counted | None = None
        self._grams: ClassGrams | None = None
        self._of_all: ClassGrams | None = None
        self._told: Array | None = None  # what they tell of the held-out texts

    def batch(self, epoch: int, k: int) -> Batch:
        """Some characters are unknown: the loss of held-out surnames was 0.564 so, and 0.591 without."""
        batch = super().batch(epoch, k)
        hidden = np.random.default_rng([self._seed, epoch, k, 6]).random(batch.x.shape) < HIDDEN
        x = np.where(hidden, np.int32(self._unknown), batch.x)
        return batch._replace(x=x, beside=self._beside(self._batches.rows(epoch, k), x.shape[1]))

    def _beside(self, rows: Rows, B: int) -> Array | None:
        if self._counted is None:
            return None
        assert isinstance(self.own, Classified)
        some = self.own.take(columns_of(rows, B))
        return TOLD * self._counted.tell_others(some.grams_of(self._unknown), some.counts)

    def warnings(self, *, chosen: bool) -> Iterator[str]:
        yield from super().warnings(chosen=chosen)
        if self._wants_grams and not self._most_bytes:
            yield "no text is held out on which the weight of counts could be found, so there are none"
        for column in self._columns:
            by_size = sorted(zip(column.counts, column.labels, strict=True))
            (least, rare), (most, common) = by_size[0], by_size[-1]
            if most >= UNEVEN * least:
                yield (
                    f"there are {least:,} texts of {shown(rare)} and {most:,} of {shown(common)}: "
                    "an example of a rare class counts more"
                )

    def describe(self, model: Checkpoint) -> Generator[tuple[int, int], None, Checkpoint]:
        """The model with the grams of the texts that it learns from. They are fitted to those held out."""
        if not self._most_bytes:
            return model
        held, made, done = self.measured, self._count(model.config), 0
        assert isinstance(held, Classified)
        total = 2 * (self.characters + (0 if self._all is None else self.characters + self.val_characters))
        try:
            while True:
                done += next(made)
                yield done, total
        except StopIteration as end:
            self._counted, self._of_all = end.value
        grams = self._counted.grams
        self._told = grams.tell(held.texts.values, held.texts.begins, held.texts.ends)
        found = self._calibrated(self._told, None)
        self._grams = replace(
            grams,
            alone_scales=np.array([own.scale for own in found], np.float32),
            alone_bias=np.concatenate(
                [own.apply(np.zeros(n)) for own, n in zip(found, grams.sizes, strict=True)]
            ).astype(np.float32),
        )
        return replace(model, grams=self._grams)

    def _count(self, model: ModelConfig) -> Generator[int, None, tuple[Counted, ClassGrams]]:
        """Count the grams of the texts that are learned from, and those of all, for the finished model."""
        own = self.own
        assert isinstance(own, Classified)
        V, sizes, most = model.vocab_size, model.targets, self._most_bytes
        counted = yield from learned(own.grams_of(V), own.counts, sizes, most)
        if self._all is None:
            return counted, counted.grams
        of_all = yield from learned(self._all.grams_of(V), self._all.counts, sizes, most)
        return counted, of_all.grams

    def evaluate(self, network: Learner[Reader], stop: Callable[[], object]) -> Evaluation | None:
        examples = self.measured
        assert isinstance(examples, Classified)
        logits = logits_of(network.model, examples, stop)
        if logits is None:
            return None
        self._calibrations = self._calibrated(logits, self._told)
        own = self._applied(self._calibrations, logits)
        if self._grams is None or self._told is None:
            return judged(examples, own, self._columns)
        scales = np.array([found.grams for found in self._calibrations], np.float32)
        self._grams = replace(self._grams, scales=scales)
        self._grams = trusted(self._grams, examples, self._told, own)
        told = judged(examples, answered(self._grams, self._told, lambda rows: own[rows]), self._columns)
        alone = self._applied(self._calibrated(logits, None), logits)
        return replace(told, network_loss=judged(examples, alone, self._columns).loss)

    def _calibrated(self, logits: Array, told: Array | None) -> list[Calibration]:
        """For each column, what calibrates these logits (R, N) of held-out texts, beside what grams tell."""
        assert isinstance(self.measured, Classified)
        if self.measured_on != "validation":
            return [Calibration() for _ in self._parts]
        return [
            fit(
                logits[:, part],
                self.measured.counts[:, part],
                frequent,
                None if told is None else told[:, part],
            )
            for part, frequent in zip(self._parts, self._frequencies, strict=True)
        ]

    def _applied(self, calibrations: list[Calibration], logits: Array) -> Array:
        pairs = zip(calibrations, self._parts, strict=True)
        return np.concatenate([own.apply(logits[:, part]) for own, part in pairs], axis=1)

    def finished(self, model: Checkpoint) -> Checkpoint:
        """The model whose read-out gives the calibrated probabilities, and its grams.

        These are then counted in the texts held out, too: of surnames, 0.2 points more are right so.
        """
        weight, bias = (model.tensors[f"decoder.{name}"].astype(np.float64) for name in ("weight", "bias"))
        for part, calibration in zip(self._parts, self._calibrations, strict=True):
            weight[part] *= calibration.scale
            bias[part] = calibration.apply(bias[part])
        read_out = {"decoder.weight": weight.astype(np.float32), "decoder.bias": bias.astype(np.float32)}
        grams, all_ = self._grams, self._of_all
        if grams is not None and all_ is not None:
            grams = replace(grams, numbers=all_.numbers, weights=all_.weights)
        return replace(model, tensors=model.tensors | read_out, grams=grams)


def trusted(grams: ClassGrams, examples: Classified, told: Array, own: Array) -> ClassGrams:
    """The grams that are asked alone where held-out texts show that nothing is lost by it.

    Of these texts, `told` (R, N) is what grams tell, and `own` (R, N) are the logits of the network.
    """
    alone, sure = grams.alone(told)
    least = surest(
        sure, _worth(examples, alone, grams.sizes), _worth(examples, grams.beside(own, told), grams.sizes)
    )
    return replace(grams, sure=np.full(1, min(least, NEVER), np.float32))


def _worth(examples: Classified, logits: Array, sizes: tuple[int, ...]) -> tuple[Array, Array]:
    """By text, (R,), how often logits (R, N) are right, and their loss."""
    right, loss = np.zeros((2, len(logits)))
    for part in parts(sizes):
        counts, own = examples.counts[:, part], logits[:, part]
        right += counts[np.arange(len(own)), own.argmax(axis=1)]
        loss -= (counts * log_softmax(own)).sum(axis=1)
    return right, loss


def answered(grams: ClassGrams, told: Array, network: Callable[[Rows], Array]) -> Array:
    """The logits (R, N) of texts of which grams tell so much (R, N).

    `network` gives the network's logits of the texts in these rows, and is only asked if there are any.
    """
    found, sure = grams.alone(told)
    rows = np.flatnonzero(sure < grams.sure[0])
    if len(rows):
        found[rows] = grams.beside(network(rows), told[rows])
    return found


def logits_of(
    network: Reader, examples: Classified, stop: Callable[[], object] = lambda: None
) -> Array | None:
    """The logits of all texts (R, N) in float64. None: `stop` ended it."""
    found = np.zeros((len(examples.texts), examples.counts.shape[1]))
    for rows, batch in batches_in_order(examples):
        found[rows] = network.forward(batch.x, np.maximum(batch.lengths, 1))[: len(rows)]
        if stop():
            return None
    return found


def judged(examples: Classified, logits: Array, columns: Columns) -> ClassEvaluation:
    """What the logits (R, N) of the examples are worth."""
    loss, found = 0.0, []
    for part, column in zip(parts(sizes_of(columns)), columns, strict=True):
        counts, logs = examples.counts[:, part], log_softmax(logits[:, part])
        loss -= float((counts * logs).sum())
        found.append(Confusion.of(column, np.exp(logs), counts))
    texts = float(examples.records.sum())
    right, all_ = (sum(float(f(c.counts)) for c in found) for f in (np.trace, np.sum))
    return ClassEvaluation(
        loss / max(texts, 1.0), int(examples.texts.lengths.sum()), int(texts), tuple(found),
        accuracy=right / max(all_, 1.0),
    )  # fmt: skip


class LineClasses(NamedTuple):
    """One line, without its end, and for each column the probabilities of its labels."""

    text: str
    probabilities: tuple[tuple[float, ...], ...]  # each sums to 1, or is () for an empty line, which has none
    file: str
    number: int  # of the line in its file, from 1 on
    cut: bool = False  # the text is only the beginning of a long line


class Classifier:
    """A model that tells the classes of texts."""

    def __init__(self, checkpoint: Checkpoint, threads: int | None = None) -> None:
        self.checkpoint = checkpoint
        self._reader = reader_of(checkpoint, threads)
        self._parts = parts(sizes_of(checkpoint.columns))
        self._trained = [frequencies(column) for column in checkpoint.columns]
        N = sum(checkpoint.config.targets)
        self._shift, self._weights = np.zeros(N), np.ones(N, np.float32)

    def expect(self, column: int, prior: Sequence[float]) -> None:
        """From now on, the labels of a column are as frequent as this says, not as in training."""
        self._shift[self._parts[column]] = np.log(np.array(prior) / self._trained[column])

    def probabilities(self, texts: Sequence[str]) -> npt.NDArray[np.float64]:
        """The probabilities of the labels of each column side by side, (texts, N).

        Unknown characters are left out; a text of such alone has what labels are most frequent.
        """
        ids, ends = self.checkpoint.vocabulary.encode_all([text[:LONGEST] for text in texts])
        ragged = Ragged(ids, np.append(0, ends)[:-1], ends)
        counts = np.zeros((len(texts), len(self._shift)), np.float32)
        examples = Classified(ragged, counts, np.ones(len(texts), np.float32), self._weights)
        logits = self._logits(examples)
        return np.concatenate([np.exp(log_softmax(logits[:, part])) for part in self._parts], axis=1)

    def evaluate(self, examples: Classified) -> ClassEvaluation:
        """What the model tells of texts whose classes are known."""
        return judged(examples, self._logits(examples), self.checkpoint.columns)

    def _logits(self, examples: Classified) -> Array:
        grams, texts = self.checkpoint.grams, examples.texts
        if grams is None:
            logits = self._networks(examples)
        else:
            told = grams.tell(texts.values, texts.begins, texts.ends)
            logits = answered(grams, told, lambda rows: self._networks(examples.take(rows)))
        logits[examples.texts.lengths == 0] = np.log(np.concatenate(self._trained))
        return logits + self._shift

    def _networks(self, examples: Classified) -> Array:
        logits = logits_of(self._reader, examples)
        assert logits is not None
        return logits

    def lines(self, lines: Iterable[Lines], end: str) -> Iterator[list[LineClasses]]:
        """The classes of each line, which ends in `end`, in the batches in which lines came."""
        nothing = ((),) * len(self._parts)
        for texts, file, number, cut in whole(lines, end, SHOWN):
            found = self.probabilities([normalised(text, self.checkpoint.text.form) for text in texts])
            columns = zip(*(map(tuple, found[:, part].tolist()) for part in self._parts), strict=True)
            yield [
                LineClasses(text, own if text else nothing, file, number + n, cut)
                for n, (text, own) in enumerate(zip(texts, columns, strict=True))
            ]


def frequencies(column: Column) -> Array:
    """How frequent each label is among texts, (N,); none is 0."""
    counts = np.maximum(np.array(column.counts, np.float64), 0.5)
    found: Array = counts / counts.sum()
    return found


def measure(
    checkpoint: Checkpoint,
    paths: Sequence[str | Path],
    text: TextConfig,
    threads: int | None = None,
    on_unknown: OnUnknown = "error",
) -> tuple[ClassEvaluation, tuple[str, ...]]:
    """A classifier's figures over records with labels, and notes. Labels that it has never seen are skipped.

    Raises:
        VocabularyError: there is such a label, and `on_unknown` is "error".
    """
    found = read(
        paths, text, vocabulary=checkpoint.vocabulary, on_unknown="skip", expected=checkpoint.text.encoding,
        columns=checkpoint.columns, skips_labels=on_unknown == "skip",
    )  # fmt: skip
    return Classifier(checkpoint, threads).evaluate(classified(found)), found.notes
