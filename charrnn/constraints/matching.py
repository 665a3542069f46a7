"""A constraint for searches: lines must match an expression."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from charrnn.constraints.automaton import build
from charrnn.constraints.expressions import compiled


class Matching:
    """A charrnn.search.predictor.Constraint: whole lines match. Its states are those of the automaton."""

    def __init__(self, expression: str, characters: str, length: int) -> None:
        """`characters` (V) are the model's, "\\n" among them; lines have at most `length` of them.

        Raises:
            ConfigError: the expression is invalid, or its automaton too large.
            SamplingError: no such line matches.
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
