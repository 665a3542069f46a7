"""A call of each kernel by which counts are learned and mixed with a network, so that it is compiled.

Nothing is asked of them: arrays hold nothing or zeros, so that kernels may be skipped, see jit.record.
"""

from __future__ import annotations

import numpy as np

from charrnn.counts.compiled import CompiledLookup, begins
from charrnn.counts.counts import Counts
from charrnn.counts.gate import SIZE
from charrnn.counts.learning.grams import MOST_WORDS, ORDER, layout_of, longest_order, text_of
from charrnn.counts.learning.levels import CODES
from charrnn.kernels.coefficients import GATE_INPUTS
from charrnn.kernels.loops.beside import grams, mixing
from charrnn.text.documents import Documents
from charrnn.vocabulary import id_dtype


def try_out(vocab_size: int) -> None:
    """Call the kernels for texts of so many characters, the end of a record included."""
    V = vocab_size
    _learn(V)
    tree = Counts(
        discounts=np.zeros((2, 3), np.uint16), symbols=np.zeros(1, id_dtype(V + 1)),
        children=np.zeros(1, np.uint8), successors=np.zeros(1, np.uint8), masses=np.zeros(1, np.uint8),
        following=np.zeros(0, id_dtype(V)), codes=np.zeros(0, np.uint8),
        count_values=np.ones(1, np.uint32), mass_values=np.ones(1, np.uint32), vocab_size=V,
    )  # fmt: skip
    lookup, nothing = CompiledLookup(tree), np.zeros((0, 2), np.float32)
    contexts, _ = lookup.follow(
        np.zeros((1, 1), np.int32), begins(np.ones((1, 1), np.bool_)), lookup.nothing(1), lookup.nothing(1)
    )
    known = contexts, np.zeros((1, 0), np.int32)
    chances, told = lookup.score_after(known, np.zeros(0, np.int64), np.zeros(0, np.int32))
    mixing.nats(np.zeros(0, np.float32), nothing, chances, told, np.zeros(SIZE + 1, np.float32))
    mixing.inputs(np.zeros((0, GATE_INPUTS), np.float32), nothing, told)
    features, one = (np.zeros((1, GATE_INPUTS)), np.ones(1)), np.ones(1)
    mixing.gradient(np.zeros(SIZE), np.zeros(SIZE), *features, one, one, np.zeros(1, np.int64))


def _learn(V: int) -> None:
    """What charrnn.counts.learning calls, in its order, with keys of one gram and levels of one context."""
    layout = layout_of(V, min(ORDER, longest_order(V)))
    documents = Documents(np.zeros(0, id_dtype(V)), V, np.zeros(0, np.int64))
    keys, spare, two = (np.zeros((rows, MOST_WORDS), np.uint64) for rows in (1, 1, 2))
    counts = np.ones(1, np.uint32)
    grams.pack(keys[:0], text_of(documents), 0, (0, 0, 0), np.zeros(MOST_WORDS, np.uint64), layout)
    grams.sort(keys, spare)
    grams.distinct(keys, counts)
    grams.merge(two, np.zeros(2, np.uint32), (keys, counts), (keys, counts))
    grams.group(_level(), keys, counts, layout)
    grams.shorten(_level(), _level(), np.zeros(1, np.uint32), 1, keys, layout)
    level, discounts, chances = _level(), np.zeros(4, np.int64), np.zeros(1, np.float32)
    grams.weigh(level, level, 1, discounts, V, (chances, chances), chances)
    kept, best, sizes = np.zeros(1, np.uint8), np.zeros(1, np.int32), id_dtype(V + 2)
    grams.tally(level, 1, chances.view(np.int32), (kept, best), best, np.zeros(1, np.int64), (1, 1, 20))
    nodes = (np.zeros(1, id_dtype(V + 1)), np.zeros(1, sizes), np.zeros(1, sizes), np.zeros(1, np.int64))
    follow = (np.zeros(1, id_dtype(V)), np.zeros(1, id_dtype(CODES)), np.zeros(1, id_dtype(CODES)), kept)
    grams.thin(level, 1, chances, np.float32(0), discounts, (kept, kept), (*nodes, *follow))


def _level() -> grams.Level:
    """A context that nothing follows."""
    return grams.Level(
        np.zeros(1, np.uint8), np.zeros(1, np.uint32), np.zeros(2, np.uint32),
        *(np.zeros(1, np.uint32) for _ in range(3)),
    )  # fmt: skip
