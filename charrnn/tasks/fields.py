"""Fields of records, which are read in another order in each epoch."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from charrnn.errors import TrainingError, quoted
from charrnn.text.batches import Reading
from charrnn.text.corpus import Corpus
from charrnn.text.documents import Documents
from charrnn.text.files.decoding import CHUNK
from charrnn.text.files.normalization import separating
from charrnn.vocabulary import IdArray

Positions = npt.NDArray[np.int64]


def shuffled(text: Reading, corpus: Corpus, separator: str, seed: int) -> Shuffled:
    """`text`, which reads pieces of a corpus of records, with the fields of each in another order.

    Raises:
        TrainingError: no record has a separator.
    """
    characters = separating(separator, corpus.text)
    ids = np.array([corpus.vocabulary.find(character) for character in characters])
    if ids.min() >= 0:
        found = Shuffled(text, corpus.documents, ids.astype(corpus.documents.ids.dtype), seed)
        if found.fields:
            return found
    raise TrainingError(
        f"no text has {quoted(separator)}, so there are no fields to shuffle",
        "give --shuffle-fields what stands between them",
    )


class Shuffled:
    """Records whose fields have another order in each epoch. Each record keeps its place and its length.

    Fields are what stands before, between and after separators. Their order is a pure function of the corpus,
    the seed and the epoch.
    """

    def __init__(self, text: Reading, documents: Documents, separator: IdArray, seed: int) -> None:
        """`text` reads pieces of the array that `documents`, all of the corpus, have."""
        self._text, self._ids, self._separator, self._seed = text, documents.ids[:], separator, seed
        ends = _occurrences(self._ids, np.array([documents.end]))
        found = np.zeros(0, np.int64)
        if documents.end not in separator:
            found = _apart(_occurrences(self._ids, separator), len(separator))
        starts = np.sort(np.concatenate([[0], ends[:-1] + 1, found + len(separator)]))
        stops = np.sort(np.concatenate([found, ends]))
        records = np.searchsorted(ends, starts)
        several = np.bincount(records, minlength=len(ends))[records] > 1
        self._starts, self._lengths = starts[several], (stops - starts)[several]  # of fields, (F,) each
        self._records = records[several]
        self.fields = len(self._starts)  # 0: no record has a separator

    def __len__(self) -> int:
        return len(self._text)

    def in_epoch(self, epoch: int) -> Documents:
        """What is read in this epoch: a pure function of it."""
        return replace(self._text.in_epoch(epoch), ids=self._shuffled(epoch))

    def _shuffled(self, epoch: int) -> IdArray:
        """The array with the fields in another order."""
        keys = np.random.default_rng([self._seed, epoch, 3]).integers(2**32, size=self.fields)
        order = np.argsort((self._records << 32) + keys, kind="stable")
        lengths = self._lengths[order]
        # A record's fields are as long as before, together, so where it begins does not change.
        begin = self._starts - _before(self._lengths + len(self._separator))
        starts = begin + _before(lengths + len(self._separator))
        ids: IdArray = self._ids.copy()
        about = np.arange(CHUNK, lengths.sum(), CHUNK)
        cuts = [0, *np.searchsorted(np.cumsum(lengths), about).tolist(), self.fields]
        for some in map(slice, cuts, cuts[1:]):  # so that the indices of characters take little memory
            counts = lengths[some]
            within = np.arange(counts.sum()) - np.repeat(_before(counts), counts)
            old = np.repeat(self._starts[order[some]], counts)
            ids[within + np.repeat(starts[some], counts)] = self._ids[within + old]
        stops = (starts + lengths)[:-1][self._records[1:] == self._records[:-1]]
        for n, part in enumerate(self._separator):
            ids[stops + n] = part
        return ids


def _before(lengths: Positions) -> Positions:
    """The sum of the lengths before each."""
    sums: Positions = np.cumsum(lengths) - lengths
    return sums


def _occurrences(ids: IdArray, word: IdArray) -> Positions:
    """Where the word occurs, (n,), overlapping itself, too."""
    places = [np.zeros(0, np.int64)]
    for low in range(0, len(ids) - len(word) + 1, CHUNK):
        part = ids[low : low + CHUNK + len(word) - 1]
        found = np.flatnonzero(part[: len(part) - len(word) + 1] == word[0])
        for n, character in enumerate(word[1:], 1):
            found = found[part[found + n] == character]
        places.append(found + low)
    return np.concatenate(places)


def _apart(places: Positions, length: int) -> Positions:
    """Of the places of a word, those that a reader finds who goes on after each."""
    if not (np.diff(places) < length).any():
        return places
    kept, free = [], 0
    for place in places.tolist():
        if place >= free:
            kept.append(place)
            free = place + length
    return np.array(kept, np.int64)
