"""Fill the gaps of a text so that the fillings fit on both sides.

The model reads forward only, so a filling is judged by the probability of the whole line, including what
follows the gap. The search is a beam search with a separate beam for each state of the pattern, as in grid
beam search (Hokamp and Liu 2017): prefixes with much of the pattern ahead do not compete with those that are
nearly done.

The probability of a prefix is an upper bound for all its continuations. So the fillings that are more
probable than the best prefix dropped are certain to be the best of all.
"""

from __future__ import annotations

import heapq
import math
import re
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from charrnn.errors import ConfigError, SearchError, quoted
from charrnn.search.predictor import Cursor, Predictor
from charrnn.vocabulary import Vocabulary, unknown_character

DEFAULT_BEAM = 256  # prefixes for each state of the pattern
DEFAULT_GAP = 20  # characters in a gap of any length
FULL_BEAMS = 32  # bounds all beams together: the prefixes of so many full ones
# Prefixes that many times less probable than the last filling to be listed are dropped.
CUTOFF = 1000.0

Item = tuple[int, int, int]  # of a pattern: an id, or -1 in a gap; the fewest and the most characters
Positions = frozenset[tuple[int, int]]  # in the pattern: (item, characters read in it)


@dataclass(frozen=True, slots=True)
class Filling:
    """A text that matches the pattern."""

    text: str
    log_probability: float  # of the whole line, in nats
    probability: float  # among all fillings that were found
    certain: bool  # no filling that was missed is as probable


def fill(
    predictor: Predictor,
    pattern: str,
    *,
    count: int = 10,
    beam: int = DEFAULT_BEAM,
    gap: int = DEFAULT_GAP,
    part: bool = False,
    on_unknown: Literal["error", "skip"] = "error",
) -> list[Filling]:
    """The `count` most probable fillings found, the most probable first.

    In the pattern `?` stands for one character, `*` for 0 to `gap` characters, and a run of `_` for 1 to
    `gap`; none of them matches a newline that ends the text. A backslash escapes these characters and itself.
    The pattern is a whole line or record, whose end counts in the probability; with `part` it is the
    beginning of a text.

    Raises:
        ConfigError: a setting is out of range, the pattern has no gap, or the vocabulary no newline.
        VocabularyError: the pattern has a character that the model has never seen.
        SearchError: every filling has the probability 0.
    """
    check(count=count, beam=beam, gap=gap)
    if not part:
        predictor.require_end()
    parsed = Pattern(pattern, predictor.vocabulary, gap, on_unknown, end=predictor.end)
    if predictor.text.records and predictor.end in parsed.literals:
        raise ConfigError("the pattern has a line end within", "give one line: the model's texts are lines")
    return _Beams(predictor, parsed, count, beam, part).search()


def check(**numbers: int) -> None:
    """ConfigError: a number is out of range."""
    for name, value in numbers.items():
        if not 1 <= value <= 10**6:
            raise ConfigError(f"{name} is {value}", "give a whole number from 1 to 1000000")


def items_of(
    pattern: str, vocabulary: Vocabulary, gap: int, on_unknown: Literal["error", "skip"] = "error"
) -> list[Item]:
    """The characters and gaps of a pattern.

    Raises:
        ConfigError, VocabularyError: see `fill`.
    """
    items: list[Item] = []
    gaps = {"?": (1, 1), "*": (0, gap), "_": (1, gap)}
    for found in re.finditer(r"\\.?|_+|.", pattern, re.DOTALL):
        token = found[0]
        if token[0] in gaps:
            items.append((-1, *gaps[token[0]]))
            continue
        if token[0] == "\\" and token[1:] not in ("?", "*", "_", "\\"):
            raise ConfigError(
                f"the pattern has {quoted(token)[1:-1]}",
                "a backslash stands before ?, *, _ or another backslash",
            )
        at = vocabulary.characters.find(token[-1])
        if at >= 0:
            items.append((at, 1, 1))
        elif on_unknown == "error":
            raise unknown_character(token[-1], f"at position {found.end() - 1} of the pattern")
    if all(item[0] >= 0 for item in items):
        raise ConfigError("the pattern has no gap", "mark one: ? is one character, * and ___ are several")
    return items


class Pattern:
    """A deterministic automaton over ids. Its states are sets of positions in the pattern.

    No gap matches the id `end`; None: that of a newline.

    Raises:
        ConfigError, VocabularyError: see `fill`.
    """

    def __init__(
        self,
        pattern: str,
        vocabulary: Vocabulary,
        gap: int,
        on_unknown: Literal["error", "skip"] = "error",
        end: int | None = None,
    ) -> None:
        self._items = items_of(pattern, vocabulary, gap, on_unknown)
        self._end = vocabulary.find("\n") if end is None else end
        self._size = len(vocabulary)
        self.literals = {item[0] for item in self._items if item[0] >= 0}

    def start(self) -> Positions:
        """The state before the first character."""
        return self._closed([(0, 0)])

    def ends(self, positions: Positions) -> bool:
        """Whether the text may end here."""
        return (len(self._items), 0) in positions

    def next(self, positions: Positions) -> list[tuple[Positions, npt.NDArray[np.int64]]]:
        """The states that follow, each with the ids (n,) that lead there; no other character is possible."""
        gaps, literal = [], defaultdict(list)
        for i, k in positions:
            if i < len(self._items):
                character, _, most = self._items[i]
                if character >= 0:
                    literal[character].append((i + 1, 0))
                elif k < most:
                    gaps.append((i, k + 1))
        found: dict[Positions, list[int]] = defaultdict(list)
        for character, reached in literal.items():
            within = [] if character == self._end else gaps
            found[self._closed([*reached, *within])].append(character)
        if gaps:
            others = [c for c in range(self._size) if c not in literal and c != self._end]
            found[self._closed(gaps)].extend(others)
        return [(positions, np.array(sorted(ids), np.int64)) for positions, ids in found.items() if ids]

    def _closed(self, positions: list[tuple[int, int]]) -> Positions:
        """The positions and those that are reached without a character, less the redundant ones."""
        found: set[tuple[int, int]] = set()
        shortest: dict[int, int] = {}
        todo = list(positions)
        while todo:
            i, k = todo.pop()
            if (i, k) in found:
                continue
            found.add((i, k))
            if i < len(self._items) and k >= self._items[i][1]:  # so the item is a gap
                todo.append((i + 1, 0))
                shortest[i] = min(k, shortest.get(i, k))
        # Of two positions in a gap that may end, the one with fewer characters allows all that the other
        # does.
        return frozenset((i, k) for i, k in found if k <= shortest.get(i, k))


