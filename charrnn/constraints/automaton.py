"""What a text may be, as one deterministic automaton over the model's characters.

An expression, banned texts and a restricted alphabet are joined in one table, so that the loop that writes
looks at one row a character. What leads nowhere is cut off beforehand: no text ever comes to a dead end.

Axes: V vocabulary, C classes of characters that no state tells apart, S states, K places in banned texts.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from charrnn.errors import ConfigError, SamplingError
from charrnn.inference.constrained_step import FINAL, FORBIDDEN

if TYPE_CHECKING:
    from charrnn.constraints.expressions import Expression

MAX_STATES = 2**18
MAX_CELLS = 2**24  # of a table

Table = npt.NDArray[np.int32]
Distances = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
FAR = np.iinfo(np.int64).max // 2  # from here no text can be ended

# What ends a word or a part of a sentence, beside white space.
BREAKS = ",;:，；：、،"
# The last characters of a text in which no new word begins: an English word has rarely more.
LAST_WORD = 16
MOST_ROOM = 4096  # characters: the ends of longer texts are not looked for


@dataclass(frozen=True, eq=False, slots=True)
class Automaton:
    """The arrays of constrained_step.Rules, and where texts start. State FINAL is that of a complete line."""

    table: Table  # (S, C) the next state, or FORBIDDEN
    classes: npt.NDArray[np.int32]  # (V,)
    reach: (
        Distances  # (S,) the fewest characters from here to where the text may end; 0 without an expression
    )
    starts: dict[str, int]  # by the longest end of the prompt with which a banned text begins
    nothing: int  # where a line starts that goes on from nothing, and may not be empty; -1: it may
    ends: bool  # a text may end without a line's end, where `reach` is 0

    def start(self, prompt: str = "", length: int | None = None) -> int:
        """The state of a text that goes on from the prompt, with at most so many characters.

        Raises:
            SamplingError: there is no such text.
        """
        state = self.nothing
        if prompt or state < 0:
            state = self.starts[_longest_end(prompt, self.starts)]
        shortest = int(self.reach[state])
        if shortest == FAR:
            raise _no_text()
        if length is not None and shortest > length:
            raise SamplingError(
                f"the shortest text that matches has {shortest:,} characters, not {length:,}",
                f"give --length {shortest} or more",
            )
        return state


def build(
    characters: str,
    *,
    lines: bool,
    expression: Expression | None = None,
    bans: Sequence[str] = (),
    only: str | None = None,
    prompt: str | None = "",
    natural: bool = False,
    empty: bool = True,
) -> Automaton:
    """The automaton of texts that match, hold no banned text and have no other characters than `only`.

    With `lines`, a text ends with its line: "\\n" completes it where it may end, and stands nowhere else.
    Else nothing completes it. A banned text does not appear across the end of the prompt either; None is
    any prompt, of which Automaton.start is told later. With `natural`, texts end with a word where the
    expression does not say how they end: see `_end_with_words`. Unless it may be `empty`, a line that goes on
    from nothing does not end at once.

    Raises:
        ConfigError: a banned text or the set of characters is empty, or it would be too large.
        SamplingError: there is no such text, of any length.
    """
    V = len(characters)
    newline = characters.find("\n") if lines else -1
    if expression is None:
        shape, final, start = np.zeros((1, V), np.int32), np.ones(1, np.bool_), 0
    else:
        shape, final, start = expression.table, expression.final, expression.start
    known = [ban for ban in bans if _checked_ban(ban) and set(ban) <= set(characters)]
    places, whole, names = _places(known, characters)
    starts = names if prompt is None else {end: names[end] for end in [_longest_end(prompt, names)]}
    allowed = (
        np.ones(V, np.bool_) if only is None else np.array([c in _checked_only(only) for c in characters])
    )

    # Characters that nothing tells apart share a column.
    is_newline = np.arange(V) == newline
    is_letter = np.array([c.isalnum() for c in characters])
    is_break = np.array([c.isspace() or c in BREAKS for c in characters])
    told_apart = [is_letter[None], is_break[None]] if natural else []
    columns = np.concatenate([shape, places, allowed[None], is_newline[None], *told_apart]).astype(np.int32)
    _, first, classes = np.unique(columns, axis=1, return_index=True, return_inverse=True)
    shape, places = shape[:, first], places[:, first]
    allowed, is_newline = allowed[first], is_newline[first]

    # The joined states, numbered as they are found, FINAL first: (state of the expression, place).
    S, K, C = len(shape), len(places), len(first)
    if S * K > MAX_CELLS:
        raise _too_large()
    number = np.full(S * K, -1, np.int32)
    frontier = start * K + np.array(sorted(starts.values()))
    found = FINAL + 1 + len(frontier)
    number[frontier] = np.arange(FINAL + 1, found)
    rows: list[Table] = [np.full((1, C), FORBIDDEN, np.int32)]
    may_end: list[npt.NDArray[np.bool_]] = [np.ones(1, np.bool_)]
    while len(frontier):
        states, at = frontier // K, frontier % K
        to, then = shape[states], places[at]  # (F, C)
        possible = (to >= 0) & ~whole[then] & allowed & ~is_newline
        codes = np.where(possible, to.astype(np.int64) * K + then, 0)
        new = np.unique(codes[possible])
        new = new[number[new] < 0]
        number[new] = np.arange(found, found + len(new))
        found += len(new)
        if found > MAX_STATES or found * C > MAX_CELLS:
            raise _too_large()
        row = np.where(possible, number[codes], FORBIDDEN).astype(np.int32)
        ends = final[states]
        if newline >= 0:
            ends = ends & ~whole[then[:, is_newline][:, 0]]
            row[:, is_newline] = np.where(ends, FINAL, FORBIDDEN)[:, None]
        rows.append(row)
        may_end.append(ends)
        frontier = new
    starts = {end: int(number[start * K + place]) for end, place in starts.items()}
    begins = list(starts.values())
    nothing = -1
    if lines and not empty and not prompt:
        nothing = found
        rows.append(np.where(is_newline, FORBIDDEN, np.concatenate(rows)[starts[""], None]))
        may_end.append(np.zeros(1, np.bool_))
        begins = [nothing] if prompt == "" else [*begins, nothing]
    table = np.concatenate(rows)
    if expression is None and newline < 0:
        reach = _reach_for_ever(table)
    else:
        reach = _reach(table, np.concatenate(may_end))
    if all(reach[state] == FAR for state in begins):
        raise _no_text()
    # No state leads to one that leads nowhere.
    table[(table >= 0) & (reach[table] == FAR)] = FORBIDDEN
    if natural and expression is not None:
        _end_with_words(table, np.concatenate(may_end), is_letter[first], is_break[first])
    if expression is None:
        reach[reach < FAR] = 0
    ends = expression is not None and not lines
    return Automaton(table, classes.reshape(-1).astype(np.int32), reach, starts, nothing, ends)


def _no_text() -> SamplingError:
    return SamplingError(
        "no text of the model's characters is what was asked for",
        "look at the expression, the banned texts and the characters (charrnn info shows the model's)",
    )


def _too_large() -> ConfigError:
    return ConfigError(
        "the automaton of the expression and the banned texts would be too large",
        "give fewer or shorter ones",
    )


def _checked_ban(ban: str) -> str:
    if not ban:
        raise ConfigError("a banned text is empty", "leave out --ban, or give it a text")
    return ban


def _checked_only(only: str) -> str:
    if not only:
        raise ConfigError("the set of characters is empty", "give --only at least one character")
    return only


def _places(bans: Sequence[str], characters: str) -> tuple[Table, npt.NDArray[np.bool_], dict[str, int]]:
    """How far into banned texts a text is: the automaton of Aho and Corasick (1975).

    Returns the next place (K, V), whether a banned text is complete at a place (K,), and the places by name:
    the longest end of the text with which a banned one begins. Place 0 is "".
    """
    names = {"": 0}
    for ban in bans:
        for n in range(1, len(ban) + 1):
            names.setdefault(ban[:n], len(names))
    if len(names) * len(characters) > MAX_CELLS:
        raise _too_large()
    ids = {c: n for n, c in enumerate(characters)}
    children: list[list[tuple[int, int]]] = [[] for _ in names]
    for name, place in names.items():
        if name:
            children[names[name[:-1]]].append((ids[name[-1]], place))
    whole = np.zeros(len(names), np.bool_)
    whole[[names[ban] for ban in bans]] = True
    table = np.zeros((len(names), len(characters)), np.int32)
    shorter = [0] * len(names)  # the place of the longest shorter end
    queue = deque([0])
    while queue:
        place = queue.popleft()
        if place:
            table[place] = table[shorter[place]]
            whole[place] |= whole[shorter[place]]
        for character, child in children[place]:
            shorter[child] = int(table[place, character]) if place else 0
            table[place, character] = child
            queue.append(child)
    return table, whole, names


def _longest_end(prompt: str, names: Collection[str]) -> str:
    """The longest end of the prompt that is among the names."""
    longest = min(max(map(len, names)), len(prompt))
    ends = (prompt[len(prompt) - n :] for n in range(longest, -1, -1))
    return next(end for end in ends if end in names)


def _end_with_words(table: Table, may_end: Flags, letters: Flags, breaks: Flags) -> None:
    """Forbid what would only fill a text up to its most characters, which is seldom the end of a word.

    Where a text can have no more than so many characters, and the expression does not tell white space from
    letters, as in `.{30,60}`, it does not say how words are to end, and so:

    - no new word begins in the last LAST_WORD of them, a quarter of the most at the most, if the text may end
      here or with the next character: the text ends instead, or with that character;
    - nothing follows an end that is one by its character, as in `.{100,199}[.!?]`, in the second half.

    Every text that is left is one of those before, and no dead end arises: where something is forbidden, an
    end is at hand. letters and breaks (C,) are classes of characters.
    """
    room = _room(table)
    known = room < FAR
    longest = int(room[known].max(initial=0))
    near, second_half = room <= min(LAST_WORD, longest // 4), room <= longest // 2
    ends_next = ((table >= 0) & may_end[table])[:, ~breaks].any(axis=1)
    for column in np.flatnonzero(breaks):
        target = table[:, column]
        like_a_letter = (target >= 0) & (table[:, letters] == target[:, None]).any(axis=1)
        goes_on_ending = may_end[target]
        last_word = near & np.where(may_end, goes_on_ending, ends_next & ~goes_on_ending)
        last_end = second_half & may_end & ~goes_on_ending
        table[like_a_letter & (last_word | last_end), column] = FORBIDDEN


class _Backwards:
    """The edges of a table, by the state that they lead to."""

    def __init__(self, table: Table) -> None:
        source, column = np.nonzero(table >= 0)
        target = table[source, column]
        order = np.argsort(target, kind="stable")
        self._source: npt.NDArray[np.int64] = source[order]
        self._begins = np.searchsorted(target[order], np.arange(len(table) + 1))

    def into(self, states: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Where the edges come from that lead to one of the states; a state for each of them."""
        begins = self._begins[states]
        counts = self._begins[states + 1] - begins
        # begins .. begins + counts of each, one after the other
        edges = np.repeat(begins - np.cumsum(counts) + counts, counts) + np.arange(counts.sum())
        found: npt.NDArray[np.int64] = self._source[edges]
        return found


