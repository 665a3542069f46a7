"""The interfaces of tasks and networks, by which training knows them.

An `Assignment` names what is to be learned; read, it is `Material`, which with some settings gives a `Task`
and the `Network` for it. Both agree on what a batch and a carry are; a run only hands them on.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, Self

from charrnn.checkpoint.model_file import Checkpoint
from charrnn.config import ModelConfig, TextConfig, TrainConfig
from charrnn.events import Measure
from charrnn.nn.parameters import Array
from charrnn.nn.workers import Workers
from charrnn.tasks.evaluation import Evaluation
from charrnn.text.corpus import Corpus
from charrnn.vocabulary import Vocabulary

Batch = Any
Carry = Any  # what a network remembers from one batch of an epoch to the next; None: nothing yet
Stop = Callable[[], str | None]


class Network(Protocol):
    """A network that learns, on one machine or on several."""

    @property
    def updates(self) -> int:
        """How often the weights were changed."""

    def compile(self) -> Iterator[tuple[int, int, bool]]:
        """Compile what a step calls; see charrnn.nn.compilation.compile_kernels."""

    def train_step(self, batch: Batch, carry: Carry, rate: float, step: int) -> tuple[float, float, Carry]:
        """Learn from a batch. The loss, the gradient's norm before clipping, and the next carry.

        Nothing changes where the norm is not finite. Randomness comes from the run's seed and `step`.
        """

    def is_finite(self) -> bool:
        """Whether all weights are numbers."""

    def tensors(self) -> dict[str, Array]:
        """Copies of the weights, as a model file has them."""

    def state_dict(self, carry: Carry) -> dict[str, Array]:
        """All that decides how it goes on, but for `updates`; to be written before the next step."""

    def load_state_dict(self, tensors: Mapping[str, Array], updates: int) -> Carry:
        """Go on where `state_dict` was called. KeyError, ValueError: it is that of another network."""


class Task(Protocol):
    """The batches that a run feeds to its network, and the measure of what is learned from them.

    A batch is a pure function of the epoch and its number k < batches. An epoch begins without a carry.
    """

    batches: int  # of an epoch
    batch_characters: int
    characters: int  # that there are to learn from
    val_characters: int  # kept from learning; 0: there are none
    measured_on: Measure
    measured_characters: int  # by an evaluation
    preview: Callable[[Checkpoint], str] | None  # what such a model makes, for people; None: not asked for

    def batch(self, epoch: int, k: int) -> Batch: ...

    def evaluate(self, network: Any, stop: Stop) -> Evaluation | None:
        """The loss, whose lowest makes a model the best. None: `stop` said so in the middle."""

    def describe(self, model: Checkpoint) -> Generator[tuple[int, int], None, Checkpoint]:
        """The model with all that its file says of what was read.

        Yields how many characters are done, of how many; it can be left there.
        """

    def warnings(self, *, chosen: bool) -> Iterator[str]:
        """Lines for people where the loss says less than it seems to. `chosen`: they chose what is kept."""


@dataclass(frozen=True)
class Material:
    """The texts of a task, in one vocabulary, for any settings."""

    corpus: Corpus
    validation: Corpus | None = None  # a separate text, if one was given
    different: int = 0  # distinct characters in the corpus; the vocabulary may have more

    def fingerprint(self) -> str:
        """The task and its corpus, as part of a run's fingerprint."""
        return self.corpus.fingerprint()

    def within(self, vocabulary: Vocabulary) -> Self:
        """The same in a vocabulary that has all its characters. VocabularyError: it has not."""
        validation = self.validation and self.validation.with_vocabulary(vocabulary)
        return replace(self, corpus=self.corpus.with_vocabulary(vocabulary), validation=validation)

    def begin(
        self, model: ModelConfig, train: TrainConfig, initial: Checkpoint | None, workers: Workers
    ) -> tuple[Task, Network]:
        """The task, and a new network for it, or one that has the weights of `initial`.

        Raises:
            TrainingError: there is nothing to learn from.
        """
        raise NotImplementedError


class Assignment(Protocol):
    """The files of a task, before anything is read."""

    @property
    def name(self) -> str:
        """Of the model file, where none is given."""

    @property
    def judged_apart(self) -> bool:
        """Whether a text of its own says which model is the best."""

    def check(self, settings: Mapping[str, Any]) -> None:
        """ConfigError: it contradicts itself or the settings that were given."""

    def files(self) -> list[tuple[str, Path | int]]:
        """For each file its role in words, and its path, or the descriptor of standard input.

        Raises:
            CorpusError: a path names nothing that can be read.
        """

    def read(self, text: TextConfig) -> Material:
        """CorpusError: something cannot be read."""
