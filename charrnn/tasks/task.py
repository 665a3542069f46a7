"""The interfaces of tasks and networks, which are all that training knows of them.

An `Assignment` names the files of a task. Reading them gives `Material`, which together with settings gives a
`Task` and its `Network`. These two agree on the types of batches and carries, which a run only passes on.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

from charrnn.checkpoint.model_file import Checkpoint
from charrnn.config import Kind, ModelConfig, TextConfig, TrainConfig
from charrnn.events import Measure
from charrnn.labels import Columns, merged, sizes_of
from charrnn.nn.parameters import Array
from charrnn.nn.workers import Workers
from charrnn.tasks.evaluation import Evaluation
from charrnn.text.corpus import Corpus
from charrnn.vocabulary import Vocabulary

Batch = Any
Carry = Any  # the state of a network between two batches of an epoch; None at the beginning
Stop = Callable[[], str | None]

BESIDE: dict[Kind, str] = {
    "writer": "charrnn.counts.trial",
    "classifier": "charrnn.counts.learning.class_grams",
}


def beside(settings: Mapping[str, Any], kind: Kind = "writer") -> str | None:
    """The module that tries out the kernels of what stands beside a network; see compile_kernels."""
    return BESIDE.get(kind) if settings.get("counts") else None


class Network(Protocol):
    """A network that can be trained."""

    @property
    def updates(self) -> int:
        """The number of updates of the weights so far."""

    def compile(self) -> Iterator[tuple[int, int, bool]]:
        """Compile all that a step needs; see charrnn.nn.learning.compilation.compile_kernels."""

    def train_step(self, batch: Batch, carry: Carry, rate: float, step: int) -> tuple[float, float, Carry]:
        """Learn from a batch. Returns the loss, the gradient's norm before clipping, and the next carry.

        If the norm is not finite, the weights stay as they are. Randomness depends on the seed and `step`.
        """

    def exchange(self) -> bool:
        """Bring together what shards have learned apart since the last time, where they do.

        What is evaluated and saved is as it was then. False: a loss or gradient was not finite since.
        """

    def is_finite(self) -> bool:
        """Whether all weights are finite."""

    def averaged(self) -> AbstractContextManager[None]:
        """Within it, the weights are those that a model file gets, which may be means over many steps."""

    def tensors(self) -> dict[str, Array]:
        """Copies of the weights, as stored in a model file."""

    def state_dict(self, carry: Carry) -> dict[str, Array]:
        """All that further training depends on, except `updates`; to be written before the next step."""

    def load_state_dict(self, tensors: Mapping[str, Array], updates: int) -> Carry:
        """Continue from a `state_dict`. Returns the carry. KeyError, ValueError: it is of another network."""


class Task(Protocol):
    """The training batches of a network, and its evaluation.

    A batch is a pure function of the epoch and its number k < batches. An epoch begins without a carry.
    """

    batches: int  # per epoch
    batch_characters: int
    characters: int  # of the training text
    val_characters: int  # of the validation text; 0: there is none
    measured_on: Measure
    measured_characters: int  # in an evaluation
    preview: Callable[[Checkpoint], str] | None  # a sample of a model, to be shown; None: not wanted

    def batch(self, epoch: int, k: int) -> Batch: ...

    def evaluate(self, network: Any, stop: Stop) -> Evaluation | None:
        """The loss, by which the best model is chosen. None: `stop` ended it early."""

    def finished(self, model: Checkpoint) -> Checkpoint:
        """The model of the last evaluation as it is written, with what that found out about it."""

    def describe(self, model: Checkpoint) -> Generator[tuple[int, int], None, Checkpoint]:
        """The model with the description of its text for the file.

        Yields the numbers of characters done and in all; the caller may stop there.
        """

    def warnings(self, *, chosen: bool) -> Iterator[str]:
        """Messages about what is read, and where the loss is misleading.

        `chosen`: the user chose the validation part.
        """


@dataclass(frozen=True)
class Material:
    """The texts of a task, in one vocabulary, for any settings."""

    kind: ClassVar[Kind] = "writer"  # of networks

    corpus: Corpus
    validation: Corpus | None = None  # a separate text, if one was given
    different: int = 0  # distinct characters in the corpus; the vocabulary may have more

    @property
    def texts(self) -> int:
        """How many there are in the corpus: records or, without such, files."""
        return self.corpus.records() or len(self.corpus.documents.starts)

    def fingerprint(self) -> str:
        """The task and its corpus, as part of a run's fingerprint."""
        return self.corpus.fingerprint()

    def network(self, settings: dict[str, Any]) -> ModelConfig:
        """The configuration of a network for these texts, with the given settings."""
        corpus = self.corpus
        labels = sizes_of(corpus.columns)
        ends = corpus.text.split is not None
        return ModelConfig(corpus.vocab_size, **settings, ends=ends, labels=labels)

    def within(self, vocabulary: Vocabulary, columns: Columns = ()) -> Self:
        """The same in a vocabulary that has all its characters, and with the labels of these columns.

        Raises:
            VocabularyError: the vocabulary lacks a character.
        """
        corpora = (
            corpus and corpus.with_vocabulary(vocabulary).with_columns(columns)
            for corpus in (self.corpus, self.validation)
        )
        corpus, validation = corpora
        assert corpus is not None
        return replace(self, corpus=corpus, validation=validation)

    def beside(self, initial: Checkpoint) -> Self:
        """The same with all characters of the model to start from, and its labels if it is of this kind."""
        known = Vocabulary(initial.characters)
        columns = self.corpus.columns
        if initial.config.kind == self.kind:
            columns = merged(columns, initial.columns)
        return self.within(self.corpus.vocabulary.merged(known), columns)

    def lasting(self) -> dict[str, Array]:
        """What a resumed run has to know of the model that the run started from, beside its weights."""
        return {}

    def resumed(self, tensors: Mapping[str, Array]) -> Self:
        """The same with what `lasting` gave, among other tensors. ValueError: it is anything else."""
        return self

    def base(self) -> Checkpoint | None:
        """The model that comes with the program for such texts. None: there is none."""
        return None

    def begins_at(
        self, model: Checkpoint, network: dict[str, Any], train: TrainConfig, workers: Workers
    ) -> float | None:
        """The loss with which training would start from that model. None: that would not help.

        `network` are the settings of its network.
        """
        raise NotImplementedError

    def begin(
        self, model: ModelConfig, train: TrainConfig, initial: Checkpoint | None, workers: Workers
    ) -> tuple[Task, Network]:
        """The task, and a new network for it, or one with the weights of `initial`.

        Raises:
            TrainingError: there is nothing to learn from.
        """
        raise NotImplementedError


class Assignment(Protocol):
    """The files of a task, before anything is read."""

    @property
    def kind(self) -> Kind:
        """The kind of network that it is for."""

    @property
    def name(self) -> str:
        """The default name of the model file."""

    @property
    def judged_apart(self) -> bool:
        """Whether a separate text is given for validation."""

    def check(self, settings: Mapping[str, Any]) -> None:
        """ConfigError: it contradicts itself or the given settings."""

    def files(self) -> list[tuple[str, Path | int]]:
        """For each file, a description and its path, or the descriptor of standard input.

        Raises:
            CorpusError: a path names nothing that can be read.
        """

    def read(self, text: TextConfig) -> Material:
        """CorpusError: something cannot be read."""
