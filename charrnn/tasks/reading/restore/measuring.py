"""How well a model restores a text that it is given without what it restores."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from charrnn.nn.parameters import Array
from charrnn.tasks.reading.restore.learning import cluster_operations
from charrnn.tasks.reading.restore.restorer import Restorer
from charrnn.tasks.reading.restore.stripping import BREAKS, NOTHING, Operation, is_space
from charrnn.text.corpus import Corpus
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
class Restoration:
    """What came out right. Words are what spaces separate in the text itself."""

    characters: int = 0  # of the stripped text
    right_characters: int = 0
    words: int = 0
    right_words: int = 0
    changed_words: int = 0  # of which something was stripped
    right_changed_words: int = 0
    kinds: dict[str, Retrieval] = field(default_factory=dict)

    @property
    def figures(self) -> dict[str, float]:
        """All figures by name; shares are of 1."""
        shares = {
            "accuracy": (self.right_characters, self.characters),
            "word_accuracy": (self.right_words, self.words),
            "changed_word_accuracy": (self.right_changed_words, self.changed_words),
        }
        found: dict[str, float] = {name: part / (whole or 1) for name, (part, whole) in shares.items()}
        found |= {f"{kind}_f1": retrieval.f1 for kind, retrieval in self.kinds.items()}
        return found | {
            "characters": self.characters,
            "words": self.words,
            "changed_words": self.changed_words,
        }


def measure(
    restorer: Restorer, corpus: Corpus, report: Callable[[float], None] = lambda share: None
) -> Restoration:
    """Strip a corpus, restore it, and compare."""
    result = Restoration(kinds={kind: Retrieval() for kind in restorer.stripping.kinds})
    waiting, done = "", 0
    for piece in corpus.pieces():
        waiting += piece.replace(END, "\n")
        done += len(piece)
        cut = waiting.rfind("\n") + 1
        if cut >= TOGETHER:
            _compare(waiting[:cut], restorer, result)
            waiting = waiting[cut:]
            report(done / len(corpus.documents))
    _compare(waiting, restorer, result)
    return result


def _compare(text: str, restorer: Restorer, result: Restoration) -> None:
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
    sources: Array, right: Array, changed: Array, apart: tuple[Array, Array], result: Restoration
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
