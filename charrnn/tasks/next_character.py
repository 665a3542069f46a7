"""The next character: the texts, which part of them judges the model, and the windows that it learns from."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from charrnn.checkpoint.model_file import Checkpoint
from charrnn.config import ModelConfig, SampleConfig, TextConfig, TrainConfig
from charrnn.errors import ConfigError, TrainingError
from charrnn.events import Measure
from charrnn.generation.writing import generate_all
from charrnn.nn.learner import Learner
from charrnn.nn.network import Model, initial_tensors
from charrnn.nn.parameters import Array
from charrnn.nn.workers import Workers
from charrnn.tasks.evaluation import Evaluation, evaluate
from charrnn.text.corpus import Batches, Corpus, Inputs, corpus_name, read
from charrnn.text.sources import find
from charrnn.text.validation import split, unseen
from charrnn.vocabulary import Vocabulary, describe

LARGEST_MEASURED = 200_000  # characters, or twice the share that is kept for validation
MUCH_UNLEARNED = 0.002  # share of a validation text that training does not explain
PREVIEW = SampleConfig(seed=1, length=200)
PREVIEW_LINES = 5  # of a model of lines


@dataclass(frozen=True)
class TextFiles:
    """The files of a corpus, and perhaps those of a text of its own for validation; see task.Assignment."""

    paths: Sequence[str | Path]
    val: Sequence[str | Path] = ()
    previews: bool = False

    @property
    def name(self) -> str:
        return corpus_name(self.paths[0])

    @property
    def judged_apart(self) -> bool:
        return bool(self.val)

    def check(self, settings: Mapping[str, Any]) -> None:
        for name in ("val_fraction", "val_split"):
            if self.val and name in settings:
                option = f"--{name.replace('_', '-')}"
                raise ConfigError(
                    f"{option} cuts the corpus, --val names another text for validation",
                    "give one of them",
                )
        if "-" in map(str, self.val) and "-" in map(str, self.paths):
            raise ConfigError("standard input is both corpus and validation", "name a file for one of them")

    def files(self) -> list[tuple[str, Path | int]]:
        validation = find(self.val) if self.val else []
        return [
            *(("a file of the corpus", source.file) for source in find(self.paths)),
            *(("a text for validation", source.file) for source in validation),
        ]

    def read(self, text: TextConfig) -> Texts:
        corpus = read(self.paths, text)
        different = len(corpus.vocabulary)
        if not self.val:
            return Texts(corpus, None, different, self.previews)
        validation = read(self.val, corpus.text)
        texts = Texts(corpus, validation, different, self.previews)
        return texts.within(corpus.vocabulary.merged(validation.vocabulary))


@dataclass(frozen=True)
class Texts:
    """A corpus, and perhaps a text of its own for validation, in one vocabulary; see task.Material."""

    corpus: Corpus
    validation: Corpus | None = None
    different: int = 0  # characters in the corpus itself
    previews: bool = False

    @property
    def val_text(self) -> str:
        return "" if self.validation is None else self.validation.fingerprint()

    def fingerprint(self) -> str:
        return self.corpus.fingerprint()

    def within(self, vocabulary: Vocabulary) -> Texts:
        validation = self.validation and self.validation.with_vocabulary(vocabulary)
        return replace(self, corpus=self.corpus.with_vocabulary(vocabulary), validation=validation)

    def begin(
        self, model: ModelConfig, train: TrainConfig, initial: Checkpoint | None, workers: Workers
    ) -> tuple[NextCharacters, Learner]:
        task = NextCharacters(self, train)
        tensors = initial_tensors(model, train.seed)
        if initial is not None:
            tensors = _grown(initial, self.corpus.vocabulary, tensors)
        network = Model(model, workers=workers, bfloat16=train.precision == "bfloat16")
        network.load_tensors(tensors)
        return task, Learner(network, train, task.streams)


class NextCharacters:
    """Windows of several streams, in which each character follows from those before it.

    Without a text of its own for validation, a part of the corpus is kept from learning; see task.Task.
    """

    def __init__(self, texts: Texts, train: TrainConfig) -> None:
        self.texts = texts
        documents, vocabulary = texts.corpus.documents, texts.corpus.vocabulary
        text, validation = split(documents, train, vocabulary.characters.find("\n"))
        if texts.validation is not None:
            validation = texts.validation.documents
        if not len(text):
            raise TrainingError("no text is left for training", "give a smaller --val-fraction")
        batches = Batches(text, train.batch_size, train.seq_len, train.seed)
        self._validation, self._batches = validation, batches
        self.characters, self.val_characters = len(text), len(validation)
        self.batches, self.streams = batches.windows_per_epoch, batches.batch_size
        self.batch_characters = self.streams * batches.seq_len
        # With --lines, one line may be nearly all of the text: the only one, or one for validation.
        self.measured_on: Measure = "validation" if len(validation) else "training"
        share = round(2 * train.val_fraction * len(documents)) if len(validation) else 0
        most = max(LARGEST_MEASURED, share) if texts.validation is None else len(validation)
        self.measured = (validation if len(validation) else text).head(most)
        self.measured_characters = len(self.measured)
        self.preview: Callable[[Checkpoint], str] | None = _preview if texts.previews else None

    def batch(self, epoch: int, k: int) -> Inputs:
        return self._batches.window(epoch, k)

    def evaluate(self, network: Learner, stop: Callable[[], object]) -> Evaluation | None:
        return evaluate(network.model, self.measured, stop)

    def describe(self, model: Checkpoint) -> Generator[tuple[int, int], None, Checkpoint]:
        """With the index of the whole corpus, validation and all."""
        made, total = self.texts.corpus.novelty(), len(self.texts.corpus.documents)
        while True:
            try:
                done = next(made)
            except StopIteration as end:
                return replace(model, novelty=end.value)
            yield min(done, total), total

    def warnings(self, *, chosen: bool) -> Iterator[str]:
        if not self.val_characters:
            if not chosen:
                yield (
                    "the text is too short to keep a part of it for validation: nothing tells how well the "
                    "model does on new text (--val FILE names one)"
                )
            return
        corpus, apart = self.texts.corpus, self.texts.validation is not None
        new, share = unseen(corpus.documents, self._validation, apart=apart)
        if share > MUCH_UNLEARNED:
            such = ", ".join(describe(corpus.vocabulary.characters[n]) for n in new[:3])
            yield (
                f"{share:.1%} of the validation text are characters that the training text does not have "
                f"({such}{', ...' if len(new) > 3 else ''}): its loss says little about them"
            )


def _grown(initial: Checkpoint, vocabulary: Vocabulary, fresh: dict[str, Array]) -> dict[str, Array]:
    """The model's weights, with the rows of characters that it has not seen taken from `fresh`."""
    ids = initial.vocabulary.positions_in(vocabulary)
    tensors = {}
    for name, value in fresh.items():
        known = initial.tensors[name]
        if name in ("embedding.weight", "decoder.weight", "decoder.bias"):
            value[ids] = known
        elif name == "rnn.weight_ih_l0" and not initial.config.embedding_size:  # one-hot: by column
            value[:, ids] = known
        else:
            value = known
        tensors[name] = value
    return tensors


def _preview(model: Checkpoint) -> str:
    """What the network writes by now: the same draws each time, so that what changes is the network."""
    count = PREVIEW_LINES if model.text.lines else 1
    return "".join("".join(next(generate_all(model, "", PREVIEW, first=n))) for n in range(count))