@dataclass(slots=True)
class _Prefix:
    ids: tuple[int, ...]
    total: float  # log p
    cursor: Cursor

    def longer(self, character: int, total: float) -> _Prefix:
        return _Prefix((*self.ids, character), total, Cursor(character, self.cursor.state))


# Prefixes with one character more: the prefix's number among all beams' prefixes, the character, log p.
_Row = tuple[int, int, float]
_Columns = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float64]]


@dataclass(eq=False)
class _Beams:
    predictor: Predictor
    pattern: Pattern
    count: int
    beam: int
    part: bool
    found: list[tuple[float, str]] = field(default_factory=list)  # -log p
    listed: list[float] = field(default_factory=list)  # log p of the best `count` of them, a heap
    dropped: float = -math.inf  # log p of the best prefix that was dropped

    def search(self) -> list[Filling]:
        beams = {self.pattern.start(): [_Prefix((), 0.0, self.predictor.start(line=True))]}
        while beams:
            beams = self._step(beams)
        if not self.found:
            raise SearchError("nothing fits the pattern", "to this model every filling is impossible")
        self.found.sort()
        greatest = -self.found[0][0]
        everything = math.fsum(math.exp(-total - greatest) for total, _ in self.found)
        return [
            Filling(text, -total, math.exp(-total - greatest) / everything, -total > self.dropped)
            for total, text in self.found[: self.count]
        ]

    def _step(self, beams: dict[Positions, list[_Prefix]]) -> dict[Positions, list[_Prefix]]:
        """Extend each prefix by one character."""
        prefixes = [prefix for beam in beams.values() for prefix in beam]
        totals = self.predictor.predict([prefix.cursor for prefix in prefixes])
        totals += np.array([prefix.total for prefix in prefixes])[:, None]
        grown: dict[Positions, list[_Columns]] = defaultdict(list)
        first = 0
        for positions, beam in beams.items():
            rows = np.arange(first, first + len(beam))
            first += len(beam)
            if self.pattern.ends(positions):
                self._end(beam, totals[rows, self.predictor.end])
            for reached, ids in self.pattern.next(positions):
                grown[reached].append(
                    (rows.repeat(len(ids)), np.tile(ids, len(rows)), totals[np.ix_(rows, ids)].ravel())
                )
        best = self._fewer({positions: self._best(parts) for positions, parts in grown.items()})
        return {
            positions: [prefixes[row].longer(c, total) for row, c, total in chosen]
            for positions, chosen in best.items()
            if chosen
        }

    def _end(self, beam: list[_Prefix], totals: npt.NDArray[np.float64]) -> None:
        for prefix, whole in zip(beam, totals.tolist(), strict=True):
            total = prefix.total if self.part else whole
            if total > -math.inf:
                text = self.predictor.vocabulary.decode(np.array(prefix.ids, np.int64))
                self.found.append((-total, text))
                heapq.heappush(self.listed, total)
                if len(self.listed) > self.count:
                    heapq.heappop(self.listed)

    def _best(self, parts: list[_Columns]) -> list[_Row]:
        """The most probable prefixes that reach a state."""
        rows, ids, totals = (np.concatenate(column) for column in zip(*parts, strict=True))
        worst = -math.inf
        if len(self.listed) == self.count:
            worst = self.listed[0] - math.log(CUTOFF)
        wanted = np.flatnonzero((totals > -math.inf) & (totals >= worst))
        order = wanted[np.argsort(-totals[wanted], kind="stable")]
        if len(order) > self.beam:
            self.dropped = max(self.dropped, float(totals[order[self.beam]]))
        kept = order[: self.beam]
        return list(zip(rows[kept].tolist(), ids[kept].tolist(), totals[kept].tolist(), strict=True))

    def _fewer(self, best: dict[Positions, list[_Row]]) -> dict[Positions, list[_Row]]:
        """Bound the beams together: a pattern with many gaps has very many states."""
        most = FULL_BEAMS * self.beam
        if sum(map(len, best.values())) <= most:
            return best
        totals = sorted((total for chosen in best.values() for *_, total in chosen), reverse=True)
        self.dropped = max(self.dropped, totals[most])
        limit = totals[most - 1]
        return {positions: [one for one in chosen if one[2] >= limit] for positions, chosen in best.items()}
