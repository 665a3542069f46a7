"""The texts that are allowed, as one deterministic automaton over the model's characters.

An expression, banned texts and a restricted alphabet are joined into one table, so that the writing loop
reads one row for each character. Transitions that lead to no complete text are removed beforehand: writing
never runs into a dead end.

Axes: V vocabulary, C classes of equivalent characters, S states, K nodes of the trie of banned texts.
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
from charrnn.vocabulary import END

if TYPE_CHECKING:
    from charrnn.constraints.expressions import Expression

NO_TEXT = (
    "no text of the model's characters is what was asked for",
    "look at the expression, the banned texts and the characters (charrnn info shows the model's)",
)
TOO_LARGE = (
    "the automaton of the expression and the banned texts would be too large",
    "give fewer or shorter ones",
)
MAX_STATES = 2**18
MAX_CELLS = 2**24  # of a table

Table = npt.NDArray[np.int32]
Distances = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
FAR = np.iinfo(np.int64).max // 2  # the distance from a state where no text can be completed

# Characters that end a word or a clause, besides white space.
BREAKS = ",;:，；：、،"
# No new word begins this close to the maximum length, in characters: English words are rarely longer.
LAST_WORD = 16
MOST_ROOM = 4096  # characters; a maximum length beyond that counts as unbounded


@dataclass(frozen=True, eq=False, slots=True)
class Automaton:
    """The arrays of constrained_step.Rules, and the start states. State FINAL is a complete text."""

    table: Table  # (S, C) the next state, or FORBIDDEN
    classes: npt.NDArray[np.int32]  # (V,)
    # (S,) fewest characters to a state where the text may end, END included; 0 without an expression
    reach: Distances
    starts: dict[str, int]  # start states, by the longest suffix of the prompt that begins a banned text
    nonempty: int  # the start state of a text without a prompt that must not be empty; -1: it may be
    ends: bool  # a text may end where `reach` is 0, without a character that ends it
    uncounted: int  # characters of a complete text that are none of its own: END is one

    def start(self, prompt: str = "", length: int | None = None) -> int:
        """The start state of a text of at most `length` characters, END included, after the prompt.

        Raises:
            SamplingError: there is no such text.
        """
        state = self.nonempty
        if prompt or state < 0:
            state = self.starts[_longest_suffix(prompt, self.starts)]
        shortest = int(self.reach[state])
        if shortest == FAR:
            raise SamplingError(*NO_TEXT)
        if length is not None and shortest > length:
            raise SamplingError(
                f"the shortest text that matches has {shortest - self.uncounted:,} characters, "
                f"not {length - self.uncounted:,}",
                f"give --length {shortest - self.uncounted} or more",
            )
        return state


def build(
    characters: str,
    *,
    end: str,
    expression: Expression | None = None,
    bans: Sequence[str] = (),
    only: str | None = None,
    prompt: str | None = "",
    natural: bool = False,
    empty: bool = True,
) -> Automaton:
    """The automaton of texts that match, contain no banned text and use only the characters of `only`.

    The character `end` completes a text where it may end, and is allowed nowhere else; if it is "", none
    completes a text. A banned text must not straddle the end of the prompt either; with the prompt None, any
    prompt can be passed to Automaton.start later. With `natural`, texts end at the end of a word where the
    expression leaves that open: see `_end_with_words`. Without `empty`, a text without a prompt that `end`
    completes has at least one character.

    Raises:
        ConfigError: a banned text or the set of characters is empty, or the automaton would be too large.
        SamplingError: no text, of any length, is allowed.
    """
    V = len(characters)
    closing = characters.find(end) if end else -1
    if expression is None:
        shape, final, start = np.zeros((1, V), np.int32), np.ones(1, np.bool_), 0
    else:
        shape, final, start = expression.table, expression.final, expression.start
    if "" in bans:
        raise ConfigError("a banned text is empty", "leave out --ban, or give it a text")
    if only == "":
        raise ConfigError("the set of characters is empty", "give --only at least one character")
    known = [ban for ban in bans if set(ban) <= set(characters)]
    trie, banned, names = _trie(known, characters)
    starts = names if prompt is None else {end: names[end] for end in [_longest_suffix(prompt, names)]}
    allowed = np.array([only is None or c in only for c in characters])

    # Characters with the same transitions everywhere share a column.
    is_end = np.arange(V) == closing
    is_letter = np.array([c.isalnum() for c in characters])
    is_break = np.array([c.isspace() or c in BREAKS for c in characters])
    distinguished = [is_letter[None], is_break[None]] if natural else []
    columns = np.concatenate([shape, trie, allowed[None], is_end[None], *distinguished]).astype(np.int32)
    _, first, classes = np.unique(columns, axis=1, return_index=True, return_inverse=True)
    is_end = is_end[first]
    starts = {suffix: start * len(trie) + node for suffix, node in starts.items()}
    table, may_end, number = _product(
        shape[:, first], trie[:, first], final, banned, allowed[first], is_end, sorted(starts.values())
    )
    starts = {suffix: int(number[pair]) for suffix, pair in starts.items()}
    begins = list(starts.values())
    nonempty = -1
    if end and not empty and not prompt:
        nonempty = len(table)
        table = np.concatenate([table, np.where(is_end, FORBIDDEN, table[starts[""], None])])
        may_end = np.append(may_end, False)
        begins = [nonempty] if prompt == "" else [*begins, nonempty]
    if expression is None and closing < 0:
        reach = _reach_for_ever(table)
    elif end == END:
        reach = _reach(table, np.arange(len(table)) == FINAL)
    else:
        reach = _reach(table, may_end)
    if all(reach[state] == FAR for state in begins):
        raise SamplingError(*NO_TEXT)
    table[(table >= 0) & (reach[table] == FAR)] = FORBIDDEN
    if natural and expression is not None:
        _end_with_words(table, may_end, is_letter[first], is_break[first])
    if expression is None:
        reach[reach < FAR] = 0
    ends = expression is not None and not end
    shared = classes.reshape(-1).astype(np.int32)
    return Automaton(table, shared, reach, starts, nonempty, ends, uncounted=int(end == END))


def _product(
    shape: Table, trie: Table, final: Flags, banned: Flags, allowed: Flags, is_end: Flags,
    starts: list[int],
) -> tuple[Table, Flags, npt.NDArray[np.int32]]:  # fmt: skip
    """The table of the pairs that are reached from `starts`, where a text may end, and each pair's number.

    A pair is a state s of the expression and a node k of the trie, as s * K + k; FINAL comes before them.
    """
    K, C = trie.shape
    if len(shape) * K > MAX_CELLS:
        raise ConfigError(*TOO_LARGE)
    number = np.full(len(shape) * K, -1, np.int32)
    frontier = np.array(starts)
    found = FINAL + 1 + len(frontier)
    number[frontier] = np.arange(FINAL + 1, found)
    rows: list[Table] = [np.full((1, C), FORBIDDEN, np.int32)]
    may_end: list[Flags] = [np.ones(1, np.bool_)]
    while len(frontier):
        states, nodes = frontier // K, frontier % K
        to, then = shape[states], trie[nodes]  # (F, C)
        possible = (to >= 0) & ~banned[then] & allowed & ~is_end
        pairs = np.where(possible, to.astype(np.int64) * K + then, 0)
        new = np.unique(pairs[possible])
        new = new[number[new] < 0]
        number[new] = np.arange(found, found + len(new))
        found += len(new)
        if found > MAX_STATES or found * C > MAX_CELLS:
            raise ConfigError(*TOO_LARGE)
        row = np.where(possible, number[pairs], FORBIDDEN).astype(np.int32)
        ends = final[states]
        if is_end.any():
            ends = ends & ~banned[then[:, is_end][:, 0]]
            row[:, is_end] = np.where(ends, FINAL, FORBIDDEN)[:, None]
        rows.append(row)
        may_end.append(ends)
        frontier = new
    return np.concatenate(rows), np.concatenate(may_end), number


def _trie(bans: Sequence[str], characters: str) -> tuple[Table, Flags, dict[str, int]]:
    """The automaton of Aho and Corasick (1975): which prefix of a banned text the text ends in.

    Returns the next node (K, V), whether a banned text is complete at a node (K,), and the nodes by name, the
    longest suffix of the text that begins a banned one. Node 0 is "".
    """
    names = {"": 0}
    for ban in bans:
        for n in range(1, len(ban) + 1):
            names.setdefault(ban[:n], len(names))
    if len(names) * len(characters) > MAX_CELLS:
        raise ConfigError(*TOO_LARGE)
    ids = {c: n for n, c in enumerate(characters)}
    children: list[list[tuple[int, int]]] = [[] for _ in names]
    for name, node in names.items():
        if name:
            children[names[name[:-1]]].append((ids[name[-1]], node))
    banned = np.zeros(len(names), np.bool_)
    banned[[names[ban] for ban in bans]] = True
    table = np.zeros((len(names), len(characters)), np.int32)
    shorter = [0] * len(names)  # failure links: the node of the longest proper suffix
    queue = deque([0])
    while queue:
        node = queue.popleft()
        if node:
            table[node] = table[shorter[node]]
            banned[node] |= banned[shorter[node]]
        for character, child in children[node]:
            shorter[child] = int(table[node, character]) if node else 0
            table[node, character] = child
            queue.append(child)
    return table, banned, names


def _longest_suffix(prompt: str, names: Collection[str]) -> str:
    """The longest suffix of the prompt that is among the names."""
    longest = min(max(map(len, names)), len(prompt))
    suffixes = (prompt[len(prompt) - n :] for n in range(longest, -1, -1))
    return next(suffix for suffix in suffixes if suffix in names)


def _end_with_words(table: Table, may_end: Flags, letters: Flags, breaks: Flags) -> None:
    """Keep texts from running up to their maximum length, where they would mostly end within a word.

    Where the length is bounded and the expression treats white space like letters, as in `.{30,60}`, it does
    not say how words end. There:

    - no new word begins within LAST_WORD characters (at most a quarter of the maximum) of the maximum length,
      if the text may end here or with the next character: the text ends instead, or with that character;
    - in the second half, nothing follows an end that its character marks, as in `.{100,199}[.!?]`.

    This only removes texts, and makes no dead ends: a transition is forbidden only where an end is at most
    one character away. letters and breaks (C,) are classes of characters.
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
    """The transitions of a table, by the state that they lead to."""

    def __init__(self, table: Table) -> None:
        source, column = np.nonzero(table >= 0)
        target = table[source, column]
        order = np.argsort(target, kind="stable")
        self._source: npt.NDArray[np.int64] = source[order]
        self._begins = np.searchsorted(target[order], np.arange(len(table) + 1))

    def into(self, states: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """The source state of each transition into one of the states."""
        begins = self._begins[states]
        counts = self._begins[states + 1] - begins
        # the ranges begins .. begins + counts, concatenated
        edges = np.repeat(begins - np.cumsum(counts) + counts, counts) + np.arange(counts.sum())
        found: npt.NDArray[np.int64] = self._source[edges]
        return found


def _reach(table: Table, may_end: Flags) -> Distances:
    """The fewest characters from each state to one where the text may end, (S,): a breadth-first search."""
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
    """The most characters that can follow each state, (S,); FAR: unbounded, or more than MOST_ROOM.

    The character that completes a text does not count.
    """
    table = np.where(table == FINAL, FORBIDDEN, table)
    edges = _Backwards(table)
    left = np.count_nonzero(table >= 0, axis=1)  # transitions to states whose room is not known yet
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
    """0 for the states from which a text can go on for ever, else FAR."""
    alive = np.ones(len(table), np.bool_)
    alive[FINAL] = False
    while True:
        going_on = alive & ((table >= 0) & alive[table]).any(axis=1)
        if (going_on == alive).all():
            return np.where(alive, 0, FAR).astype(np.int64)
        alive = going_on
