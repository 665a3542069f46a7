"""Next-character distributions of many texts, and the probability of whole texts: for searches.

Log-probabilities are in nats, at temperature 1, without filters. They are the same to the bit for any number
of texts side by side, any number of threads, with or without the compiled loop: the result of a search
depends on the model alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from charrnn.checkpoint.model_file import Checkpoint
from charrnn.config import SampleConfig, WeightPrecision
from charrnn.errors import ConfigError
from charrnn.generation.beginning import opening
from charrnn.inference.engines import Cursor, Ids, LogProbabilities, Paths
from charrnn.inference.mixture import Blend, network_of

__all__ = ["Cursor", "Predictor", "size_of"]


class Predictor:
    """A model that reads many texts side by side.

    `end` is the id of the character that ends a record or, in prose, a line; -1: the model does not know it.
    """

    def __init__(
        self,
        checkpoint: Checkpoint | Blend,
        precision: WeightPrecision = "float32",
        threads: int | None = None,
    ) -> None:
        self.vocabulary = checkpoint.vocabulary
        self.text = checkpoint.text
        self.end = self.vocabulary.find(self.text.end or "\n")
        self._network = network_of(checkpoint, precision)
        self._paths = Paths(self._network, SampleConfig(), threads)
        self._predictions = 0

    def beginning(self) -> Cursor:
        """The cursor at the beginning of a document."""
        return Cursor(len(self.vocabulary), self._network.initial_state())

    def start(
        self, prompt: str = "", on_unknown: Literal["error", "skip"] = "error", *, line: bool = False
    ) -> Cursor:
        """The cursor after the prompt, read as for sampling.

        With `line`, a whole line or record begins there: in prose, an empty prompt is replaced by a newline.

        Raises:
            VocabularyError: the prompt has a character that the model has never seen.
        """
        prompt_ids = self.vocabulary.encode(prompt, on_unknown).astype(np.int64)
        if line and not (len(prompt_ids) or self.text.records or self.end < 0):
            prompt_ids = np.array([self.end], np.int64)
        ids = opening(self._network, self.vocabulary, prompt_ids, self.text.end)[1:]
        cursor = self.beginning()
        while len(ids):
            path = self._paths.best(len(ids) + self._predictions)
            path.read(cursor, ids[: path.longest(1)])
            ids = ids[path.longest(1) :]
        return cursor

    def predict(self, cursors: Sequence[Cursor]) -> LogProbabilities:
        """Let each text read its last character; returns log p of the next one, (texts, V).

        No record is empty: at its start, the end has -inf. The caller then sets
        `cursor.last` to the next character, before the cursor is used again.
        """
        self._predictions += len(cursors)
        # The engine is chosen by the work to come, here guessed to be as much as that done so far.
        found = self._paths.best(self._predictions).predict(cursors)
        if self.text.records:
            begins = [cursor.last == len(self.vocabulary) for cursor in cursors]
            found[begins, self.end] = -np.inf
        return found

    def score(self, starts: Sequence[Cursor], texts: Sequence[Ids]) -> list[float]:
        """log p of each text, given its start; the starts are not changed."""
        scores = [0.0] * len(texts)
        left = sorted((n for n in range(len(texts)) if len(texts[n])), key=lambda n: -len(texts[n]))
        cursors = {n: replace(starts[n]) for n in left}
        position = 0
        while left:
            found = self.predict([cursors[n] for n in left])
            for row, n in zip(found, left, strict=True):
                cursors[n].last = int(texts[n][position])
                scores[n] += float(row[cursors[n].last])
            position += 1
            while left and len(texts[left[-1]]) == position:
                left.pop()
        return scores

    def require_end(self) -> None:
        """
        Raises:
            ConfigError: the vocabulary has no newline, so that no line ever ends.
        """
        if self.end < 0:
            raise ConfigError("the model has never seen a line end", "use one that was trained on lines")


def size_of(state: Any) -> int:
    """Bytes of a network's state, tuples of arrays for a mixture."""
    return sum(map(size_of, state)) if isinstance(state, tuple) else int(state.nbytes)
