"""Suggestions for a text that is being typed: the likely continuation, and the next characters."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from charrnn.checkpoint.model_file import Checkpoint
from charrnn.config import WeightPrecision
from charrnn.inference.mixture import Blend, network_of
from charrnn.search.predictor import Cursor, Predictor, size_of
from charrnn.text.files.normalization import as_trained

if TYPE_CHECKING:
    from charrnn.generation.learning import LearningNetwork

KEPT = 2**27  # bytes of states after the last characters: elsewhere, a text that changes is read anew
LONGEST = 40  # characters of a continuation
CHOICES = 8  # next characters with their probabilities


@dataclass(frozen=True, slots=True)
class Offer:
    """What may follow a text."""

    # The most probable character, repeatedly, up to a newline or END; that alone if it comes first.
    continuation: str
    next: tuple[tuple[str, float], ...]  # the most probable next characters and their probabilities

    @property
    def word(self) -> str:
        """The continuation up to the end of its first word."""
        start = len(self.continuation) - len(self.continuation.lstrip())
        words = self.continuation[start:].split(maxsplit=1)
        return self.continuation[: start + len(words[0])] if words else self.continuation


class Offers:
    """The offers for a text that changes between calls, mostly at its end.

    Characters that the model has never seen are skipped. A model of lines reads the last line only. If it is
    `adaptive`, offers follow what was accepted; see charrnn.generation.learning.
    """

    def __init__(
        self,
        checkpoint: Checkpoint | Blend,
        precision: WeightPrecision = "float32",
        *,
        adaptive: bool = False,
    ) -> None:
        self._predictor = Predictor(checkpoint, precision, threads=1)
        self._learning: LearningNetwork | None = None
        if adaptive:
            from charrnn.counts.growing import GrowingCounts
            from charrnn.generation.learning import LearningNetwork

            counts = GrowingCounts(checkpoint.vocabulary, checkpoint.text)
            self._learning = LearningNetwork(network_of(checkpoint, precision), counts)
        self._read: list[int] = []  # the ids of the text
        # At the beginning, and after each id: the state, and log p (V,) of the next character, or None where
        # they are no longer kept.
        self._after: list[Any] = []

    def unknown(self, text: str) -> str:
        """The characters of the text that the model has never seen, in order, each once."""
        text = as_trained(text, self._predictor.text)
        return "".join(dict.fromkeys(c for c in text if c not in self._predictor.vocabulary))

    def accept(self, text: str, *, ended: bool = False) -> None:
        """Learn the text, if this is wanted: all of it that goes beyond what was accepted last.

        With `ended`, it was complete, and the next is another one.
        """
        if self._learning is None:
            return
        predictor = self._predictor
        ids = predictor.vocabulary.encode(as_trained(text, predictor.text), "skip").tolist()
        if ended and predictor.text.records:
            ids.append(predictor.end)
        self._learning.learn([len(predictor.vocabulary), *ids])
        if ended:
            self._learning.forget_beginning()

    def after(self, text: str) -> Offer:
        """What may follow the text."""
        if self._predictor.text.lines:
            text = text.rpartition("\n")[2]
        text = as_trained(text, self._predictor.text)
        ids = self._predictor.vocabulary.encode(text, "skip").tolist()
        cursor, row = self._go_to(ids)
        row = self._told(row, ids)
        characters = self._predictor.vocabulary.characters
        order = np.argsort(-row, kind="stable")[:CHOICES].tolist()
        choices = tuple((characters[c], float(np.exp(row[c]))) for c in order)
        return Offer(self._continuation(cursor, row, ids), choices)

    def _told(self, row: Any, ids: list[int]) -> Any:
        """log p (V,) after these characters, from the network's own."""
        return row if self._learning is None else self._learning.told_after(row, ids)

    def _go_to(self, ids: list[int]) -> tuple[Cursor, Any]:
        """The cursor after these characters; the prefix shared with the last call is not read again."""
        if not ids:  # read as an empty prompt of sampling, where prose begins with a sentence
            start = self._predictor.start()
            return start, self._predictor.predict([start])[0]
        same = 0
        while same < min(len(ids), len(self._read)) and ids[same] == self._read[same]:
            same += 1
        if self._after and self._after[same] is None:
            same, self._after = 0, []
        del self._read[same:], self._after[same + 1 :]
        if not self._after:
            # START alone, even in prose: a text that is given is read as it stands.
            start = self._predictor.beginning()
            row = self._predictor.predict([start])[0]
            self._after.append((start.state, row))
        for character in ids[same:]:
            cursor = Cursor(character, self._after[-1][0])
            row = self._predictor.predict([cursor])[0]
            self._read.append(character)
            self._after.append((cursor.state, row))
            if len(self._after) > (most := max(1, KEPT // size_of(cursor.state))):
                self._after[-1 - most] = None
        state, row = self._after[-1]
        return Cursor(ids[-1], state), row

    def _continuation(self, cursor: Cursor, row: Any, ids: list[int]) -> str:
        cursor, ends = replace(cursor), {self._predictor.end, self._predictor.vocabulary.find("\n")}
        found: list[int] = []
        while len(found) < LONGEST and not ends.intersection(found):
            best = int(np.argmax(row))
            if best in ends and found:
                break
            found.append(best)
            cursor.last = best
            row = self._told(self._predictor.predict([cursor])[0], [*ids, *found])
        return self._predictor.vocabulary.decode(np.array(found, np.int64))
