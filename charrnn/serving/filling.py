"""A text between what stands before it and what stands after it: what `charrnn fill` finds, and no longer
than somebody waits for it."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from typing import NamedTuple

from charrnn.checkpoint.model_file import Checkpoint
from charrnn.config import WeightPrecision
from charrnn.errors import SearchError
from charrnn.inference.engines import Cursor, LogProbabilities
from charrnn.inference.mixture import Blend
from charrnn.search.infilling import fill
from charrnn.search.predictor import Predictor
from charrnn.text.files.normalization import as_trained
from charrnn.vocabulary import OnUnknown

MOST_SECONDS = 60.0
MOST_AROUND = 4096  # characters before and after, which are read anew for each search
MOST_GAP = 64  # characters


class Filled(NamedTuple):
    """A text, and whether it is sure that none that was missed is more probable."""

    text: str
    log_probability: float  # of the whole line, in nats
    certain: bool


class Reader(Predictor):
    """A predictor that can be told to stop."""

    def __init__(self, model: Checkpoint | Blend, precision: WeightPrecision, threads: int | None) -> None:
        super().__init__(model, precision, threads)
        self.gone = False
        self._until = time.monotonic() + MOST_SECONDS

    def predict(self, cursors: Sequence[Cursor]) -> LogProbabilities:
        """See Predictor. SearchError: nobody waits any more."""
        if self.gone or time.monotonic() > self._until:
            raise SearchError("the search takes too long", "ask for less between prompt and suffix")
        return super().predict(cursors)


def between(
    reader: Reader, before: str, after: str, *, count: int, gap: int, on_unknown: OnUnknown = "error"
) -> list[Filled]:
    """The `count` most probable texts of at most `gap` characters that were found, the most probable first.

    In prose the whole is the beginning of a text, in models of lines or other records all of one.

    Raises:
        VocabularyError, SearchError: see charrnn.search.infilling.fill.
    """
    text = reader.text
    before, after = as_trained(before, text), as_trained(after, text)
    pattern = f"{_literally(before)}*{_literally(after)}"
    found = fill(reader, pattern, count=count, gap=gap, part=not text.records, on_unknown=on_unknown)
    known = reader.vocabulary
    start, end = (sum(character in known for character in side) for side in (before, after))
    return [Filled(f.text[start : len(f.text) - end], f.log_probability, f.certain) for f in found]


def _literally(text: str) -> str:
    return re.sub(r"([?*_\\])", r"\\\1", text)
