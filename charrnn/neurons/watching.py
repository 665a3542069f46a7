"""One unit, character by character, and what the model expects after each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from charrnn.errors import printable
from charrnn.neurons.activations import Network, Piece
from charrnn.neurons.units import Unit
from charrnn.nn.network import State
from charrnn.nn.parameters import Array
from charrnn.vocabulary import END

STEPS = 256  # characters at a time
TOLD = 4  # characters that are expected

Watched = tuple[str, str, list[float], list[str]]  # file, text, a value and what is expected after each


def watch(network: Network, texts: Iterable[Piece], unit: Unit, *, expects: bool) -> Iterator[Watched]:
    """The text, piece by piece as it arrives, and the unit's value after each character, from -1 to 1.

    If it `expects`, each character has its most probable followers, in words.
    """
    model, vocabulary = network.model(predicts=expects), network.checkpoint.vocabulary
    zero, nothing = model.zero_state(1), np.empty(0, np.int64)
    state: State = zero
    for piece in texts:
        ids = vocabulary.encode(piece.text).astype(np.int32)
        if piece.begins:
            ids = np.insert(ids, 0, network.start)
        values: list[float] = []
        notes: list[str] = []
        for low in range(0, len(ids), STEPS):
            steps = network.steps(ids[low : low + STEPS])
            x, reset, kept = steps.x[:, None], steps.reset[:, None], np.flatnonzero(steps.places >= 0)
            if expects:
                logits, _ = model.forward(x, state, reset)
                notes += _expected(logits[kept, 0], vocabulary.characters)
            rows = reset.astype(np.int32) - 1
            _, after, state = model.read(x, rows, zero, state, nothing, nothing, kept)
            values += network.shown(network.values(after)[unit.layer - 1][:, unit.number]).tolist()
        yield piece.file, piece.text, values, notes


def _expected(logits: Array, characters: str) -> Iterator[str]:
    """For each row of (T, V), its most probable characters."""
    p = np.exp(logits - logits.max(axis=1, keepdims=True), dtype=np.float64)
    p /= p.sum(axis=1, keepdims=True)
    best = np.argsort(-p, axis=1, kind="stable")[:, :TOLD]
    for row, ids in zip(p, best.tolist(), strict=True):
        yield "next " + ", ".join(f"{_name(characters[i])} {row[i]:.0%}" for i in ids)


def _name(character: str) -> str:
    return "the end" if character == END else f"'{printable(character)}'"
