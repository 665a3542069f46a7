"""How surprising a text is to a network: nats and bits per character."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields

import numpy as np

from charrnn.errors import decimal
from charrnn.events import ByPart
from charrnn.inference.mixed_model import AnyNetwork, MixedModel, RecallingModel
from charrnn.nn.parameters import Array
from charrnn.text.documents import Documents, Inputs

STREAMS = 64  # read side by side; more would not make the products faster
WINDOW = 1024  # characters per call, over all streams: enough for fast products, in little memory
# Characters of a stream, about, where a long document is read in several. More streams would read more that
# does not count, and each column of a wider window takes as long.
PART = 3072
# Characters that such a stream reads before those of its own. With 256, the loss of a GRU of 2 x 256 differed
# by 5e-5 nats, with 512 by 2e-6 (bench/streams.py).
WARM_UP = 512
LOGITS = 2**24  # numbers per call, so that a large vocabulary does not need gigabytes


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The loss over a text."""

    loss: float  # nats a character
    characters: int
    accuracy: float | None = field(default=None, kw_only=True)  # the share of right answers, of readers
    parts: ByPart = field(default=(), kw_only=True)  # of those by whose losses this one is weighted
    network_loss: float | None = field(default=None, kw_only=True)  # without the counts that stand beside
    # The loss of the same text without its labels; None: it has none.
    loss_without_labels: float | None = field(default=None, kw_only=True)
    adaptive_loss: float | None = field(default=None, kw_only=True)  # see tasks.adaptive_evaluation
    cache_loss: float | None = field(default=None, kw_only=True)  # of the model that looks back

    @property
    def bpc(self) -> float:
        """Bits a character."""
        return self.loss / math.log(2)

    @property
    def network_bpc(self) -> float | None:
        """The network's own loss in bits."""
        return None if self.network_loss is None else self.network_loss / math.log(2)

    @property
    def bpc_without_labels(self) -> float | None:
        """The same in bits."""
        return None if self.loss_without_labels is None else self.loss_without_labels / math.log(2)

    @property
    def adaptive_bpc(self) -> float | None:
        """The adaptive loss in bits."""
        return None if self.adaptive_loss is None else self.adaptive_loss / math.log(2)

    @property
    def cache_bpc(self) -> float | None:
        """The loss with a cache in bits."""
        return None if self.cache_loss is None else self.cache_loss / math.log(2)

    @property
    def perplexity(self) -> float:
        """exp(loss): how many equally likely characters would be as surprising."""
        return math.exp(self.loss) if self.loss < 700 else math.inf

    def _repr_html_(self) -> str:
        """All figures in a table, for notebooks."""
        names = dict.fromkeys([*(one.name for one in fields(self)), *_properties(type(self))])
        values = {name: getattr(self, name) for name in names}
        rows = "".join(
            f"<tr><th>{name.replace('_', ' ')}</th><td>{value:,}</td></tr>"
            if isinstance(value, int)
            else f"<tr><th>{name.replace('_', ' ')}</th><td>{decimal(value)}</td></tr>"
            for name, value in values.items()
            if isinstance(value, (int, float))
        )
        return f"<table>{rows}</table>"


def _properties(kind: type) -> Iterator[str]:
    """Those of a class and of what it is derived from, in their order."""
    for base in reversed(kind.__mro__):
        yield from (name for name, value in vars(base).items() if isinstance(value, property))


def evaluate(
    model: AnyNetwork,
    documents: Documents,
    stop: Callable[[], object] = lambda: None,
    report: Callable[[int], None] = lambda done: None,
) -> Evaluation | None:
    """The mean loss over every character, each document read from a zero state.

    Documents are independent, so many are read side by side. A long one is read in several streams, see
    `windows`: its loss differs from that of one stream by less than 1e-4 nats (bench/streams.py).
    About ten times a second, `report` gets the number of characters done, and `stop` is called: when it
    returns something true, the evaluation ends with None.
    """
    total, own, done = 0.0, 0.0, 0
    remembers = model.config.span + (model.cache.size if isinstance(model, RecallingModel) else 0)
    for _, losses, alone in _losses(model, windows(documents, remembers=remembers)):
        total += float(np.sum(losses, dtype=np.float64))
        own += float(np.sum(alone, dtype=np.float64))
        done += len(losses)
        report(done)
        if stop():
            return None
    count = len(documents)
    mean, network = (total / count, own / count) if count else (math.nan, math.nan)
    return Evaluation(mean, count, network_loss=network if isinstance(model, MixedModel) else None)


def surprises(model: AnyNetwork, documents: Documents) -> Array:
    """-log p of every character given all those before it in its document, (N,) in nats, float32."""
    result = np.zeros(len(documents), np.float32)
    for positions, losses, _ in _losses(model, windows(documents, whole=True)):
        result[positions] = losses
    return result


Windows = Iterator[tuple[Array, Array, Inputs, Array | None]]


def _losses(model: AnyNetwork, read: Windows) -> Iterator[tuple[Array, Array, Array]]:
    """Positions, their losses, and those of the network without counts, all (n,); every position once."""
    state = None
    for positions, there, inputs, labels in read:
        x, y, reset = inputs
        if isinstance(model, MixedModel):
            own = np.empty(x.shape, np.float32)
            losses, state = model.losses(x, y, state, reset, labels, own)
        else:
            losses, state = model.losses(x, y, state, reset, labels)
            own = losses
        yield positions[there], losses[there], own[there]


def windows(documents: Documents, *, whole: bool = False, remembers: int = 0) -> Windows:
    """The text in consecutive windows (T, B): positions, a mask of those that count, inputs and labels.

    Every position counts once. A long document is read in several streams, the same on every machine, each of
    which begins WARM_UP characters before its own, and those before that the model `remembers` beside its
    state. `whole`: in one, so that all characters before have a say.
    """
    fresh = starts = _streams(documents)
    ends = np.append(starts[1:], len(documents))
    if not len(documents):
        return
    if not whole:
        starts, ends = _parts(starts, ends, PART + 4 * remembers)
    begins = np.where(np.isin(starts, fresh), starts, starts - WARM_UP - remembers)
    B, V, steps = len(starts), documents.vocab_size, int((ends - begins).max())
    T = max(1, min(WINDOW // B, LOGITS // (B * V), steps))
    for first in range(0, steps, T):
        positions = begins + np.arange(first, first + T)[:, None]  # (T, B)
        there = (starts <= positions) & (positions < ends)
        positions = np.minimum(positions, len(documents) - 1)
        yield positions, there, documents.look_up(positions), documents.labels_at(positions)


def _parts(starts: Array, ends: Array, least: int) -> tuple[Array, Array]:
    """The streams, the long ones cut into parts of at least so many characters, about."""
    length = max(least, -(-int(ends[-1]) // STREAMS))
    parts = np.maximum(1, np.rint((ends - starts) / length).astype(np.int64))
    cuts = [np.linspace(*part).astype(np.int64) for part in zip(starts, ends, parts + 1, strict=True)]
    return np.concatenate([cut[:-1] for cut in cuts]), np.concatenate([cut[1:] for cut in cuts])


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
