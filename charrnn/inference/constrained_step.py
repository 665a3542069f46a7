"""Logits -> one character that the text may go on with: automaton, copied runs, repeats, mirostat.

What stands before and after inference.sampling's filters. Plain loops like theirs: the same source runs as
Python on lists, and under Numba on arrays (charrnn.inference.writing_loop).

Axes: V vocabulary, S states, C classes of characters, B texts, W characters that are looked back at.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from charrnn.inference import sampling
from charrnn.text.rolling_hash import BASES, PRIME, contains

ENDED, STUCK = -1, -2  # instead of a character: the text is complete without one; no character is possible
FORBIDDEN = -1  # instead of a next state
FINAL = 0  # the state of a line that is complete

# A repeat counts as at most so many characters longer than allowed: its penalty then knows no infinity.
MOST_BEYOND = 64


class Filters(NamedTuple):
    """How a character is chosen from its logits; see `sampling.sample` and `step`."""

    temperature: float
    top_k: int
    typical: float
    top_p: float
    min_p: float
    mirostat: float  # bits a character, tau; 0: off
    mirostat_rate: float  # eta
    dry: float  # the multiplier; 0: off
    dry_base: float
    dry_length: int


class Rules(NamedTuple):
    """What a text may be, the same for all texts of a run. Arrays, or lists of the same shape."""

    checks: bool  # the automaton ends a text that breaks it, instead of preventing that
    weighs: bool  # sum up the log of the probability that the automaton allows
    table: Any  # (S, C) int32: the next state, or FORBIDDEN; S = 0: there is no automaton
    classes: Any  # (V,) int32: the column of each character
    reach: Any  # (S,) int64: the fewest characters from here to where the text may end
    ends: bool  # a text that may end, does so before a character that the automaton does not allow
    run: int  # no run of so many characters of the training text; 0: off
    gram: int  # the length of the runs whose hashes are in `bits`, at most `run`
    probes: int  # bits for each hash
    bits: Any  # (M,) uint8, of which len(bits) * 8 bits: a Bloom filter
    points: Any  # (V,) int64: the code point of each character
    breakers: Any  # (V,) bool: characters over which repeats are not followed
    window: int  # W


class Tracks(NamedTuple):
    """Where each of B texts stands; each is changed in place as its text goes on."""

    states: Any  # (B,) int64, of the automaton
    left: Any  # (B,) int64: how many characters the text may have, from this call's first on
    limits: Any  # (B,) float64: mirostat's mu, in bits
    copied: Any  # (B,) int64: so many grams in a row, up to the last character, are in the training text
    masses: Any  # (B,) float64: the sum of logs that `weighs` asks for
    recent: Any  # (B, W + T) int64: the text's last characters, -1 where there is none, and T to come


def mask(logits: Any, row: Any, classes: Any, reach: Any, left: int) -> bool:
    """Set the logits (V,) of what the automaton forbids to -inf; False if nothing is left.

    row (C,) is the table's for the text's state; `left` characters may follow, the next one included. A
    character is allowed if the text can be ended with what is left after it.
    """
    some, finite = False, False
    for i in range(len(logits)):
        state = row[classes[i]]
        if state >= 0 and reach[state] < left:
            some = True
            if logits[i] != logits[i]:
                logits[i] = -math.inf
            finite = finite or logits[i] > -math.inf
        else:
            logits[i] = -math.inf
    if some and not finite:  # a broken network gives all that is allowed no probability: all the same
        for i in range(len(logits)):
            state = row[classes[i]]
            if state >= 0 and reach[state] < left:
                logits[i] = 0.0
    return some


def log_sum(logits: Any, temperature: float, p: Any) -> float:
    """log of the sum of exp(logits / temperature); -inf where all are -inf. p (V,) is scratch space."""
    greatest = -math.inf
    for i in range(len(logits)):
        if logits[i] > greatest:
            greatest = float(logits[i])
    if greatest == -math.inf:
        return greatest
    for i in range(len(logits)):
        p[i] = (float(logits[i]) - greatest) / temperature if logits[i] > -math.inf else -math.inf
    sampling.exponentials(p)
    total = 0.0
    for i in range(len(p)):
        total += p[i]
    return greatest / temperature + math.log(total)


def penalize_repeats(
    logits: Any, recent: Any, size: int, window: int, multiplier: float, base: float, length: int,
    breakers: Any, longest: Any,
) -> None:  # fmt: skip
    """Lower the logits of what would repeat `length` or more characters, and one more.

    DRY ("don't repeat yourself", p-e-w 2024, text-generation-webui, pull request 5677): where the last n
    characters stood before and c came after them, c loses multiplier * base^(n - length), n being the most
    of all such places. A repeat does not reach over a breaker. recent (W + T,) holds the text in its first
    `size` places, -1 where there is none; the last `window` of them count. longest (V,) is scratch space.
    """
    low = max(size - window, 0)
    last = recent[size - 1] if size > 0 else -1
    if last < 0 or breakers[last]:
        return
    for i in range(len(logits)):
        longest[i] = 0
    for j in range(low, size - 1):
        c = recent[j + 1]
        if recent[j] != last or breakers[c]:
            continue
        n = 1
        while n < length + MOST_BEYOND and j - n >= low:
            before = recent[j - n]
            if before < 0 or before != recent[size - 1 - n] or breakers[before]:
                break
            n += 1
        if n > longest[c]:
            longest[c] = n
    for i in range(len(logits)):
        if longest[i] >= length:
            penalty = multiplier
            for _ in range(int(longest[i]) - length):
                penalty *= base
            logits[i] -= penalty


def hash_begun(recent: Any, size: int, count: int, points: Any, base: int) -> int:
    """The hash of the last `count` characters, to which one more can be added; -1: there are fewer."""
    if size < count:
        return -1
    value = 0
    for n in range(size - count, size):
        if recent[n] < 0:
            return -1
        value = (value * base + points[recent[n]] + 1) % PRIME
    return value


def is_copied(rules: Any, first: int, second: int, character: int) -> bool:
    """Whether the gram begun with these hashes is in the training text when `character` completes it."""
    point = rules.points[character] + 1
    return contains(
        rules.bits, rules.probes, (first * BASES[0] + point) % PRIME, (second * BASES[1] + point) % PRIME
    )


def keep_new(logits: Any, rules: Any, first: int, second: int) -> bool:
    """Set the logits of what would complete a copied run to -inf; False if nothing is left."""
    some = False
    for i in range(len(logits)):
        if logits[i] > -math.inf:
            if is_copied(rules, first, second, i):
                logits[i] = -math.inf
            else:
                some = True
    return some


def step(
    logits: Any, filters: Any, u: float, p: Any, heap: Any, keys: Any, rules: Any, tracks: Any, text: int,
    done: int,
) -> int:  # fmt: skip
    """The next character of a text, or ENDED or STUCK; the text's tracks follow it.

    First DRY, then the automaton, then copied runs, then temperature and the filters of
    `sampling.sample`. `done` characters were written in this call; `text` is the text's place in the tracks.
    The logits (V,) are overwritten; p, heap and keys are scratch space, see `sampling.sample`.
    """
    recent, size = tracks.recent[text], rules.window + done
    if filters.dry > 0.0:
        penalize_repeats(
            logits, recent, size, rules.window, filters.dry, filters.dry_base, filters.dry_length,
            rules.breakers, keys,
        )  # fmt: skip
    left = tracks.left[text] - done
    steered = len(rules.table) > 0
    # Where a text of no lines may end, what does not fit ends it: nothing needs to be prevented.
    may_end = steered and rules.ends and rules.reach[tracks.states[text]] == 0
    if steered and not rules.checks and not may_end:
        before = log_sum(logits, filters.temperature, p) if rules.weighs else 0.0
        if not mask(logits, rules.table[tracks.states[text]], rules.classes, rules.reach, left):
            return STUCK
        if rules.weighs:
            tracks.masses[text] += log_sum(logits, filters.temperature, p) - before
    first, second = -1, -1
    if rules.run > 0:
        first = hash_begun(recent, size, rules.gram - 1, rules.points, BASES[0])
        second = hash_begun(recent, size, rules.gram - 1, rules.points, BASES[1])
        completes = first >= 0 and tracks.copied[text] >= rules.run - rules.gram
        if completes and not keep_new(logits, rules, first, second):
            return STUCK

    most_bits = tracks.limits[text] if filters.mirostat > 0.0 else math.inf
    chosen = sampling.sample(
        logits, filters.temperature, filters.top_k, filters.typical, filters.top_p, filters.min_p, most_bits,
        u, p, heap, keys,
    )  # fmt: skip

    if filters.mirostat > 0.0 and filters.temperature > 0.0:
        # p has still the probability that it had before the filters.
        tracks.limits[text] -= filters.mirostat_rate * (-math.log2(p[chosen]) - filters.mirostat)
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
