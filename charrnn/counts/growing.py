"""Counts of what was read so far: a model's logits -> the probabilities of one that learns while it reads.

See charrnn.kernels.loops.beside.growing.
"""

from __future__ import annotations

import unicodedata

import numpy as np
import numpy.typing as npt

from charrnn.config import TextConfig
from charrnn.errors import CharrnnError
from charrnn.kernels.loops.beside import growing as kernels
from charrnn.kernels.loops.beside.growing import (
    BUCKET,
    CLASSES,
    EXPERTS,
    GRAIN,
    INPUTS,
    LIMIT,
    MOST_DECISIONS,
    ORDERS,
    SLOTS,
    Grown,
)
from charrnn.kernels.machine.jit import JIT_DISABLED
from charrnn.vocabulary import Vocabulary

FIRST_MOVE = 1.3  # a first answer moves a probability by 1 / FIRST_MOVE of the way, the next by 1 / (1 + it)
EXPERTS_WEIGHT, MODELS_LOSS = 0.13, 0.06  # before anything is learned: the model's weight falls from 1

Past = npt.NDArray[np.int64]  # (E,) what was read last, the state of a text; see the kernels' _follow
Floats = npt.NDArray[np.float32]
Wide = npt.NDArray[np.float64]


class GrowingCounts:
    """What was learned from all texts read so far; each text has a state of its own, its Past.

    The memory does not grow. One thread may use it at a time.
    """

    def __init__(self, vocabulary: Vocabulary, text: TextConfig, slots: int = SLOTS) -> None:
        """`text` says how the texts are read that have this vocabulary; `slots` is a power of two.

        Raises:
            CharrnnError: Numba may not compile.
        """
        if JIT_DISABLED:
            raise CharrnnError("--adaptive needs compiled code, which NUMBA_DISABLE_JIT forbids", "unset it")
        assert slots >= BUCKET
        assert slots & (slots - 1) == 0
        self._V = len(vocabulary)
        weights = np.full((INPUTS, CLASSES), EXPERTS_WEIGHT)
        weights[:EXPERTS, 0] = 0.0  # those that were never asked
        weights[EXPERTS] = 1.0 - MODELS_LOSS * np.arange(CLASSES)
        weights[EXPERTS + 1] = 0.0
        paces = (2**16 / (np.arange(LIMIT + 1) + FIRST_MOVE)).astype(np.int64)
        letters, D = _letters(vocabulary, text), min(MOST_DECISIONS, self._V)
        self.grown = Grown(
            np.zeros(slots, np.uint64), weights, letters, np.empty(GRAIN), paces,
            np.zeros(EXPERTS, np.uint64), np.zeros(self._V), np.zeros(D, np.int64), np.zeros(D),
            np.zeros((D, EXPERTS), np.uint64), np.zeros((D, EXPERTS), np.int64),
            np.zeros((D, INPUTS)), np.zeros((D, INPUTS), np.int64),
        )  # fmt: skip
        kernels.prepare(self.grown)

    def nothing(self) -> Past:
        """The state before a text."""
        return np.where(np.arange(EXPERTS) < ORDERS, -1, 0)

    def read(
        self, logits: Floats, x: npt.NDArray[np.int32], y: npt.NDArray[np.int32],
        reset: npt.NDArray[np.bool_], past: Past,
    ) -> Wide:  # fmt: skip
        """-log p of each character y (T,), which is then learned; changes `past` to the state after x.

        x (T,) are the characters before them, START = V at a document's start, where `reset` (T,) is true.
        logits (T, V) are the model's. A y of -1 costs 0, and nothing is learned there.
        """
        nats = np.empty(len(y))
        kernels.read(self.grown, logits, x, y, reset, past, nats)
        return nats

    def after(self, past: Past, x: npt.NDArray[np.int32]) -> Past:
        """The state after the characters x (T,)."""
        past = past.copy()
        kernels.follow_all(self.grown, past, x)
        return past

    def predict(self, logits: Floats, past: Past) -> Wide:
        """The probability of each character (V,), where the model has the logits (V,)."""
        p = np.empty(self._V)
        kernels.spread(self.grown, logits, past, p)
        return p


def _letters(vocabulary: Vocabulary, text: TextConfig) -> npt.NDArray[np.bool_]:
    if text.bytes:  # those above 127 are parts of letters
        return np.array([c.isalpha() or ord(c) > 127 for c in vocabulary.characters])
    return np.array([unicodedata.category(c)[0] in "LM" for c in vocabulary.characters])
