"""The base model, which knows English prose, and what it knows of a text before it has learned it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from charrnn.checkpoint.model_file import Checkpoint, bundled, load
from charrnn.config import TrainConfig
from charrnn.counts.building import learned
from charrnn.counts.compiled import CompiledLookup
from charrnn.nn.network import Model, initial_tensors
from charrnn.nn.workers import Workers
from charrnn.tasks.counting import parted
from charrnn.tasks.evaluation import evaluate
from charrnn.tasks.next_character import Texts, grown
from charrnn.text.corpus import Documents
from charrnn.text.validation import split

NAME = "english"
READ = 1_000_000  # characters of a text that are compared, at most
SAMPLE, SHARE = 10_000, 0.2  # characters that both predict, at most, and their share
MARGIN = 0.3  # nats
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


def base() -> Checkpoint | None:
    """The base model that comes with the program. None: this installation has none."""
    path = bundled(NAME)
    return None if path is None else load(path)


def compared(
    base: Checkpoint, texts: Texts, train: TrainConfig, network: dict[str, Any], workers: Workers
) -> Comparison | None:
    """What the base model makes of a text, and what counts do. None: it has other characters, or few.

    `network` are the settings of the base model's network; `train` says what is kept for validation, which is
    not read.
    """
    both = texts.beside(base)
    corpus = both.corpus
    own, _ = split(corpus.documents, train, corpus.vocabulary.find("\n"))
    own = own.head(READ)
    if len(own) < LEAST or _foreign(base, both, own) > FOREIGN:
        return None
    wanted = int(min(SAMPLE, SHARE * len(own)))
    rest, sample = parted(own, wanted, np.random.default_rng([train.seed, 5]), corpus.vocabulary.find("\n"))
    config = both.network(network)
    model = Model(config, workers=workers)
    model.load_tensors(grown(base, corpus, initial_tensors(config, train.seed)))
    begun = evaluate(model, sample)
    chances, _ = CompiledLookup(learned(rest)).score(sample, 0, len(sample), features=False)
    assert begun is not None
    return Comparison(begun.loss, float(-np.log(chances).mean()))


def _foreign(base: Checkpoint, texts: Texts, text: Documents) -> float:
    """The share of a text's characters that are new to the base model."""
    known = base.vocabulary.positions_in(texts.corpus.vocabulary)
    is_new = np.ones(text.vocab_size, np.bool_)
    is_new[known[known >= 0]] = False
    if text.end >= 0:
        is_new[text.end] = False
    return float(is_new[text.at(np.arange(min(len(text), SAMPLE)))].mean())
