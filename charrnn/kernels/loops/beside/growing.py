"""Counts that go on counting while a text is read, beside the predictions of a model that stays as it is.

A character is told by decisions: is it the one that the model expects most? Is it the next one? .. So English
takes three of them, whatever the alphabet. In each, experts say how often it was yes where the last
characters, or words, were the same. Their answers are mixed as in PAQ (Mahoney 2005): the logit is the sum of
all logits, the model's among them, with weights that follow their gradient. After MOST_DECISIONS, the model's
own probabilities remain. So all probabilities sum to one, whatever was counted.

An expert's answer is a slot of 64 bits: a check of its hash (32), a probability (22), and how often it was
asked (10), up to a limit, so that what is new counts more. A new one takes the place of the one in its bucket
that was asked least: memory is bounded. All arithmetic has one order, the same on every machine. Compressed
files need it as it is: what changes it changes their version.

Axes: T characters, V vocabulary, E experts, I = E + 2 inputs of a decision.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from charrnn.kernels.activations import exp
from charrnn.kernels.coefficients import EXP_LEAST
from charrnn.kernels.loops.beside.mixing import _log
from charrnn.kernels.machine.jit import njit

ORDERS, WORDS = 7, 2  # experts on the last 1, 2, .. characters; on this word, and on it and the one before
EXPERTS = ORDERS + WORDS
INPUTS = EXPERTS + 2  # also the model, and a constant
SLOTS, BUCKET = 1 << 20, 4  # of 100,000 characters, a quarter of them loses nothing, and more gain nothing
# Answers that an expert remembers. Tinyshakespeare's last tenth, this program's docs and its source: 1.300,
# 1.363, 1.190; with 20, 1.303, 1.369, 1.196; with 30, 1.305, 1.371, 1.197. An expert on 7 characters gains
# 0.000, 0.003 and 0.006 more.
LIMIT = 12
MOST_DECISIONS = 256
# Of weights. An expert's go by how often it was asked, the model's by the last expert that was asked before,
# the constant's by the decision.
CLASSES = EXPERTS + 1
CONSTANT = 0.3
RATE = 0.002  # of the weights
FLOOR = 2.0**-24  # of the model's probabilities
LARGEST = 12.0  # logit
GRAIN = 4096  # different probabilities whose logits are known

_ASKED, _WHOLE = np.int64(1023), np.int64(1 << 22)
_CHECK, _GOLDEN, _STIRRING = np.uint64(32), np.uint64(0x9E3779B97F4A7C15), np.uint64(0xD6E8FEB86659FD93)
_LEAST = np.float32(EXP_LEAST)


class Grown(NamedTuple):
    """What was learned, and the decisions about one character."""

    slots: Any  # (S,) uint64, S a power of two
    weights: Any  # (I, CLASSES) float64
    letters: Any  # (V,) bool: the characters of words
    logits: Any  # (GRAIN,) float64: of probabilities
    paces: Any  # (LIMIT + 1,) int64: the share, of 2^16, by which the n-th answer moves a probability
    hashes: Any  # (E,) uint64: of what precedes the character
    left: Any  # (V,) float64: the model's probabilities, up to a factor; 0 for those that were asked about
    # Of each decision n, of D at most:
    guesses: Any  # (D,) int64: the character
    chances: Any  # (D,) float64: that it is this one, if it is none before
    keys: Any  # (D, E) uint64: the experts' hashes, with the character
    places: Any  # (D, E) int64: their slots
    inputs: Any  # (D, I) float64
    classes: Any  # (D, I) int64


@njit()
def prepare(grown: Any) -> None:
    """Fill in the logits: each is that of the middle of its probabilities."""
    for i in range(GRAIN):
        p = (i + 0.5) / GRAIN
        grown.logits[i] = _log(p) - _log(1.0 - p)


@njit()
def _stirred(number: Any) -> Any:
    number = (number ^ (number >> np.uint64(32))) * _STIRRING
    return number ^ (number >> np.uint64(29))


@njit()
def follow(grown: Any, past: Any, character: int) -> None:
    """What was read last, (E,), after one more character, 0 .. V-1 or V for START.

    It has the last characters, the last one first, and the hashes of this word, or 0, and of two.
    """
    for k in range(ORDERS - 1, 0, -1):
        past[k] = past[k - 1]
    past[0] = character
    word = np.uint64(past[ORDERS])
    if character < len(grown.letters) and grown.letters[character]:
        longer = _stirred(word * _GOLDEN + np.uint64(character + 1)) >> np.uint64(1)
        past[ORDERS] = np.int64(longer)
        past[ORDERS + 1] = np.int64(np.uint64(past[ORDERS + 1]) - word + longer)
    elif word > 0:
        past[ORDERS], past[ORDERS + 1] = 0, np.int64(word * _GOLDEN)


@njit()
def _begin(grown: Any, logits: Any, past: Any) -> float:
    """Before the decisions about a character, of which the model has the logits (V,): what is left."""
    key = np.uint64(0)
    for k in range(ORDERS):
        key = (key + np.uint64(past[k] + 2)) * _GOLDEN
        grown.hashes[k] = _stirred(key + np.uint64(k))
    for k in range(ORDERS, EXPERTS):
        grown.hashes[k] = _stirred(np.uint64(past[k]) * _GOLDEN + np.uint64(k))
    top = np.float32(-np.inf)
    for i in range(len(logits)):
        top = logits[i] if logits[i] > top else top
    total = 0.0
    for i in range(len(logits)):
        x = np.float32(logits[i] - top)
        grown.left[i] = np.float64(exp(x if x > _LEAST else _LEAST))  # also in place of NaN
        total += grown.left[i]
    floor = total * FLOOR
    for i in range(len(logits)):
        grown.left[i] += floor
    return total + floor * len(logits)


@njit()
def _next(left: Any) -> int:
    """The character that the model expects most, of those that are left."""
    best = 0
    for i in range(len(left)):
        if left[i] > left[best]:
            best = i
    return best


@njit()
def _place(slots: Any, key: Any) -> Any:
    """The slot of a key or, if it has none, the one that it takes."""
    check = key >> _CHECK
    first: Any = np.int64(key & np.uint64(len(slots) // BUCKET - 1)) * BUCKET
    found, least = first, _WHOLE
    for place in range(first, first + BUCKET):
        asked = np.int64(slots[place]) & _ASKED
        if slots[place] >> _CHECK == check and asked > 0:
            return place
        if asked < least:
            found, least = place, asked
    return found


@njit()
def _decide(grown: Any, n: int, total: float) -> float:
    """Decision n: is it what the model expects most of what is left? Returns how much is left then."""
    character = _next(grown.left)
    inputs, classes, last = grown.inputs[n], grown.classes[n], 0
    for k in range(EXPERTS):
        key = _stirred(grown.hashes[k] + np.uint64(character + 1) * _GOLDEN)
        place = _place(grown.slots, key)
        slot = grown.slots[place]
        asked = np.int64(slot) & _ASKED
        grown.keys[n, k], grown.places[n, k] = key, place
        if asked > 0 and slot >> _CHECK == key >> _CHECK:
            last = k + 1
            inputs[k] = grown.logits[np.int64(slot >> np.uint64(20)) & np.int64(GRAIN - 1)]
            classes[k] = min(asked, CLASSES - 1)
        else:
            inputs[k], classes[k] = 0.0, 0
    own = grown.left[character]
    inputs[EXPERTS], classes[EXPERTS] = _log(own) - _log(total - own), last
    inputs[EXPERTS + 1], classes[EXPERTS + 1] = CONSTANT, min(n, CLASSES - 1)
    logit = 0.0
    for k in range(INPUTS):
        logit += grown.weights[k, classes[k]] * inputs[k]
    logit = min(max(logit, -LARGEST), LARGEST)
    e = np.float64(exp(np.float32(-abs(logit))))
    grown.guesses[n], grown.chances[n] = character, 1.0 / (1.0 + e) if logit > 0 else e / (1.0 + e)
    grown.left[character] = 0.0
    return total - own


@njit()
def learn(grown: Any, decisions: int, character: int) -> None:
    """Learns what the answers to the decisions were, up to that about the character."""
    for n in range(decisions):
        yes = grown.guesses[n] == character
        step = (1.0 - grown.chances[n] if yes else -grown.chances[n]) * RATE
        for k in range(INPUTS):
            grown.weights[k, grown.classes[n, k]] += step * grown.inputs[n, k]
        wanted = _WHOLE - np.int64(1) if yes else np.int64(0)
        for k in range(EXPERTS):
            asked, p = np.int64(0), _WHOLE >> np.int64(1)
            if grown.classes[n, k] > 0:
                slot = grown.slots[grown.places[n, k]]
                asked = np.int64(slot) & _ASKED
                p = np.int64(slot >> np.uint64(10)) & (_WHOLE - np.int64(1))
            p += ((wanted - p) * grown.paces[asked]) >> np.int64(16)
            value = (p << np.int64(10)) | min(asked + np.int64(1), np.int64(LIMIT))
            grown.slots[grown.places[n, k]] = ((grown.keys[n, k] >> _CHECK) << _CHECK) | np.uint64(value)
        if yes:
            break


@njit()
def _most_decisions(grown: Any) -> int:
    return min(len(grown.guesses), len(grown.left) - 1)


@njit()
def _advance(grown: Any, logits: Any, past: Any, character: int) -> float:
    """The probability of the character, from which it then learns."""
    total, chance = _begin(grown, logits, past), 1.0
    for n in range(_most_decisions(grown)):
        total = _decide(grown, n, total)
        if grown.guesses[n] == character:
            learn(grown, n + 1, character)
            return chance * grown.chances[n]
        chance *= 1.0 - grown.chances[n]
    learn(grown, _most_decisions(grown), character)
    rest = 0.0
    for i in range(len(grown.left)):
        rest += grown.left[i]
    return chance * (grown.left[character] / rest)


@njit()
def spread(grown: Any, logits: Any, past: Any, p: Any) -> int:
    """p (V,): the probability of each character after `past`, where the model has the logits (V,).

    Returns how many decisions there were, from which `learn` may learn which character it was.
    """
    total, chance, decisions = _begin(grown, logits, past), 1.0, _most_decisions(grown)
    for n in range(decisions):
        total = _decide(grown, n, total)
        p[grown.guesses[n]] = chance * grown.chances[n]
        chance *= 1.0 - grown.chances[n]
    rest = 0.0
    for i in range(len(p)):
        rest += grown.left[i]
    for i in range(len(p)):
        if grown.left[i] > 0.0:
            p[i] = chance * (grown.left[i] / rest)
    return decisions


@njit()
def forget(past: Any) -> None:
    """Nothing was read yet."""
    for k in range(len(past)):
        past[k] = -1 if k < ORDERS else 0


@njit()
def read(grown: Any, logits: Any, x: Any, y: Any, reset: Any, past: Any, nats: Any) -> None:
    """nats (T,): -log p of the characters y (T,), each of which is then learned; where y is -1, 0.

    x (T,) are the characters before them, and logits (T, V) the model's after these. Where reset (T,) is
    true, nothing is known of what preceded x; elsewhere `past` (E,) is, which is followed.
    """
    for t in range(len(y)):
        if reset[t]:
            forget(past)
        follow(grown, past, x[t])
        nats[t] = 0.0 if y[t] < 0 else -_log(_advance(grown, logits[t], past, y[t]))


@njit()
def follow_all(grown: Any, past: Any, x: Any) -> None:
    """The same as `follow`, for each character of x (T,)."""
    for character in x:
        follow(grown, past, character)
