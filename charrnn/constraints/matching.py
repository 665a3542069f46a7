"""The lines that match an expression, as what a search may find."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from charrnn.constraints.automaton import build
from charrnn.constraints.expressions import compiled


class Matching:
    """A constraint, see charrnn.search.predictor: whole lines match. Its states are those of an automaton."""

    def __init__(self, expression: str, characters: str, length: int) -> None:
        """An expression over a model's characters (V), of which a line's end is one.

        Raises:
            ConfigError: it is no expression, or too large.
            SamplingError: no line of these characters, and at most so many, matches.
        """
        automaton = build(characters, lines=True, expression=compiled(expression, characters))
        self._start = automaton.start(length=length)
        self._table, self._classes = automaton.table, automaton.classes
        self._newline = characters.index("\n")

    def start(self) -> int:
        return self._start

    def allowed(self, state: int) -> npt.NDArray[np.bool_]:
        """(V + 1,)"""
        row: npt.NDArray[np.bool_] = self._table[state][self._classes] >= 0
        return np.append(row, row[self._newline])

    def advance(self, state: int, character: int) -> int:
        return int(self._table[state, self._classes[character]])
