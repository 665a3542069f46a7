"""How well a model restores a text that it is given without what it restores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from charrnn.checkpoint.model_file import Checkpoint
from charrnn.config import TextConfig
from charrnn.nn.parameters import Array
from charrnn.tasks.evaluation import Evaluation
from charrnn.tasks.reading.task import batches_in_order
from charrnn.tasks.restoring.learning import Pieces, cluster_operations, stripped
from charrnn.tasks.restoring.restorer import INNER, Restorer
from charrnn.tasks.restoring.stripping import BREAKS, NOTHING, Operation, is_space
from charrnn.text.reading import read
from charrnn.vocabulary import END, code_points

TOGETHER = 1 << 16  # characters


@dataclass
class Retrieval:
    """How much of what a text has was put back, and how much of that is right."""

    there: int = 0
    put_back: int = 0
    right: int = 0  # of both

    @property
    def f1(self) -> float:
        """The harmonic mean of precision and recall; 1 if there is nothing, and nothing was put back."""
        both = self.there + self.put_back
        return 2 * self.right / both if both else 1.0


@dataclass
class Counts:
    """What came out right. Words are what spaces separate in the text itself."""

    right_characters: int = 0
    words: int = 0
    right_words: int = 0
    changed_words: int = 0  # of which something was stripped
    right_changed_words: int = 0
    characters: int = 0  # of the stripped text
    kinds: dict[str, Retrieval] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Restoration(Evaluation):
    """How well texts were restored; see Counts."""

    right_characters: int
    words: int
    right_words: int
    changed_words: int
    right_changed_words: int
    kinds: dict[str, Retrieval]


def measure(
    checkpoint: Checkpoint,
    paths: Sequence[str | Path],
    text: TextConfig,
    threads: int | None = None,
) -> tuple[Restoration, tuple[str, ...]]:
    """A model's figures over texts that it restores once they have been stripped, and notes.

    What it has never seen counts as wrong.
    """
    corpus = read(paths, text, expected=checkpoint.text.encoding)
    restorer = Restorer(checkpoint, threads)
    pieces = Pieces.of(stripped(corpus, checkpoint.columns[0], checkpoint.vocabulary), INNER)
    loss, known = 0.0, 0.0
    for _, batch in batches_in_order(pieces):
        losses = restorer.reader.losses(batch)
        loss += float((losses * batch.weights).sum(dtype=np.float64))
        known += float(batch.weights.sum())
    counts = Counts(kinds={kind: Retrieval() for kind in restorer.stripping.kinds})
    waiting = ""
    for piece in corpus.pieces():
        waiting += piece.replace(END, "\n")
        cut = waiting.rfind("\n") + 1
        if cut >= TOGETHER:
            _compare(waiting[:cut], restorer, counts)
            waiting = waiting[cut:]
    _compare(waiting, restorer, counts)
    share = counts.right_characters / max(1, counts.characters)
    return Restoration(loss / max(1.0, known), accuracy=share, **vars(counts)), corpus.notes


def _compare(text: str, restorer: Restorer, result: Counts) -> None:
    """Count what comes out right of whole lines."""
    text = text.removesuffix("\n")
    if not text:
        return
    restored = restorer.restore(restorer.stripping.strip(text))
    names: dict[str, int] = {}
    both = [code_points("\n" + t) for t in (text, restored)]
    clusters = [restorer.stripping.clusters(points) for points in both]
    sources = clusters[0].sources
    wanted, found = (
        cluster_operations(points, c.begins, restorer.stripping, names)
        for points, c in zip(both, clusters, strict=True)
    )
    right = wanted == found
    result.characters += len(sources) - 1
    result.right_characters += int(right[1:].sum())
    operations = [Operation.of(name) for name in names]
    has = restorer.stripping.has
    for kind, retrieval in result.kinds.items():
        if kind == "diacritics":
            parts = [operation.marks for operation in operations]
        elif kind == "case":
            parts = ["^" * operation.upper for operation in operations]
        else:
            parts = ["".join(c for c in operation.gap if has(kind, c)) for operation in operations]
        numbers = {part: n for n, part in enumerate(dict.fromkeys(["", *parts]))}  # 0: none
        table = np.array([numbers[part] for part in parts])
        there, put_back = table[wanted], table[found]
        retrieval.there += int(np.count_nonzero(there))
        retrieval.put_back += int(np.count_nonzero(put_back))
        retrieval.right += int(np.count_nonzero((there == put_back) & (there > 0)))
    apart = np.array([any(map(is_space, operation.gap)) for operation in operations])
    changed = np.array([name != NOTHING for name in names])
    _count_words(sources, right, changed[wanted], (apart[wanted], apart[found]), result)


def _count_words(
    sources: Array, right: Array, changed: Array, apart: tuple[Array, Array], result: Counts
) -> None:
    """Count the words that are right from end to end, and are cut where they are in the text.

    `apart`: whether a space follows what belongs to each source, in the text and in what was restored.
    """
    between = np.array([is_space(c) or c in BREAKS for c in map(chr, sources.tolist())])
    inside = ~between
    starts = inside & (np.roll(between, 1) | np.roll(apart[0], 1))
    begins = np.flatnonzero(starts)
    if not len(begins):
        return
    word = np.cumsum(starts) - 1  # of each source
    wrong = np.bincount(word[inside], weights=~right[inside], minlength=len(begins)) > 0
    cut_right = ~(apart[0] ^ apart[1])[begins - 1]  # sources begin with a line end
    good = ~wrong & cut_right
    differs = np.bincount(word[inside], weights=changed[inside], minlength=len(begins)) > 0
    result.words += len(begins)
    result.right_words += int(good.sum())
    result.changed_words += int(differs.sum())
    result.right_changed_words += int((good & differs).sum())
