"""Logits -> one character that the constraints allow: the automaton, and no copies of the training text.

These steps surround inference.sampling. Like it, they are plain loops: the same source runs as Python on
lists, and under Numba on arrays (charrnn.inference.writing_loop).

Axes: V vocabulary, S states, C classes of characters, B texts, F active filters, W characters of the text
that filters look back at.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from charrnn.inference import sampling
from charrnn.inference.filters import greatest, total
from charrnn.text.rolling_hash import BASES, PRIME, contains

ENDED, STUCK = -1, -2  # in place of a character: the text is complete; no character is possible
FORBIDDEN = -1  # in place of a next state
FINAL = 0  # the state of a complete line


class Rules(NamedTuple):
    """The constraints that all texts of a run share; arrays, or lists of the same shape."""

    points: Any  # (V,) int64: the code point of each character
    breakers: Any  # (V,) bool: see inference.filters
    classes: Any  # (V,) int32: the column of each character
    table: Any = np.zeros((0, 1), np.int32)  # (S, C) the next state, or FORBIDDEN; S = 0: no automaton
    reach: Any = np.zeros(1, np.int64)  # (S,) the fewest characters from each state to an end
    checks: bool = False  # nothing is masked; a forbidden character stops the text as STUCK
    weighs: bool = False  # sum the log of the probability mass that the mask leaves
    ends: bool = False  # where a text may end, a forbidden character ends it
    run: int = 0  # the shortest run of characters that must not be copied from the training text; 0: off
    gram: int = 1  # the length of the character n-grams in `bits`, at most `run`
    probes: int = 0  # bits a hash
    bits: Any = np.zeros(1, np.uint8)  # (M,), of which len(bits) * 8 bits: a Bloom filter
    window: int = 0  # W


class Tracks(NamedTuple):
    """The progress of B texts, updated in place while they are written."""

    states: Any  # (B,) int64: the automaton's
    left: Any  # (B,) int64: the most characters that this call and later ones may write
    memory: Any  # (B, F) float64: of each active filter
    copied: Any  # (B,) int64: how many n-grams in a row, up to the last character, are in the training text
    masses: Any  # (B,) float64: the log of the probability mass left by the masks, see `weighs`
    recent: Any  # (B, W + T) int64: the last W characters, -1 before the text's start, and room for T more


def mask(logits: Any, row: Any, classes: Any, reach: Any, left: int) -> bool:
    """Set the logits (V,) of forbidden characters to -inf; False if no character is left.

    row (C,) is the table's row of the text's state; `left` characters may follow, the next one included. A
    character is allowed if the text can still end within the characters left after it.
    """
    some = False
    for i in range(len(logits)):
        state = row[classes[i]]
        allowed = state >= 0 and reach[state] < left
        some = some or allowed
        if not (allowed and logits[i] > -math.inf):  # NaN is not greater
            logits[i] = -math.inf
    # A broken network may rule out every allowed character: then they are equally probable.
    if some and greatest(logits) == -math.inf:
        for i in range(len(logits)):
            state = row[classes[i]]
            if state >= 0 and reach[state] < left:
                logits[i] = 0.0
    return some


def log_sum(logits: Any, temperature: float, p: Any) -> float:
    """log of the sum of exp(logits / temperature); -inf where all are -inf. p (V,) is scratch space."""
    most = greatest(logits)
    if most == -math.inf:
        return most
    for i in range(len(logits)):
        p[i] = (float(logits[i]) - most) / temperature if logits[i] > -math.inf else -math.inf
    sampling.exponentials(p)
    return most / temperature + math.log(total(p))


def hash_begun(recent: Any, size: int, count: int, points: Any, base: int) -> int:
    """The rolling hash of the last `count` characters, to be extended by one; -1: there are fewer."""
    if size < count:
        return -1
    value = 0
    for n in range(size - count, size):
        if recent[n] < 0:
            return -1
        value = (value * base + points[recent[n]] + 1) % PRIME
    return value


def is_copied(rules: Any, first: int, second: int, character: int) -> bool:
    """Whether the n-gram with these begun hashes and this last character is in the training text."""
    point = rules.points[character] + 1
    return contains(
        rules.bits, rules.probes, (first * BASES[0] + point) % PRIME, (second * BASES[1] + point) % PRIME
    )


def keep_new(logits: Any, rules: Any, first: int, second: int) -> bool:
    """Set the logits of characters that would complete a copied run to -inf; False if none is left."""
    some = False
    for i in range(len(logits)):
        if logits[i] > -math.inf:
            if is_copied(rules, first, second, i):
                logits[i] = -math.inf
            else:
                some = True
    return some


def step(logits: Any, chain: Any, u: float, rules: Any, tracks: Any, text: int, done: int, space: Any) -> int:
    """The next character of a text, or ENDED or STUCK; its tracks are updated.

    The order is: filters of logits, the automaton's mask, copied runs, `sampling.sample`. `done` characters
    were written in this call; `text` is the text's index in the tracks. The logits (V,) are overwritten.
    """
    recent, size = tracks.recent[text], rules.window + done
    past = sampling.Past(recent[done:size], rules.breakers, tracks.memory[text])
    sampling.apply(chain, 0, chain.early, logits, space, past)
    left = tracks.left[text] - done
    steered = len(rules.table) > 0
    # Where a text of prose may end, a forbidden character ends it: nothing is masked.
    may_end = steered and rules.ends and rules.reach[tracks.states[text]] == 0
    if steered and not rules.checks and not may_end:
        before = log_sum(logits, chain.temperature, space.p) if rules.weighs else 0.0
        if not mask(logits, rules.table[tracks.states[text]], rules.classes, rules.reach, left):
            return STUCK
        if rules.weighs:
            tracks.masses[text] += log_sum(logits, chain.temperature, space.p) - before
    first, second = -1, -1
    if rules.run > 0:
        first = hash_begun(recent, size, rules.gram - 1, rules.points, BASES[0])
        second = hash_begun(recent, size, rules.gram - 1, rules.points, BASES[1])
        completes = first >= 0 and tracks.copied[text] >= rules.run - rules.gram
        if completes and not keep_new(logits, rules, first, second):
            return STUCK

    chosen = sampling.sample(logits, chain, u, space, past)

    if chain.temperature > 0.0:
        sampling.follow(chain, past.memory, space.p[chosen])
    if steered:
        state = rules.table[tracks.states[text]][rules.classes[chosen]]
        if state < 0 or rules.reach[state] >= left:
            return ENDED if may_end else STUCK
        tracks.states[text] = state
    if rules.run > 0:
        copied = first >= 0 and is_copied(rules, first, second, chosen)
        tracks.copied[text] = tracks.copied[text] + 1 if copied else 0
    if rules.window > 0:
        recent[size] = chosen
    return chosen
