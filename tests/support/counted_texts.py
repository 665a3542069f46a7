"""Texts of which counts are learned, as the program and the reference take them."""

from __future__ import annotations

from typing import Any

import naive
import numpy as np

from charrnn.counts.compiled import CompiledLookup
from charrnn.counts.lookup import NOTHING, Lookup
from charrnn.text.documents import Documents


def random_text(seed: int, length: int, V: int) -> Documents:
    """Documents in which contexts recur, as in a language."""
    rng = np.random.default_rng(seed)
    words = [rng.geometric(min(0.9, 4 / V), rng.integers(1, 6)) % V for _ in range(max(V // 2, 3))]
    ids = np.concatenate([words[i] for i in rng.geometric(0.1, length) % len(words)])[:length]
    ids = np.where(rng.random(length) < 0.1, rng.integers(0, V, length), ids)
    starts = np.unique(np.append(0, rng.integers(0, length, 3)))
    return Documents(ids.astype(np.uint8 if V <= 256 else np.uint16), V, starts)


def stretches(documents: Documents) -> list[tuple[bool, list[int]]]:
    """As the reference takes them; what precedes a cut is not known."""
    x, y, reset = documents.look_up(np.arange(len(documents)))
    found: list[tuple[bool, list[int]]] = []
    for before, character, begins in zip(x.tolist(), y.tolist(), reset.tolist(), strict=True):
        if begins:
            found.append((before == documents.vocab_size, []))
        found[-1][1].append(character)
    return found


def contexts_of(reference: naive.KneserNey, V: int, seed: int = 0) -> list[tuple[int, ...]]:
    """Those that occur, and as many that need not."""
    rng = np.random.default_rng(seed)
    known = list(reference.counts)[:200]
    return known + [tuple(rng.integers(0, V, len(context)).tolist()) for context in known]


def state(lookup: Lookup | CompiledLookup, context: tuple[int, ...], n: int) -> Any:
    return np.array([NOTHING] * (n - 1 - len(context)) + list(context), np.int32)
