"""The n-grams of a text: sorted, counted, regrouped by shorter and shorter contexts, and weighed.

A gram of order n is a context of n - 1 characters and the character that follows. Its key is a row of W
words of 64 bits. Each symbol takes `bits` of them, from the highest of the first word on: first the context,
its latest character first, then what follows. A symbol is 1 + id, V + 1 for START, or 0 where there is
nothing: before START, and where a part of the text is left out. So sorted keys are grouped by contexts of
every length.

For n = 4, "ab" gives the keys START 0 0 a and a START 0 b.

Of texts with labels there are further grams, whose contexts have the label in the place of their latest
character: V + 2 + its place among all labels.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from charrnn.kernels.machine.jit import njit
from charrnn.kernels.rows import _clear

_DIGIT = 11  # bits by which a pass sorts
_FEW = 24  # as many characters are sorted by insertion
UNIT = 4096  # discounts and the mass of what is left are multiples of 1 / UNIT


class Text(NamedTuple):
    """A text of N characters, as charrnn.text.documents.Documents describes it."""

    ids: Any  # any unsigned integers
    first: Any  # (K,) where each piece begins
    shift: Any  # (K,) what to add to find its characters in `ids`
    starts: Any  # (D,) where documents start, sorted
    cuts: Any  # (C,) where a document goes on after a part that was left out, sorted
    end: int  # the id after which a document starts; -1: none
    vocab_size: int  # V


class Order(NamedTuple):
    """The layout of a key."""

    n: int  # symbols
    bits: int  # of each
    vocab_size: int  # V


class Level(NamedTuple):
    """The contexts of k characters, sorted, and what follows them."""

    same: Any  # (contexts,) symbols that it shares with the context before
    oldest: Any  # (contexts,) its last symbol
    begin: Any  # (contexts + 1,) where its characters begin
    following: Any  # (S,) ids, ascending within a context
    counts: Any  # (S,) of Kneser and Ney
    occurrences: Any  # (S,) in the text


@njit()
def _place(symbol: int, order: Any) -> Any:
    """The word of a symbol in a key, and how far it is shifted there."""
    held = 64 // order.bits
    return symbol // held, np.uint64(order.bits * (held - 1 - symbol % held))


@njit()
def _symbol(keys: Any, row: int, symbol: int, order: Any) -> Any:
    word, shift = _place(symbol, order)
    return np.int64((keys[row, word] >> shift) & ((np.uint64(1) << np.uint64(order.bits)) - np.uint64(1)))


@njit()
def pack(keys: Any, text: Any, position: int, places: Any, context: Any, order: Any) -> None:
    """The keys (P, W) of the grams that end at `position` and after it.

    places: of this position's piece, and of the first start and the first cut from there on.
    context (W,) is the key of the first without its last symbol, and becomes that of the gram after the last.
    """
    width, top = np.uint64(order.bits), np.uint64(order.bits * (64 // order.bits - 1))
    lowest = (np.uint64(1) << width) - np.uint64(1)
    last, shift = _place(order.n - 1, order)
    piece, start, cut = places
    for row in range(len(keys)):
        while piece + 1 < len(text.first) and text.first[piece + 1] <= position:
            piece += 1
        at = position + text.shift[piece]
        if cut < len(text.cuts) and text.cuts[cut] == position:
            _clear(context)
            cut += 1
        begins = text.end >= 0 and at > 0 and text.ids[at - 1] == text.end
        if start < len(text.starts) and text.starts[start] == position:
            begins = True
            start += 1
        if begins:
            _clear(context)
            context[0] = np.uint64(text.vocab_size + 1) << top
        symbol = np.uint64(text.ids[at]) + np.uint64(1)
        pushed = symbol  # into the first word; what it pushes out of that goes into the second
        for w in range(keys.shape[1]):
            word = context[w]
            keys[row, w] = word
            context[w] = (word >> width) | (pushed << top)
            pushed = word & lowest
        keys[row, last] |= symbol << shift
        context[last] &= ~(lowest << shift)
        position += 1


@njit()
def put_first(keys: Any, symbols: Any, order: Any) -> None:
    """Puts symbols (P,) before the contexts of keys (P, W), which lose their oldest character."""
    width, top = np.uint64(order.bits), np.uint64(order.bits * (64 // order.bits - 1))
    lowest = (np.uint64(1) << width) - np.uint64(1)
    last, shift = _place(order.n - 1, order)
    for row in range(len(keys)):
        following = (keys[row, last] >> shift) & lowest
        keys[row, last] &= ~(lowest << shift)
        pushed = np.uint64(symbols[row])
        for w in range(keys.shape[1]):
            word = keys[row, w]
            keys[row, w] = (word >> width) | (pushed << top)
            pushed = word & lowest
        keys[row, last] = (keys[row, last] & ~(lowest << shift)) | (following << shift)


@njit()
def sort(keys: Any, spare: Any) -> bool:
    """Sorts keys (P, W) by the digits of their words; whether the result is in `spare` (P, W)."""
    P, W = keys.shape
    count, digit = np.empty(1 << _DIGIT, np.int64), np.uint64((1 << _DIGIT) - 1)
    swapped = False
    for place in range(W * -(-64 // _DIGIT)):
        w, shift = W - 1 - place // -(-64 // _DIGIT), np.uint64(place % -(-64 // _DIGIT) * _DIGIT)
        _clear(count)
        for row in range(P):
            count[(keys[row, w] >> shift) & digit] += 1
        if count[(keys[0, w] >> shift) & digit] == P:
            continue
        total = 0
        for d in range(len(count)):
            total, count[d] = total + count[d], total
        for row in range(P):
            d = (keys[row, w] >> shift) & digit
            for v in range(W):
                spare[count[d], v] = keys[row, v]
            count[d] += 1
        keys, spare = spare, keys
        swapped = not swapped
    return swapped


@njit()
def _compare(a: Any, i: int, b: Any, j: int) -> int:
    """-1, 0 or 1, as a's row i is below, equal to or above b's row j."""
    for w in range(a.shape[1]):
        if a[i, w] != b[j, w]:
            return -1 if a[i, w] < b[j, w] else 1
    return 0


@njit()
def _move(into: Any, row: int, keys: Any, i: int) -> None:
    for w in range(keys.shape[1]):
        into[row, w] = keys[i, w]


@njit()
def distinct(keys: Any, counts: Any) -> int:
    """Moves one each of equal sorted keys (P, W) to the front, and counts (P,) them; returns their number."""
    found = -1
    for row in range(len(keys)):
        if found >= 0 and _compare(keys, found, keys, row) == 0:
            counts[found] += np.uint32(1)
        else:
            found += 1
            _move(keys, found, keys, row)
            counts[found] = 1
    return found + 1


@njit()
def merge(keys: Any, counts: Any, a: Any, b: Any) -> int:
    """The sum of two sorted lists of keys and their counts; returns how many keys it has."""
    a_keys, a_counts = a
    b_keys, b_counts = b
    i, j, found = 0, 0, 0
    while i < len(a_keys) or j < len(b_keys):
        if j == len(b_keys):
            side = -1
        elif i == len(a_keys):
            side = 1
        else:
            side = _compare(a_keys, i, b_keys, j)
        counts[found] = 0
        if side <= 0:
            _move(keys, found, a_keys, i)
            counts[found] += a_counts[i]
            i += 1
        if side >= 0:
            _move(keys, found, b_keys, j)
            counts[found] += b_counts[j]
            j += 1
        found += 1
    return found


@njit()
def group(level: Any, keys: Any, counts: Any, order: Any) -> int:
    """The longest contexts, from sorted distinct keys; returns how many there are."""
    found, width, held = 0, np.uint64(order.bits), 64 // order.bits
    for row in range(len(keys)):
        same = 0
        for w in range(keys.shape[1] if row > 0 else 0):
            different, equal = keys[row, w] ^ keys[row - 1, w], held
            while different > 0:
                different >>= width
                equal -= 1
            same += equal
            if equal < held:
                break
        if row == 0 or same < order.n - 1:
            level.same[found], level.begin[found] = same, row
            level.oldest[found] = _symbol(keys, row, order.n - 2, order)
            found += 1
        level.following[row] = _symbol(keys, row, order.n - 1, order) - 1
        level.counts[row] = level.occurrences[row] = counts[row]
    level.begin[found] = len(keys)
    return found


@njit()
def shorten(shorter: Any, longer: Any, gram: Any, k: int, keys: Any, order: Any) -> Any:
    """The contexts of k characters, from those of k + 1; returns how many there are, and their characters.

    A character counts once for each of the longer contexts that it follows. But where nothing precedes a
    context, which begins with START, its counts are occurrences.
    gram (contexts,) is the first key of each longer context and becomes that of each shorter one.
    """
    V = order.vocab_size
    seen, times, touched = np.zeros(V, np.uint32), np.zeros(V, np.uint32), np.empty(V, np.int32)
    found, total, child = 0, 0, 0
    following, counts, occurrences = shorter.following, shorter.counts, shorter.occurrences
    while child < len(longer.same):
        first = child
        child += 1
        while child < len(longer.same) and longer.same[child] >= k:
            child += 1
        oldest = _symbol(keys, gram[first], k - 1, order) if k > 0 else 0
        shorter.same[found], shorter.oldest[found], shorter.begin[found] = longer.same[first], oldest, total
        gram[found] = gram[first]
        found += 1
        low, high = longer.begin[first], longer.begin[child]
        if child == first + 1:
            whole = k > 0 and (oldest == 0 or oldest == V + 1)
            for i in range(low, high):
                following[total], occurrences[total] = longer.following[i], longer.occurrences[i]
                counts[total] = longer.counts[i] if whole else 1
                total += 1
            continue
        number = 0
        for i in range(low, high):
            c = longer.following[i]
            if seen[c] == 0:
                touched[number] = c
                number += 1
            seen[c] += np.uint32(1)
            times[c] += longer.occurrences[i]
        if number > _FEW:
            number = 0
            for c in range(V):
                if seen[c] > 0:
                    touched[number] = c
                    number += 1
        else:
            for i in range(1, number):
                c, j = touched[i], i
                while j > 0 and touched[j - 1] > c:
                    touched[j] = touched[j - 1]
                    j -= 1
                touched[j] = c
        for i in range(number):
            c = touched[i]
            following[total], counts[total], occurrences[total] = c, seen[c], times[c]
            seen[c] = times[c] = 0
            total += 1
    shorter.begin[found] = total
    return found, total


@njit()
def weigh(level: Any, above: Any, k: int, discounts: Any, V: int, chances: Any, gains: Any) -> None:
    """The probabilities of what follows contexts of k characters, and what it gains to keep them.

    Of the log-likelihood of the text, gains (S,) is what a character adds that is not left to the contexts
    `above`, of k - 1 characters, and their chances (that level's S,). discounts (4,) of UNIT, by the count.
    """
    level_chances, above_chances = chances
    lower = np.full(V, np.float32(1.0 / V))
    up = -1
    for context in range(len(level.same)):
        if k > 0 and (context == 0 or level.same[context] < k - 1):
            up += 1
            for i in range(above.begin[up], above.begin[up + 1]):
                lower[above.following[i]] = above_chances[i]
        total, left = np.int64(0), np.int64(0)
        for i in range(level.begin[context], level.begin[context + 1]):
            total += level.counts[i]
            left += discounts[min(level.counts[i], 3)]
        scale = 1.0 / (total * UNIT)
        for i in range(level.begin[context], level.begin[context + 1]):
            count = np.int64(level.counts[i])
            own = count * UNIT - discounts[min(count, 3)]
            before = lower[level.following[i]]
            chance = (own + left * before) * scale
            level_chances[i] = chance
            gains[i] = level.occurrences[i] * math.log(chance / ((own + left) * scale * before))


@njit()
def tally(level: Any, k: int, gains: Any, longer: Any, best: Any, total: Any, sizes: Any) -> None:
    """Adds the bytes of contexts of k characters, and of what follows them, to total, by classes of gains.

    Gains are the bits of float32 numbers, negative for what is left out. A context gains as much as the best
    of what follows it, and of the longer contexts: best (contexts,). longer: these contexts' `same` and best.
    """
    longer_same, longer_best = longer
    character, context_size, shift = sizes
    child = 0
    for context in range(len(level.same)):
        top, first = np.int32(-1), child
        while child < len(longer_same) and (child == first or longer_same[child] >= k):
            top = max(top, longer_best[child])
            child += 1
        for i in range(level.begin[context], level.begin[context + 1]):
            if gains[i] >= 0:
                top = max(top, gains[i])
                total[gains[i] >> shift] += character
        best[context] = top
        if top >= 0:
            total[top >> shift] += context_size


@njit()
def thin(level: Any, k: int, gains: Any, least: float, discounts: Any, below: Any, into: Any) -> Any:
    """Writes the contexts of k characters to a tree; returns how many there are, and their characters.

    What gains less than `least` is left out, and so are contexts with a symbol for nothing, and those without
    characters, of their own or after longer contexts. below: the longer ones' `same`, and which are written.
    """
    longer_same, longer_kept = below
    symbols, children, successors, masses, following, codes, code_of, kept = into
    found, total, child = 0, 0, 0
    for context in range(len(level.same)):
        number = 0
        first = child
        while child < len(longer_same) and (child == first or longer_same[child] >= k):
            number += longer_kept[child]
            child += 1
        kept[context] = 0
        if k > 0 and level.oldest[context] == 0:
            continue
        begun, mass = total, np.int64(0)
        for i in range(level.begin[context], level.begin[context + 1]):
            count = np.int64(level.counts[i])
            if gains[i] >= least:
                mass += discounts[min(count, 3)]
                following[total], codes[total] = level.following[i], code_of[count]
                total += 1
            else:
                mass += count * UNIT
        if total > begun or number > 0:
            kept[context] = 1
            symbols[found], children[found] = level.oldest[context] - 1, number
            successors[found], masses[found] = total - begun, mass
            found += 1
    return found, total
