"""Starting from a model: its weights for other characters, and whether the base model of English helps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from charrnn.checkpoint.library import bundled
from charrnn.checkpoint.model_file import Checkpoint, load
from charrnn.config import ModelConfig, TrainConfig
from charrnn.counts.compiled import CompiledLookup
from charrnn.counts.learning.building import learned
from charrnn.counts.learning.merging import EarlierCounts
from charrnn.labels import places_among
from charrnn.nn.network import Model, initial_tensors
from charrnn.nn.parameters import Array
from charrnn.nn.workers import Workers
from charrnn.tasks.counting import parted
from charrnn.tasks.evaluation import evaluate
from charrnn.text.corpus import Corpus
from charrnn.text.documents import Documents
from charrnn.text.validation import split

NAME = "english"
READ = 1_000_000  # characters of a text that are compared, at most
SAMPLE, SHARE = 10_000, 0.2  # characters that both predict, at most, and their share
# Nats. The base began 0.6 above counts on a million characters of Shakespeare, and helped; 2.2 on program
# code, 3.5 on names.
MARGIN = 0.9
LEAST = 1_000  # characters that a comparison needs
FOREIGN = 0.02  # the share of characters that the base has never seen, beyond which it is of no use


@dataclass(frozen=True, slots=True)
class Comparison:
    """The losses of the same part of a text, in nats a character."""

    base: float  # of the base model, which has not learned from the text
    counts: float  # of counts of the rest

    @property
    def helps(self) -> bool:
        """Whether training should start from the base model."""
        return self.base < self.counts + MARGIN


def model() -> Checkpoint | None:
    """The base model that comes with the program. None: this installation has none."""
    path = bundled(NAME)
    return None if path is None else load(path)


def compared(
    base: Checkpoint, corpus: Corpus, config: ModelConfig, seed: int, workers: Workers
) -> Comparison | None:
    """What the base model makes of a text, and what counts do. None: it has other characters, or few.

    `corpus` has the characters of both, and `config` is the base model's network for these.
    """
    own = corpus.documents
    if len(own) < LEAST or _foreign(base, corpus, own) > FOREIGN:
        return None
    wanted = int(min(SAMPLE, SHARE * len(own)))
    rest, sample = parted(own, wanted, np.random.default_rng([seed, 5]), corpus.vocabulary.find("\n"))
    model = Model(config, workers=workers)
    model.load_tensors(grown(base, corpus, initial_tensors(config, seed)))
    begun = evaluate(model, sample)
    chances, _ = CompiledLookup(learned(rest)).score(sample, 0, len(sample), features=False)
    assert begun is not None
    return Comparison(begun.loss, float(-np.log(chances).mean()))


def excerpt(documents: Documents, train: TrainConfig, newline: int) -> Documents:
    """The beginning of what is not kept for validation, in an array of its own, without labels."""
    own, _ = split(documents, train, newline)
    own = own.head(READ)
    ids = own.at(np.arange(len(own)))
    return Documents(ids, own.vocab_size, own.starts, own.end, cuts=own.cuts)


def _foreign(base: Checkpoint, corpus: Corpus, text: Documents) -> float:
    """The share of a text's characters that are new to the base model."""
    known = base.vocabulary.positions_in(corpus.vocabulary)
    is_new = np.ones(text.vocab_size, np.bool_)
    is_new[known[known >= 0]] = False
    if text.end >= 0:
        is_new[text.end] = False
    return float(is_new[text.at(np.arange(min(len(text), SAMPLE)))].mean())


def earlier_counts(initial: Checkpoint, corpus: Corpus) -> EarlierCounts | None:
    """The counts of a model to start from, and what its symbols are in the corpus.

    None: there are none, or they are those of bytes, and the corpus has characters, or the other way around.
    """
    if initial.counts is None or initial.text.bytes != corpus.text.bytes:
        return None
    counts, gate, V = initial.counts.counts, initial.counts.gate, corpus.vocab_size
    labels = np.full(sum(counts.labels), -1)  # also those that a file has without their names
    if initial.columns:
        places = places_among(initial.columns, corpus.columns)
        labels = np.where(places < 0, -1, V + 1 + places)
    characters = initial.vocabulary.positions_in(corpus.vocabulary)
    return EarlierCounts(counts, gate, np.concatenate([characters, [V], labels]).astype(np.int64))


def grown(initial: Checkpoint, corpus: Corpus, fresh: dict[str, Array]) -> dict[str, Array]:
    """The model's weights for other characters and labels: the rows of new ones come from `fresh`.

    Only one of the two may predict the end of a text.
    """
    ids = initial.vocabulary.positions_in(corpus.vocabulary)
    own = {column.name: (n, column) for n, column in enumerate(initial.columns)}

    def grow(value: Array, known: Array) -> Array:
        new = ids[: len(known)]
        kept = (new >= 0) & (new < len(value))
        value[new[kept]] = known[kept]
        return value

    tensors = {}
    for name, value in fresh.items():
        if name.startswith("label."):
            _, number, layer = name.split(".")
            column = corpus.columns[int(number)]
            if column.name in own:
                n, old = own[column.name]
                value[old.positions_in(column)[:-1]] = initial.tensors[f"label.{n}.{layer}"]
            tensors[name] = value
            continue
        known = initial.tensors[name]
        if name in ("embedding.weight", "decoder.weight", "decoder.bias"):
            value = grow(value, known)
        elif name == "rnn.weight_ih_l0" and not initial.config.embedding_size:  # one-hot: by column
            value = grow(value.T, known.T).T
        else:
            value = known
        tensors[name] = value
    return tensors
