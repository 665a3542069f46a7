"""Counts of random texts, with random gates, to stand beside the networks of tests."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from charrnn.checkpoint.model_file import Checkpoint
from charrnn.counts.gate import SIZE, Gate, GatedCounts
from charrnn.counts.learning.building import build
from charrnn.counts.learning.grams import Grams
from charrnn.inference.numpy_network import PlainNetwork
from charrnn.text.documents import Documents
from charrnn.text.records.labels import Labelling
from charrnn.vocabulary import id_dtype


def gated(
    V: int, *, seed: int = 0, order: int = 5, length: int = 2000, end: int = -1, labels: tuple[int, ...] = ()
) -> GatedCounts:
    """Counts of a text in which contexts recur, and a gate that depends on all that it is told.

    With so many labels in each column, a stretch of 100 characters has the same.
    """
    random = np.random.default_rng(seed)
    words = [random.integers(0, V, random.integers(2, 7)) for _ in range(V)]
    ids = np.concatenate([words[i] for i in random.geometric(0.2, length) % V])[:length].astype(id_dtype(V))
    documents = Documents(ids, V, np.zeros(1, np.int64), end)
    if labels:
        starts = np.arange(0, length, 100)
        told = [random.integers(0, size + 1, len(starts)) for size in labels]
        documents = replace(documents, labels=Labelling(starts, np.stack(told, 1).astype(np.int32)))
    counts = build(Grams.of(documents, order, labels))
    return GatedCounts(counts, Gate(random.normal(scale=0.4, size=SIZE).astype(np.float32)))


def beside(checkpoint: Checkpoint, **settings: int) -> Checkpoint:
    """The model with such counts."""
    end = checkpoint.vocabulary.find(checkpoint.text.end) if checkpoint.text.records else -1
    labels = checkpoint.config.labels
    return replace(checkpoint, counts=gated(checkpoint.config.outputs, end=end, labels=labels, **settings))


def log_probability(model: Checkpoint, line: str) -> float:
    """log p of a line with its end, character by character in NumPy."""
    network = PlainNetwork(model)
    state, last, total = network.initial_state(), network.vocab_size, 0.0
    for character in model.vocabulary.encode(line).tolist():
        logits, state = network.step(last, state)
        total += float(logits[character])
        last = character
    return total
