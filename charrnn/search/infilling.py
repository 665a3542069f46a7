"""Fill the gaps of a text so that both of its sides fit.

The model reads forward alone, so a filling is judged by the whole line: by what stands before a gap as much
as by how well the rest goes on from it. The search is a beam search which holds a beam of its own for each
place in the pattern, as in grid beam search (Hokamp and Liu 2017): texts that have still much of the
pattern before them do not compete with those that are nearly done.

A beginning's probability bounds that of every text that begins so. The best one that was dropped therefore
says which of the fillings that were found are certain: those that are more probable.
"""

from __future__ import annotations

import heapq
import math
from collections import defaultdict
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from charrnn.errors import ConfigError, SearchError, quoted
from charrnn.search.predictor import Cursor, Predictor
from charrnn.vocabulary import Vocabulary, unknown_character

DEFAULT_BEAM = 256  # texts for each place in the pattern
DEFAULT_GAP = 20  # characters in a gap of any length
PLACES = 32  # beams that are full, at the most
# A beginning that is so many times less probable than the last filling to be listed is not pursued.
WORTH_PURSUING = 1000.0

# Places in the pattern, each with the characters of its gap so far: where a text may stand.
Places = frozenset[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Filling:
    """A text that fits the pattern."""

    text: str
    log_probability: float  # of the whole line, in nats
    probability: float  # among all fillings that were found
    certain: bool  # no filling that was not found is as probable


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
    """The `count` most probable of the fillings that were found, the most probable first.

    In the pattern `?` stands for one character, `*` for any number from 0 to `gap`, and a run of `_` for any
    number from 1 to `gap`; none of them for a line end. A backslash before one of these, or before another
    backslash, makes it that character. The pattern is a whole line, and the line's end counts in the
    probability; `part` says that the text goes on in whatever way.

    Raises:
        ConfigError: a setting is out of range, the pattern has no gap, or the model knows no line end.
        VocabularyError: the pattern holds a character that the model has never seen.
        SearchError: the model takes every filling for impossible.
    """
    for name, value in (("count", count), ("beam", beam), ("gap", gap)):
        if not 1 <= value <= 10**6:
            raise ConfigError(f"{name} is {value}", "give a whole number from 1 to 1000000")
    if not part:
        predictor.require_line_end()
    parsed = Pattern(pattern, predictor.vocabulary, gap, on_unknown)
    if predictor.lines and predictor.newline in parsed.literals:
        raise ConfigError("the pattern has a line end within", "give one line: the model's texts are lines")
    return _Beams(predictor, parsed, count, beam, part).search()


class Pattern:
    """An automaton over ids whose states are sets of places, so that each text is in one state.

    Raises:
        ConfigError, VocabularyError: see `fill`.
    """

    def __init__(
        self, pattern: str, vocabulary: Vocabulary, gap: int, on_unknown: Literal["error", "skip"] = "error"
    ) -> None:
        self._items: list[tuple[int, int, int]] = []  # id or -1; fewest and most characters
        self._newline = vocabulary.characters.find("\n")
        self._size = len(vocabulary)
        position = 0
        while position < len(pattern):
            character = pattern[position]
            if character == "?":
                self._items.append((-1, 1, 1))
            elif character == "*":
                self._items.append((-1, 0, gap))
            elif character == "_":
                while pattern[position + 1 : position + 2] == "_":
                    position += 1
                self._items.append((-1, 1, gap))
            else:
                if character == "\\":
                    position += 1
                    character = pattern[position : position + 1]
                    if character not in ("?", "*", "_", "\\"):
                        raise ConfigError(
                            f"the pattern has {quoted(chr(92) + character)[1:-1]}",
                            "a backslash stands before ?, *, _ or another backslash",
                        )
                at = vocabulary.characters.find(character)
                if at >= 0:
                    self._items.append((at, 1, 1))
                elif on_unknown == "error":
                    raise unknown_character(character, f"at position {position} of the pattern")
            position += 1
        self.literals = {item[0] for item in self._items if item[0] >= 0}
        if all(item[0] >= 0 for item in self._items):
            raise ConfigError("the pattern has no gap", "mark one: ? is one character, * and ___ are several")

    def start(self) -> Places:
        """Where the empty text stands."""
        return self._closed([(0, 0)])

    def ends(self, places: Places) -> bool:
        """Whether the text may end here."""
        return (len(self._items), 0) in places

    def next(self, places: Places) -> list[tuple[Places, npt.NDArray[np.int64]]]:
        """Where each character leads: places, and the ids (n,) that lead there; all others lead nowhere."""
        gaps, literal = [], defaultdict(list)
        for i, k in places:
            if i < len(self._items):
                character, _, most = self._items[i]
                if character >= 0:
                    literal[character].append((i + 1, 0))
                elif k < most:
                    gaps.append((i, k + 1))
        found: dict[Places, list[int]] = defaultdict(list)
        for character, reached in literal.items():
            within = [] if character == self._newline else gaps
            found[self._closed([*reached, *within])].append(character)
        if gaps:
            others = [c for c in range(self._size) if c not in literal and c != self._newline]
            found[self._closed(gaps)].extend(others)
        return [(places, np.array(sorted(ids), np.int64)) for places, ids in found.items() if ids]

    def _closed(self, places: list[tuple[int, int]]) -> Places:
        """With the places that are reached without a character, and without those that add nothing."""
        found: set[tuple[int, int]] = set()
        todo = list(places)
        while todo:
            i, k = todo.pop()
            if (i, k) in found:
                continue
            found.add((i, k))
            if i < len(self._items) and self._items[i][0] < 0 and k >= self._items[i][1]:
                todo.append((i + 1, 0))
        # Of two places in one gap, both long enough, the one with fewer characters allows all the other does.
        shortest: dict[int, int] = {}
        for i, k in found:
            if i < len(self._items) and k >= self._items[i][1]:
                shortest[i] = min(k, shortest.get(i, k))
        return frozenset((i, k) for i, k in found if k <= shortest.get(i, k))


@dataclass(slots=True)
class _Beginning:
    ids: tuple[int, ...]
    total: float  # log p
    cursor: Cursor


class _Beams:
    def __init__(self, predictor: Predictor, pattern: Pattern, count: int, beam: int, part: bool) -> None:
        self._predictor = predictor
        self._pattern = pattern
        self._count = count
        self._beam = beam
        self._part = part
        self._found: list[tuple[float, str]] = []  # -log p
        self._listed: list[float] = []  # log p of the best `count` of them, a heap
        self._dropped = -math.inf  # log p of the best beginning that was dropped

    def search(self) -> list[Filling]:
        beams = {self._pattern.start(): [_Beginning((), 0.0, self._predictor.start_line())]}
        while beams:
            beams = self._step(beams)
        if not self._found:
            raise SearchError("nothing fits the pattern", "to this model every filling is impossible")
        self._found.sort()
        greatest = -self._found[0][0]
        everything = math.fsum(math.exp(-total - greatest) for total, _ in self._found)
        return [
            Filling(text, -total, math.exp(-total - greatest) / everything, -total > self._dropped)
            for total, text in self._found[: self._count]
        ]

    def _step(self, beams: dict[Places, list[_Beginning]]) -> dict[Places, list[_Beginning]]:
        """Each beginning goes on by one character."""
        everybody = [beginning for beam in beams.values() for beginning in beam]
        totals = self._predictor.predict([beginning.cursor for beginning in everybody])
        totals += np.array([beginning.total for beginning in everybody])[:, None]
        # For each place (beginnings, characters, log p), arrays to be joined.
        grown: dict[
            Places, list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float64]]]
        ]
        grown = defaultdict(list)
        first = 0
        for places, beam in beams.items():
            rows = np.arange(first, first + len(beam))
            first += len(beam)
            if self._pattern.ends(places):
                self._end(beam, totals[rows, self._predictor.newline])
            for reached, ids in self._pattern.next(places):
                grown[reached].append(
                    (rows.repeat(len(ids)), np.tile(ids, len(rows)), totals[np.ix_(rows, ids)].ravel())
                )
        best = {places: self._best(parts) for places, parts in grown.items()}
        best = self._fewer(best)
        return {
            places: [
                _Beginning((*old.ids, c), total, Cursor(c, old.cursor.state))
                for old, c, total in ((everybody[row], c, total) for row, c, total in chosen)
            ]
            for places, chosen in best.items()
            if chosen
        }

    def _end(self, beam: list[_Beginning], totals: npt.NDArray[np.float64]) -> None:
        for beginning, whole in zip(beam, totals.tolist(), strict=True):
            total = beginning.total if self._part else whole
            if total > -math.inf:
                text = self._predictor.vocabulary.decode(np.array(beginning.ids, np.int64))
                self._found.append((-total, text))
                heapq.heappush(self._listed, total)
                if len(self._listed) > self._count:
                    heapq.heappop(self._listed)

    def _best(
        self, parts: list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float64]]]
    ) -> list[tuple[int, int, float]]:
        """The most probable that reach a place, as (beginning, character, log p)."""
        rows, ids, totals = (np.concatenate(column) for column in zip(*parts, strict=True))
        worst = -math.inf
        if len(self._listed) == self._count:
            worst = self._listed[0] - math.log(WORTH_PURSUING)
        wanted = np.flatnonzero((totals > -math.inf) & (totals >= worst))
        order = wanted[np.argsort(-totals[wanted], kind="stable")]
        if len(order) > self._beam:
            self._dropped = max(self._dropped, float(totals[order[self._beam]]))
        kept = order[: self._beam]
        return list(zip(rows[kept].tolist(), ids[kept].tolist(), totals[kept].tolist(), strict=True))

    def _fewer(
        self, best: dict[Places, list[tuple[int, int, float]]]
    ) -> dict[Places, list[tuple[int, int, float]]]:
        """No more than PLACES full beams: a pattern of many gaps has very many places."""
        most = PLACES * self._beam
        if sum(map(len, best.values())) <= most:
            return best
        totals = sorted((total for chosen in best.values() for *_, total in chosen), reverse=True)
        self._dropped = max(self._dropped, totals[most])
        limit = totals[most - 1]
        return {places: [one for one in chosen if one[2] >= limit] for places, chosen in best.items()}
