"""What comes next after each of many beginnings, and how probable a text is: for searches over texts.

Log-probabilities are in nats, at temperature 1, without filters. They are the same bits however many texts
are read side by side, on any number of threads, and with or without the compiled loop: a search depends on
nothing else than the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from charrnn.checkpoint.model_file import Checkpoint
from charrnn.config import SampleConfig, WeightPrecision
from charrnn.errors import ConfigError
from charrnn.generation.writing import network_of, opening
from charrnn.inference.engines import Cursor, Ids, LogProbabilities, Paths
from charrnn.inference.mixture import Blend

__all__ = ["Constraint", "Cursor", "Predictor"]


class Constraint(Protocol):
    """Which texts a search may find: an automaton over the model's ids.

    A state is any value that nobody changes; equal states allow the same texts from there on.
    """

    def start(self) -> object:
        """The state before the first character."""

    def allowed(self, state: object) -> npt.NDArray[np.bool_]:
        """(V + 1,): the characters that may come next, and at the end whether the text may end here.

        What it says of the line's end as a character does not matter.
        """

    def advance(self, state: object, character: int) -> object:
        """The state after an allowed character."""


class Predictor:
    """A model that reads many texts side by side. `newline` is the id of a line's end, or -1."""

    def __init__(
        self,
        checkpoint: Checkpoint | Blend,
        precision: WeightPrecision = "float32",
        threads: int | None = None,
    ) -> None:
        self.vocabulary = checkpoint.vocabulary
        self.lines = checkpoint.text.lines
        self.newline = self.vocabulary.characters.find("\n")
        self._network = network_of(checkpoint, precision)
        self._paths = Paths(self._network, SampleConfig(), threads)
        self._predictions = 0

    def beginning(self) -> Cursor:
        """Where a document stands of which nothing is known."""
        return Cursor(len(self.vocabulary), self._network.initial_state())

    def start(self, prompt: str = "", on_unknown: Literal["error", "skip"] = "error") -> Cursor:
        """Where a text stands that goes on from the prompt, as when it is sampled.

        Raises:
            VocabularyError: the prompt holds a character that the model has never seen.
        """
        ids = self.vocabulary.encode(prompt, on_unknown).astype(np.int64)
        return self._after(ids)

    def start_line(self, prompt: str = "", on_unknown: Literal["error", "skip"] = "error") -> Cursor:
        """The same for a whole line: one of prose begins after a line's end, if it has no prompt.

        Raises:
            VocabularyError: the prompt holds a character that the model has never seen.
        """
        ids = self.vocabulary.encode(prompt, on_unknown).astype(np.int64)
        if not (len(ids) or self.lines or self.newline < 0):
            ids = np.array([self.newline], np.int64)
        return self._after(ids)

    def _after(self, prompt: Ids) -> Cursor:
        read = opening(self._network, self.vocabulary, prompt, self.lines)
        cursor = self.beginning()
        self.read(cursor, read[1:])
        return cursor

    def read(self, cursor: Cursor, ids: Ids) -> None:
        """The text goes on with the characters (n,)."""
        while len(ids):
            path = self._paths.best(len(ids) + self._predictions)
            path.read(cursor, ids[: path.longest(1)])
            ids = ids[path.longest(1) :]

    def predict(self, cursors: Sequence[Cursor]) -> LogProbabilities:
        """Each text reads its last character: log p of what comes next, (texts, V).

        No line of a model of lines is empty: where one begins, its end has -inf. A text then goes on with
        `cursor.last` set to the next character. Until then it must not be read.
        """
        self._predictions += len(cursors)
        # How many are to come, nobody knows: as many again.
        found = self._paths.best(self._predictions).predict(cursors)
        if self.lines:
            begins = [cursor.last == len(self.vocabulary) for cursor in cursors]
            found[begins, self.newline] = -np.inf
        return found

    def score(self, starts: Sequence[Cursor], texts: Sequence[Ids]) -> list[float]:
        """log p of each text, given that it goes on from its start; none of these changes."""
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

    def require_line_end(self) -> None:
        """
        Raises:
            ConfigError: the model knows no line end, so that no line of it ends.
        """
        if self.newline < 0:
            raise ConfigError("the model has never seen a line end", "use one that was trained on lines")