def _reach(table: Table, may_end: Flags) -> Distances:
    """The fewest characters from each state to one where the text may end: a search backwards, (S,)."""
    edges = _Backwards(table)
    reach = np.where(may_end, 0, FAR).astype(np.int64)
    frontier = np.flatnonzero(may_end)
    distance = 0
    while len(frontier):
        distance += 1
        before = np.unique(edges.into(frontier))
        frontier = before[reach[before] == FAR]
        reach[frontier] = distance
    return reach


def _room(table: Table) -> Distances:
    """The most characters that can follow each state, (S,); FAR: any number, or more than MOST_ROOM.

    A line's end is none of them.
    """
    table = np.where(table == FINAL, FORBIDDEN, table)
    edges = _Backwards(table)
    left = np.count_nonzero(table >= 0, axis=1)  # edges to states whose room is not known yet
    room = np.full(len(table), FAR, np.int64)
    frontier = np.flatnonzero(left == 0)
    for distance in range(MOST_ROOM + 1):
        if not len(frontier):
            break
        room[frontier] = distance
        before, counts = np.unique(edges.into(frontier), return_counts=True)
        left[before] -= counts
        frontier = before[left[before] == 0]
    return room


def _reach_for_ever(table: Table) -> Distances:
    """0 for the states from which a text can go on without end, else FAR."""
    alive = np.ones(len(table), np.bool_)
    alive[FINAL] = False
    while True:
        going_on = alive & ((table >= 0) & alive[table]).any(axis=1)
        if (going_on == alive).all():
            return np.where(alive, 0, FAR).astype(np.int64)
        alive = going_on
