"""What the tasks of readers have in common: batches of whole texts, and the loss over those held out."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import asdict, dataclass
from typing import Protocol

import numpy as np

from charrnn.checkpoint.model_file import Checkpoint
from charrnn.config import ModelConfig, TrainConfig
from charrnn.errors import TrainingError
from charrnn.events import Measure
from charrnn.nn.learning.learner import Learner
from charrnn.nn.learning.learners import learner_of
from charrnn.nn.network import initial_tensors
from charrnn.nn.parameters import Array
from charrnn.nn.reader import Batch, Reader, log_softmax, window_length
from charrnn.nn.workers import Workers
from charrnn.tasks.evaluation import Evaluation
from charrnn.tasks.reading.examples import Batches, Ragged, Rows, held_out, in_order
from charrnn.tasks.task import Material, beside

READ_TOGETHER = 8192  # characters of texts that are read side by side outside training
MOST_MEASURED = 200_000  # characters of training texts, where there is no other to measure the loss on


class Examples(Protocol):
    """Texts and what is to be learned of each."""

    @property
    def texts(self) -> Ragged:
        """The texts, R of them."""

    def batch(self, rows: Rows, B: int) -> Batch:
        """Some of them, in B >= len(rows) columns, of which the last ones have no weight."""

    def take(self, rows: Rows) -> Examples:
        """Some of them."""

    def groups(self) -> Rows:
        """A number for each text, (R,): those that share one are held out together."""


def columns_of(rows: Rows, B: int) -> Rows:
    """The rows of B columns: the first one again where there are fewer."""
    return np.concatenate([rows, np.full(B - len(rows), rows[0], rows.dtype)])


def window_of(texts: Ragged, columns: Rows) -> tuple[Array, Rows]:
    """The ids (T, B) and the lengths of texts in these columns."""
    lengths = texts.lengths[columns]
    return texts.window(columns, window_length(int(lengths.max()))), lengths


class Reading:
    """A network reads whole texts and learns what the examples tell of them; see task.Task.

    Without separate examples for validation, some of them are held out.
    """

    preview: Callable[[Checkpoint], str] | None = None

    def __init__(self, examples: Examples, validation: Examples | None, train: TrainConfig) -> None:
        mask = np.zeros(len(examples.texts), np.bool_)
        if validation is None and train.val_fraction:
            mask = held_out(examples.groups(), train.val_fraction, train.seed)
        self.own = examples.take(np.flatnonzero(~mask))
        held = examples.take(np.flatnonzero(mask)) if validation is None else validation
        if not len(self.own.texts):
            raise TrainingError("no text is left for training", "give a smaller --val-fraction")
        self._batches = Batches(self.sizes(self.own), train.batch_size, train.seed)
        self.batches, self.columns = self._batches.count, self._batches.B
        self.characters, self.val_characters = (int(e.texts.lengths.sum()) for e in (self.own, held))
        self.batch_characters = max(1, self.characters // self.batches)
        self.measured_on: Measure = "validation" if len(held.texts) else "training"
        self.measured = held if len(held.texts) else _some(self.own)
        self.measured_characters = int(self.measured.texts.lengths.sum())

    def sizes(self, examples: Examples) -> Rows:
        """What is of about the same size in a batch, (R,)."""
        return examples.texts.lengths

    def batch(self, epoch: int, k: int) -> Batch:
        return self.own.batch(self._batches.rows(epoch, k), self.columns)

    def evaluate(self, network: Learner[Reader], stop: Callable[[], object]) -> Evaluation | None:
        raise NotImplementedError

    def finished(self, model: Checkpoint) -> Checkpoint:
        return model

    def describe(self, model: Checkpoint) -> Generator[tuple[int, int], None, Checkpoint]:
        """The model as it is: there is no index of what is not written."""
        yield from ()
        return model

    def warnings(self, *, chosen: bool) -> Iterator[str]:
        if not self.val_characters and not chosen:
            yield (
                "there are too few texts to keep some for validation: nothing tells how well the model does "
                "on new ones (--val FILE names some)"
            )


class TellingCharacters(Reading):
    """A network tells something of each character of a text."""

    def evaluate(self, network: Learner[Reader], stop: Callable[[], object]) -> Evaluation | None:
        return told(network.model, self.measured, stop)


def told(model: Reader, examples: Examples, stop: Callable[[], object] = lambda: None) -> Evaluation | None:
    """The loss and accuracy over the positions of examples that have a weight. None: `stop` ended it."""
    loss, right, total = 0.0, 0, 0
    for _, batch in batches_in_order(examples):
        counted = batch.weights > 0
        logits, targets = model.forward(batch.x, batch.lengths)[counted], batch.targets[counted]
        loss -= float(log_softmax(logits)[np.arange(len(targets)), targets].sum())
        right += int(np.count_nonzero(logits.argmax(axis=1) == targets))
        total += len(targets)
        if stop():
            return None
    return Evaluation(loss / max(total, 1), total, accuracy=right / max(total, 1))


@dataclass(frozen=True)
class WholeTexts(Material):
    """What a network that reads learns from."""

    def task(self, model: ModelConfig, train: TrainConfig) -> Reading:
        """The task. TrainingError: there is nothing to learn from."""
        raise NotImplementedError

    def begin(
        self, model: ModelConfig, train: TrainConfig, initial: Checkpoint | None, workers: Workers
    ) -> tuple[Reading, Learner[Reader]]:
        task, tensors = self.task(model, train), initial_tensors(model, train.seed)
        if initial is not None:
            tensors = self.begun(initial, tensors)
        network = Reader(model, workers=workers, bfloat16=train.precision == "bfloat16")
        network.load_tensors(tensors)
        return task, learner_of(network, train, task.columns, beside(asdict(train), model.kind))

    def begun(self, initial: Checkpoint, fresh: dict[str, Array]) -> dict[str, Array]:
        """The weights of a model of this kind, or of one that writes, for these texts."""
        characters = initial.vocabulary.positions_in(self.corpus.vocabulary)
        rows = self.known_rows(initial) if initial.config.kind == self.kind else {}
        return grown(initial, fresh, characters, **rows)

    def known_rows(self, initial: Checkpoint) -> dict[str, Array]:
        """For tensors by name, where the rows of a model of this kind go; see `grown`."""
        labels = initial.columns[0].positions_in(self.corpus.columns[0])[:-1]
        return {"decoder_weight": labels, "decoder_bias": labels}


def _some(examples: Examples) -> Examples:
    """The first examples, if there are many."""
    total = np.cumsum(examples.texts.lengths)
    return examples.take(np.arange(max(1, int(np.searchsorted(total, MOST_MEASURED)))))


def batches_in_order(examples: Examples) -> Iterator[tuple[Rows, Batch]]:
    """All examples once, in batches, with their numbers."""
    for rows in in_order(examples.texts.lengths, READ_TOGETHER):
        # Windows of few different sizes, since each has to be made.
        yield rows, examples.batch(rows, window_length(len(rows)))


def reader_of(checkpoint: Checkpoint, threads: int | None) -> Reader:
    """The network of a model file."""
    reader = Reader(checkpoint.config, workers=Workers(threads))
    reader.load_tensors(checkpoint.tensors)
    return reader


def grown(initial: Checkpoint, fresh: dict[str, Array], characters: Array, **rows: Array) -> dict[str, Array]:
    """The weights of a model for other texts, of the same kind or one that writes.

    `characters` and, for other tensors by name, `rows` say where each known row goes; negative: nowhere. New
    rows, and all that the model does not have, come from `fresh`.
    """
    known, tensors, rows = initial.tensors, {}, {"embedding_weight": characters, **rows}
    if initial.config.kind == "writer":
        known = _both_ways(known)
    for name, value in fresh.items():
        own, places = known.get(name), rows.get(name.replace(".", "_"))
        if own is None or (own.shape[1:] != value.shape[1:] and not _is_one_hot(name, initial)):
            tensors[name] = value
        elif _is_one_hot(name, initial):
            tensors[name] = _moved(value.T, own.T, characters).T.copy()
        elif places is not None:
            tensors[name] = _moved(value, own, places)
        else:
            tensors[name] = own
    return tensors


def _is_one_hot(name: str, model: Checkpoint) -> bool:
    """Whether the columns of this tensor are those of characters."""
    return name.startswith("rnn.weight_ih_l0") and not model.config.embedding_size


def _moved(value: Array, known: Array, places: Array) -> Array:
    kept = (places >= 0) & (places < len(value))
    value[places[kept]] = known[: len(places)][kept]
    return value


def _both_ways(tensors: dict[str, Array]) -> dict[str, Array]:
    """The weights of an encoder whose two directions each read as a network that writes does."""
    found = {}
    for name, value in tensors.items():
        if name.startswith("rnn.weight_ih_l") and not name.endswith("_l0"):
            nothing = np.zeros_like(value)  # of what the other direction tells
            found[name] = np.concatenate([value, nothing], axis=1)
            found[f"{name}_reverse"] = np.concatenate([nothing, value], axis=1)
        elif name.startswith("rnn."):
            found[name] = found[f"{name}_reverse"] = value
        elif name.startswith("norm_l"):
            found[name] = np.concatenate([value, value])
        elif name == "embedding.weight":
            found[name] = value
    return found
