"""How surprising a text is to a network: nats and bits per character."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from charrnn.events import ByPart
from charrnn.inference.mixed_model import AnyNetwork
from charrnn.nn.parameters import Array
from charrnn.text.corpus import Documents, Inputs

STREAMS = 64  # documents read side by side; more would not make the products faster
WINDOW = 1024  # characters per call, over all streams: enough for fast products, in little memory
LOGITS = 2**24  # numbers per call, so that a large vocabulary does not need gigabytes


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The loss over a text."""

    loss: float  # nats a character
    characters: int
    accuracy: float | None = field(default=None, kw_only=True)  # the share of right answers, of readers
    parts: ByPart = field(default=(), kw_only=True)  # of those by whose losses this one is weighted
    # The loss of the same text without its labels; None: it has none.
    loss_without_labels: float | None = field(default=None, kw_only=True)
    adaptive_loss: float | None = field(default=None, kw_only=True)  # see tasks.adaptive_evaluation

    @property
    def bpc(self) -> float:
        """Bits a character."""
        return self.loss / math.log(2)

    @property
    def bpc_without_labels(self) -> float | None:
        """The same in bits."""
        return None if self.loss_without_labels is None else self.loss_without_labels / math.log(2)

    @property
    def adaptive_bpc(self) -> float | None:
        """The adaptive loss in bits."""
        return None if self.adaptive_loss is None else self.adaptive_loss / math.log(2)

    @property
    def perplexity(self) -> float:
        """exp(loss): how many equally likely characters would be as surprising."""
        return math.exp(self.loss) if self.loss < 700 else math.inf


def evaluate(
    model: AnyNetwork,
    documents: Documents,
    stop: Callable[[], object] = lambda: None,
    report: Callable[[int], None] = lambda done: None,
) -> Evaluation | None:
    """The mean loss over every character, each document read in one pass from a zero state.

    Documents are independent, so many are read side by side; a single one is read character by character.
    About ten times a second, `report` gets the number of characters done, and `stop` is called: when it
    returns something true, the evaluation ends with None.
    """
    total, done = 0.0, 0
    for _, losses in _losses(model, documents):
        total += float(np.sum(losses, dtype=np.float64))
        done += len(losses)
        report(done)
        if stop():
            return None
    count = len(documents)
    return Evaluation(total / count if count else math.nan, count)


def surprises(model: AnyNetwork, documents: Documents) -> Array:
    """-log p of every character given those before it in its document, (N,) in nats, float32."""
    result = np.zeros(len(documents), np.float32)
    for positions, losses in _losses(model, documents):
        result[positions] = losses
    return result


def _losses(model: AnyNetwork, documents: Documents) -> Iterator[tuple[Array, Array]]:
    """Positions and their losses, both (n,); every position once."""
    state = None
    for positions, there, inputs, labels in windows(documents):
        losses, state = model.losses(*inputs[:2], state, inputs[2], labels)
        yield positions[there], losses[there]


def windows(documents: Documents) -> Iterator[tuple[Array, Array, Inputs, Array | None]]:
    """The text in consecutive windows (T, B): positions, a mask of those that count, inputs and labels.

    Every position counts once.
    """
    starts = _streams(documents)
    ends = np.append(starts[1:], len(documents))
    if not len(documents):
        return
    B, V = len(starts), documents.vocab_size
    T = max(1, min(WINDOW // B, LOGITS // (B * V), int((ends - starts).max())))
    for first in range(0, int((ends - starts).max()), T):
        positions = starts + np.arange(first, first + T)[:, None]  # (T, B)
        there = positions < ends
        positions = np.minimum(positions, len(documents) - 1)
        yield positions, there, documents.look_up(positions), documents.labels_at(positions)


def _streams(documents: Documents) -> Array:
    """Where to cut the text into at most STREAMS parts of about the same length: where the state is zero."""
    count = len(documents)
    fresh = np.union1d(documents.starts, documents.cuts)
    wanted = (count * stream // STREAMS for stream in range(1, STREAMS))
    cuts = {0, *(next_start(documents, fresh, position) for position in wanted)} - {count}
    return np.array(sorted(cuts), np.int64)


def next_start(documents: Documents, fresh: Array, position: int) -> int:
    """The first start in `fresh`, or of a line that is a document, from `position` on; else the length."""
    at = int(np.searchsorted(fresh, position))
    found = int(fresh[at]) if at < len(fresh) else len(documents)
    if documents.end >= 0 and position > 0:
        for low in range(position - 1, found, 2**16):
            ids = documents.at(np.arange(low, min(low + 2**16, found)))
            ends = np.flatnonzero(ids == documents.end)
            if len(ends):
                return min(found, low + int(ends[0]) + 1)
    return found
