"""Filling gaps: pieces of a text in which runs of characters are hidden, and the network tells them.

The network learns as masked language models do (Devlin et al. 2019), but of characters: in each epoch other
runs are hidden, short ones and long ones. A hidden character is read as the zero vector.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from charrnn.checkpoint.model_file import Checkpoint
from charrnn.config import Kind, ModelConfig, TextConfig, TrainConfig
from charrnn.nn.parameters import Array
from charrnn.nn.reader import Batch
from charrnn.tasks.evaluation import Evaluation
from charrnn.tasks.files import Files
from charrnn.tasks.reading.examples import Ragged, Rows, pieces
from charrnn.tasks.reading.task import TellingCharacters, WholeTexts, columns_of, reader_of, told, window_of
from charrnn.text.corpus import Corpus
from charrnn.text.reading import read
from charrnn.vocabulary import OnUnknown

PIECE = 128  # characters of a text that are read together
TOGETHER = 16  # pieces that are held out together
HIDDEN = 0.3  # the share of characters that is hidden, about
MEAN_RUN = 5.0  # characters that are hidden in a row; the lengths are geometrically distributed


@dataclass(frozen=True)
class GapFiles(Files):
    """Files of any text; see task.Assignment."""

    kind: ClassVar[Kind] = "filler"

    def read(self, text: TextConfig) -> GapTexts:
        corpus = read(self.paths, text)
        vocabulary, validation = corpus.vocabulary, None
        if self.val:
            validation = read(self.val, corpus.text)
            vocabulary = vocabulary.merged(validation.vocabulary)
        return GapTexts(corpus, validation, corpus.vocab_size).within(vocabulary)


@dataclass(frozen=True)
class GapTexts(WholeTexts):
    """Texts in which gaps can be filled."""

    kind: ClassVar[Kind] = "filler"

    def fingerprint(self) -> str:
        return f"fill {self.corpus.fingerprint()}"

    def network(self, settings: dict[str, Any]) -> ModelConfig:
        return ModelConfig(self.corpus.vocab_size, **settings, kind=self.kind)

    def task(self, model: ModelConfig, train: TrainConfig) -> Fill:
        validation = None if self.validation is None else pieces_of(self.validation, model.vocab_size)
        return Fill(pieces_of(self.corpus, model.vocab_size), validation, train)

    def known_rows(self, initial: Checkpoint) -> dict[str, Array]:
        characters = initial.vocabulary.positions_in(self.corpus.vocabulary)
        return {"decoder_weight": characters, "decoder_bias": characters}


@dataclass(frozen=True, eq=False)
class Pieces:
    """Pieces of a text of V characters; see task.Examples."""

    texts: Ragged
    V: int
    numbers: Rows  # of the pieces in the text, (R,)

    def batch(self, rows: Rows, B: int, key: tuple[int, ...] = (0,)) -> Batch:
        """The pieces with gaps that the key and the piece decide."""
        columns = columns_of(rows, B)
        y, lengths = window_of(self.texts, columns)
        gaps = hidden(y.shape, np.random.default_rng([*key, int(self.numbers[rows[0]])]))
        gaps &= np.arange(len(y))[:, None] < lengths
        gaps[:, len(rows) :] = False
        return Batch(np.where(gaps, np.int32(self.V), y), lengths, y, gaps.astype(np.float32))

    def take(self, rows: Rows) -> Pieces:
        return Pieces(self.texts.take(rows), self.V, self.numbers[rows])

    def groups(self) -> Rows:
        found: Rows = self.numbers // TOGETHER
        return found


def pieces_of(corpus: Corpus, V: int) -> Pieces:
    """A corpus cut into pieces: lines or other records, of which long ones are cut like a text."""
    documents = corpus.documents
    if documents.end >= 0:
        begins = documents.records()
        ends = np.append(begins[1:], len(documents)) - 1
    else:
        begins = documents.starts
        ends = np.append(begins[1:], len(documents))
    texts, _ = pieces(Ragged(documents.array, begins, ends), PIECE)
    return Pieces(texts, V, np.arange(len(texts)))


def hidden(shape: tuple[int, ...], random: np.random.Generator) -> npt.NDArray[np.bool_]:
    """A mask of what is hidden, (T, B): runs of geometrically distributed lengths."""
    begins = random.random(shape) < HIDDEN / MEAN_RUN
    goes_on = random.random(shape) < 1 - 1 / MEAN_RUN
    found = begins.copy()
    for t in range(1, shape[0]):
        found[t] |= found[t - 1] & goes_on[t]
    return found


class Fill(TellingCharacters):
    """A network learns to tell hidden characters; in evaluations they are the same each time."""

    def __init__(self, examples: Pieces, validation: Pieces | None, train: TrainConfig) -> None:
        super().__init__(examples, validation, train)
        self._seed = train.seed

    def batch(self, epoch: int, k: int) -> Batch:
        own = self.own
        assert isinstance(own, Pieces)
        return own.batch(self._batches.rows(epoch, k), self.columns, (self._seed, epoch, 6))


def measure(
    checkpoint: Checkpoint,
    paths: Sequence[str | Path],
    text: TextConfig,
    threads: int | None = None,
    on_unknown: OnUnknown = "error",
) -> tuple[Evaluation, tuple[str, ...]]:
    """A filler's figures over a text, and notes. What is hidden is the same in each evaluation."""
    corpus = read(paths, text, vocabulary=checkpoint.vocabulary, on_unknown=on_unknown)
    found = told(reader_of(checkpoint, threads), pieces_of(corpus, checkpoint.config.vocab_size))
    assert found is not None  # only a stopped evaluation has no result
    return found, corpus.notes
