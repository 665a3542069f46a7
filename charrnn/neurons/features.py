"""What of a text a unit may follow: the matches of an expression, or where in a line a character stands.

Matches are the leftmost, of these the longest, and do not overlap. The automaton of charrnn.constraints finds
them: all places of a block try at once to begin one, which takes at most LONGEST steps, so that no expression
takes longer.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from charrnn.checkpoint.model_file import Checkpoint
from charrnn.constraints.expressions import compiled
from charrnn.neurons.activations import Block, Network
from charrnn.nn.parameters import Array
from charrnn.text.files.normalization import expression_as_trained
from charrnn.vocabulary import END

LONGEST = 2000  # characters of a match
# What one would look for by name; an expression of this name is written (words).
EXPRESSIONS = {
    "quotes": '"[^"]*"|“[^”]*”|«[^»]*»',
    "brackets": r"\([^()]*\)|\[[^\[\]]*\]|\{[^{}]*\}",
    "words": r"\w+",
    "capitals": r"\p{Lu}",
    "digits": r"\d+",
}


class Feature(Protocol):
    """What is looked for, in blocks that follow one another."""

    about: str  # of it, in a few words
    ahead: int  # characters that it must see after those of a block

    def inside(self, block: Block) -> Array:
        """Which of the block's characters have it, (N,)."""


class Matches:
    """The characters of matches of an expression.

    Raises:
        ConfigError: the expression is invalid, or its automaton is too large.
    """

    ahead = LONGEST

    def __init__(self, checkpoint: Checkpoint, expression: str, name: str) -> None:
        self.about = f"in a match of {expression}" if name == expression else name
        found = compiled(expression_as_trained(expression, checkpoint.text), checkpoint.vocabulary.characters)
        nothing = np.full((len(found.table), 1), -1, found.table.dtype)
        self._table = np.hstack([found.table, nothing])  # by state and id; no match holds START
        self._final, self._start = found.final, found.start
        self._going_on = 0  # characters of the next block that are in a match that began before

    def inside(self, block: Block) -> Array:
        """See Feature."""
        lengths = self._lengths(block)
        inside = np.zeros(block.N, np.bool_)
        at = self._going_on
        inside[:at] = True
        for first in np.flatnonzero(lengths).tolist():
            if first >= at:
                at = first + int(lengths[first])
                inside[first:at] = True
        self._going_on = max(0, at - block.N)
        return inside

    def _lengths(self, block: Block) -> Array:
        """Of the longest match that begins at each character, (N,); 0: none does."""
        last = self._table.shape[1] - 1
        ids = np.minimum(block.ids, last)
        lengths = np.zeros(block.N, np.int64)
        places, states = np.arange(block.N), np.full(block.N, self._start)
        for k in range(LONGEST):
            there = places + k < len(ids)
            places, states = places[there], states[there]
            states = self._table[states, ids[places + k]]
            going_on = states >= 0
            places, states = places[going_on], states[going_on]
            if not len(places):
                break
            lengths[places[self._final[states]]] = k + 1
        return lengths


class Columns:
    """Where in its line a character stands."""

    ahead = 0

    def __init__(self, network: Network, name: str) -> None:
        self.about, self._name = name, name
        characters = network.checkpoint.vocabulary.characters
        self._ends = np.array([c in ("\n", END) for c in characters] + [True])  # by id; START begins a line
        self._spaces = np.array([c in " \t" for c in characters] + [False])
        self._column, self._only_spaces = 0, True  # of what comes next
        self._middle: int | None = None

    def inside(self, block: Block) -> Array:
        """See Feature."""
        ids = np.minimum(block.ids[: block.N], len(self._ends) - 1)
        places, ends, spaces = np.arange(block.N), self._ends[ids], self._spaces[ids]
        before = np.concatenate([[-self._column - 1], np.where(ends, places, -self._column - 1)[:-1]])
        line = np.maximum.accumulate(before)  # the place of the line end before each character
        column = places - line - 1
        word = -np.inf if self._only_spaces else -0.5  # the last place of anything else
        words = np.maximum.accumulate(np.where(spaces | ends, -np.inf, places))
        words = np.maximum(words, word)
        indented = spaces & (words <= line)
        if block.N:
            self._column = 0 if ends[-1] else int(column[-1]) + 1
            self._only_spaces = bool(ends[-1] or indented[-1])
        if self._name == "indentation":
            return np.asarray(indented)
        if self._middle is None:
            within = column[~ends]
            self._middle = max(1, int(np.median(within)) if len(within) else 1)
            self.about = f"from character {self._middle + 1} of a line on"
        return np.asarray(column >= self._middle)


OF_LINES = ("indentation", "line-position")
PRESETS = (*EXPRESSIONS, *OF_LINES)


def feature(network: Network, name: str) -> Feature:
    """The feature of this name, or the matches of this expression.

    Raises:
        ConfigError: the expression is invalid, or its automaton is too large.
    """
    if name in OF_LINES:
        return Columns(network, name)
    return Matches(network.checkpoint, EXPRESSIONS.get(name, name), name)
