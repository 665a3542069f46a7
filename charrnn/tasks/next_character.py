"""Predicting the next character: the texts, their validation part, and the windows for training."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar, Self

from charrnn.checkpoint.model_file import Checkpoint
from charrnn.config import Kind, ModelConfig, SampleConfig, TextConfig, TrainConfig
from charrnn.counts.learning.merging import EarlierCounts
from charrnn.errors import ConfigError, TrainingError, printable
from charrnn.events import Measure
from charrnn.generation.writing import generate_all
from charrnn.inference.mixed_model import AnyNetwork
from charrnn.labels import sizes_of
from charrnn.nn.learning.learner import Learner
from charrnn.nn.learning.learners import learner_of
from charrnn.nn.network import Model, initial_tensors
from charrnn.nn.parameters import Array
from charrnn.nn.workers import Workers
from charrnn.ranks.ranks import ALONE, Ranks
from charrnn.tasks import base
from charrnn.tasks.base import earlier_counts, grown
from charrnn.tasks.counting import Counting, set_aside
from charrnn.tasks.evaluation import Evaluation, evaluate
from charrnn.tasks.fields import shuffled
from charrnn.tasks.files import Files
from charrnn.tasks.shares import Weighted, joined
from charrnn.tasks.task import Material, beside
from charrnn.text.batches import Batches, Reading
from charrnn.text.documents import Documents
from charrnn.text.reading import read_together
from charrnn.text.validation import split, split_parts, unseen
from charrnn.vocabulary import describe

LARGEST_MEASURED = 200_000  # characters, or twice the validation share
MUCH_UNLEARNED = 0.002  # share of unseen characters in a validation text
PREVIEW = SampleConfig(seed=1, length=200)
PREVIEW_RECORDS = 5  # of a model of lines or other records


@dataclass(frozen=True)
class TextFiles(Files):
    """The files of a corpus, and perhaps those of a separate text for validation; see task.Assignment."""

    kind: ClassVar[Kind] = "writer"
    previews: bool = False
    ranks: Ranks = ALONE  # which share the texts out

    def check(self, settings: Mapping[str, Any]) -> None:
        super().check(settings)
        shares = settings.get("shares")
        if shares is not None and len(shares) != len(self.paths):
            raise ConfigError(
                f"there are {len(shares)} shares for {len(self.paths)} paths", "give one for each"
            )

    def read(self, text: TextConfig) -> Texts:
        corpus = read_together(self.ranks, self.paths, text)
        vocabulary, validation = corpus.vocabulary, None
        if self.val:
            # What is rare is what is rare in the corpus; a label of the validation text alone is not learnt.
            known: dict[str, Any] = {}
            if vocabulary.unknown >= 0:
                known["vocabulary"] = vocabulary
            if corpus.columns:
                known["columns"] = corpus.columns
            held_out = replace(corpus.text, min_count=1)
            validation = read_together(self.ranks, self.val, held_out, **known)
            vocabulary = vocabulary.merged(validation.vocabulary)
        texts = Texts(corpus, validation, corpus.vocab_size, tuple(map(str, self.paths)), self.previews)
        return texts.within(vocabulary, corpus.columns)


@dataclass(frozen=True)
class Texts(Material):
    """A corpus, and perhaps a separate text for validation."""

    names: tuple[str, ...] = ()  # the paths of the corpus
    previews: bool = False
    earlier: EarlierCounts | None = None  # of the model to start from

    def beside(self, initial: Checkpoint) -> Self:
        found = super().beside(initial)
        return replace(found, earlier=earlier_counts(initial, found.corpus))

    def lasting(self) -> dict[str, Array]:
        return {} if self.earlier is None else self.earlier.tensors()

    def resumed(self, tensors: Mapping[str, Array]) -> Self:
        return replace(self, earlier=EarlierCounts.from_tensors(tensors))

    def base(self) -> Checkpoint | None:
        return base.model()

    def begins_at(
        self, model: Checkpoint, network: dict[str, Any], train: TrainConfig, workers: Workers
    ) -> float | None:
        documents = base.excerpt(self.corpus.documents, train, self.corpus.vocabulary.find("\n"))
        part = replace(self, corpus=replace(self.corpus, documents=documents), validation=None).beside(model)
        found = base.compared(model, part.corpus, part.network(network), train.seed, workers)
        return found.base if found is not None and found.helps else None

    def begin(
        self, model: ModelConfig, train: TrainConfig, initial: Checkpoint | None, workers: Workers
    ) -> tuple[NextCharacters, Learner[Model]]:
        task = NextCharacters(self, train)
        tensors = initial_tensors(model, train.seed)
        if initial is not None:
            tensors = grown(initial, self.corpus, tensors)
        network = Model(model, workers=workers, bfloat16=train.precision == "bfloat16")
        network.load_tensors(tensors)
        return task, learner_of(network, train, task.streams, beside(asdict(train)))


class NextCharacters:
    """Windows over several streams, in which each character is predicted from those before it.

    Without a separate text for validation, a part of the corpus is held out; see task.Task.
    """

    def __init__(self, texts: Texts, train: TrainConfig) -> None:
        self.texts = texts
        parts, self._weighted = _parts(texts, train), None
        self._counting: Counting | None = None
        self._most_bytes, self._aside = round(train.counts * 1e6), texts.corpus.documents.head(0)
        if train.counts:
            parts, self._aside = _without_aside(parts, train.seed, texts.corpus.vocabulary.find("\n"))
        self._own = [own for _, own, _ in parts]
        _, first, validation = parts[0]
        text: Reading = first
        if train.shares is not None:
            text = self._weighted = Weighted(self._own, train.shares)
            validation = joined(texts.corpus.documents, ((held, 0, len(held), 1) for *_, held in parts))
        if texts.validation is not None:
            validation = texts.validation.documents
        if not len(text):
            raise TrainingError("no text is left for training", "give a smaller --val-fraction")
        if train.shuffle_fields is not None:
            text = shuffled(text, texts.corpus, train.shuffle_fields, train.seed)
        batches = Batches(text, train.batch_size, train.seq_len, train.seed)
        self._validation, self._batches, self._label_dropout = validation, batches, train.label_dropout
        self.characters, self.val_characters = len(text), len(validation)
        self.batches, self.streams = batches.windows_per_epoch, batches.batch_size
        self.batch_characters = self.streams * batches.seq_len
        self.measured_on: Measure = "validation" if len(validation) else "training"
        shares = train.shares or (1.0,)
        self.measured = [
            (name, share, _measured(own, held, train, self.measured_on, LARGEST_MEASURED // len(parts)))
            for share, (name, own, held) in zip(shares, parts, strict=True)
        ]
        if texts.validation is not None:
            self.measured = [("", 1.0, validation)]
        self.measured_characters = sum(len(part) for *_, part in self.measured)
        self.preview: Callable[[Checkpoint], str] | None = _preview if texts.previews else None

    def batch(self, epoch: int, k: int) -> tuple[Array | None, ...]:
        return *self._batches.window(epoch, k), self._batches.labels(epoch, k, self._label_dropout)

    def evaluate(self, network: Learner[Model], stop: Callable[[], object]) -> Evaluation | None:
        weighted, own, weights, parts = 0.0, 0.0, 0.0, []
        model: AnyNetwork = network.model
        if self._counting is not None:
            mixed = self._counting.beside(network.model)
            # Of text that it was taken from, counts tell too much.
            model = mixed if self.measured_on == "validation" else network.model
        for name, share, part in self.measured:
            if not len(part):
                continue
            found = evaluate(model, part, stop)
            if found is None:
                return None
            weighted, weights = weighted + share * found.loss, weights + share
            own += share * (found.loss if found.network_loss is None else found.network_loss)
            parts.append((name, found.loss))
        named = () if len(self.measured) == 1 else tuple(parts)
        alone = None if model is network.model else own / weights
        return Evaluation(weighted / weights, self.measured_characters, parts=named, network_loss=alone)

    def finished(self, model: Checkpoint) -> Checkpoint:
        return model if self._counting is None else replace(model, counts=self._counting.gated)

    def describe(self, model: Checkpoint) -> Generator[tuple[int, int], None, Checkpoint]:
        """The model with the novelty index of the whole corpus, including the validation part, and counts."""
        if self._most_bytes:
            own = joined(self.texts.corpus.documents, ((own, 0, len(own), 1) for own in self._own))
            labels = sizes_of(self.texts.corpus.columns)
            newline, earlier = self.texts.corpus.vocabulary.find("\n"), self.texts.earlier
            self._counting = Counting(
                own, self._aside, self._most_bytes, labels, earlier=earlier, newline=newline
            )
            model = replace(model, counts=self._counting.gated)
        made, total = self.texts.corpus.novelty(), len(self.texts.corpus.documents)
        try:
            while True:
                yield min(next(made), total), total
        except StopIteration as end:
            return replace(model, novelty=end.value)

    def warnings(self, *, chosen: bool) -> Iterator[str]:
        corpus, apart = self.texts.corpus, self.texts.validation is not None
        if self._most_bytes and self.texts.earlier is not None:
            yield (
                "the counts of the model to start from are merged with those of this text where that "
                "helps: the new model may hold pieces of both texts"
            )
        if self._weighted is not None:
            rows = zip(self.texts.names, self._weighted.times, self._weighted.shares, strict=True)
            each = [f"{name} {times:,.3g} times ({share:.1%})" for name, times, share in rows]
            yield f"shares: an epoch reads {', '.join(each)}"
            for name, _, part in self.measured if self.val_characters else ():
                if not len(part):
                    yield f"no part of {name} can be kept for validation: nothing tells its loss"
        if not self.val_characters:
            if corpus.text.split is not None and corpus.records() == 1:
                yield (
                    "there is a single text, so none can be kept for validation: nothing tells how well the "
                    "model does on new ones (--val FILE names some)"
                )
            elif not chosen:
                yield (
                    "the text is too short to keep a part of it for validation: nothing tells how well the "
                    "model does on new text (--val FILE names one)"
                )
            return
        new, share = unseen(corpus.documents, self._validation, apart=apart)
        if share > MUCH_UNLEARNED:
            such = ", ".join(describe(corpus.vocabulary.characters[n]) for n in new[:3])
            yield (
                f"{share:.1%} of the validation text are characters that the training text does not have "
                f"({such}{', ...' if len(new) > 3 else ''}): its loss says little about them"
            )


def _parts(texts: Texts, train: TrainConfig) -> list[tuple[str, Documents, Documents]]:
    """The parts of a corpus with shares, or all of it: the name, what is learned, and what is held out."""
    corpus, names = texts.corpus, texts.names
    newline = corpus.vocabulary.find("\n")
    if train.shares is None:
        names, both = ("",), [split(corpus.documents, train, newline)]
    else:
        bounds = [*corpus.parts, len(corpus.documents)]
        for name, low, high in zip(names, bounds, bounds[1:], strict=False):
            if low == high:
                raise TrainingError(f"{printable(name)} holds no text to be read", "leave it out")
        both = split_parts(corpus.documents, bounds, train, newline)
    if corpus.documents.labels is not None and corpus.documents.end >= 0:
        # Files are often sorted by label. After 900 steps on such names, the loss of held-out ones was
        # 2.75 bits a character, and 2.61 where they were shuffled.
        both = [(own.shuffled(train.seed), held) for own, held in both]
    return [(name, *documents) for name, documents in zip(names, both, strict=True)]


def _without_aside(
    parts: list[tuple[str, Documents, Documents]], seed: int, newline: int
) -> tuple[list[tuple[str, Documents, Documents]], Documents]:
    """The parts without what is set aside of what is learned, and that of all of them."""
    found, aside = [], []
    for name, own, held in parts:
        rest, kept = set_aside(own, seed, newline)
        found.append((name, rest, held))
        aside.append((kept, 0, len(kept), 1))
    return found, joined(parts[0][1], aside)


def _measured(own: Documents, held: Documents, train: TrainConfig, on: Measure, most: int) -> Documents:
    """The text of a part over which the loss is measured: of a long one, the beginning."""
    if on == "training":
        return own.head(most)
    # With --lines, a single line, for training or validation, may be nearly all of the text.
    return held.head(max(most, round(2 * train.val_fraction * (len(own) + len(held)))))


def _preview(model: Checkpoint) -> str:
    """A sample of the network. The draws are the same each time, so only the network makes a difference."""
    count = PREVIEW_RECORDS if model.text.records else 1
    texts = generate_all(model, "", PREVIEW, count=count)
    return "".join("".join(pieces) + model.text.separator for pieces in texts)
