"""Texts -> their n-grams, and how often each occurs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import reduce

import numpy as np
import numpy.typing as npt

from charrnn.counts.counts import MOST_ORDER
from charrnn.kernels.loops.beside import grams as kernels
from charrnn.kernels.loops.beside.grams import Order, Text
from charrnn.labels import places_of
from charrnn.ranks.arrays import ranks_of
from charrnn.text.documents import Documents

CHUNK = 2**23  # positions that are sorted together
MOST_WORDS = 2  # of a key
ORDER = 10  # on five texts, grams of 12 symbols bring 0.000 to 0.013 nats, and take half as long again
LONG = 10_000_000  # characters: the keys of longer texts have one word, which are sorted several times faster

Keys = npt.NDArray[np.uint64]


def longest_order(vocab_size: int) -> int:
    """The longest grams whose keys are short enough: 16 of up to 254 characters, 10 of up to 4094."""
    return min(MOST_WORDS * (64 // _bits(vocab_size)), MOST_ORDER)


def _bits(vocab_size: int) -> int:
    return (vocab_size + 1).bit_length()


@dataclass(frozen=True, eq=False, slots=True)
class Grams:
    """How often each n-gram occurs in a text, exactly; see charrnn.kernels.loops.beside.grams."""

    keys: Keys  # (G, W) sorted
    counts: npt.NDArray[np.uint32]  # (G,)
    layout: Order
    labels: tuple[int, ...] = ()  # how many each column of labels has
    behind: Grams | None = None  # those behind labels; None: there are no labels

    @classmethod
    def of(cls, documents: Documents, order: int, labels: tuple[int, ...] = ()) -> Grams:
        """The grams of documents, which have at least one character; order from 2 to `longest_order`.

        `labels` says how many each column of their labels has.
        """
        V = documents.vocab_size
        if not 2 <= order <= longest_order(V):
            raise ValueError(f"the order is {order}, not from 2 to {longest_order(V)}")
        layout = layout_of(V, order)
        chunks = (counted(keys, layout) for _, keys in _packed(documents, layout))
        found = reduce(Grams.merged, balanced(chunks))
        if not labels:
            return found
        layout = _layout_behind(layout, sum(labels))
        return replace(found, labels=labels, behind=_behind(documents, layout, labels))

    def merged(self, other: Grams) -> Grams:
        """The grams of both texts, which have the same order, vocabulary and labels."""
        if (self.layout, self.labels) != (other.layout, other.labels):
            raise ValueError("these grams do not have the same order, vocabulary and labels")
        keys = np.empty((len(self.keys) + len(other.keys), self.keys.shape[1]), np.uint64)
        counts = np.empty(len(keys), np.uint32)
        pairs = ((grams.keys, grams.counts) for grams in (self, other))
        found = kernels.merge(keys, counts, *pairs)
        behind = None
        if self.behind is not None and other.behind is not None:
            behind = self.behind.merged(other.behind)
        return Grams(keys[:found].copy(), counts[:found].copy(), self.layout, self.labels, behind)


def layout_of(vocab_size: int, order: int) -> Order:
    """Of the keys of such grams."""
    return Order(order, _bits(vocab_size), vocab_size)


def text_of(documents: Documents) -> Text:
    """What kernels read of documents."""
    if ranks_of(documents.ids).size > 1:
        documents = documents.between(0, len(documents))
    pieces, nothing = documents.pieces, np.zeros(1, np.int64)
    first, shift = (nothing, nothing) if pieces is None else (pieces.first, pieces.shift)
    return Text(
        documents.array, first, shift, documents.starts, documents.cuts, documents.end, documents.vocab_size
    )


def _layout_behind(layout: Order, labels: int) -> Order:
    """Of the grams that begin with one of so many labels: one symbol more, if as many words hold it."""
    bits = _bits(layout.vocab_size + labels)
    return Order(min(layout.n + 1, words(layout) * (64 // bits)), bits, layout.vocab_size)


def words(layout: Order) -> int:
    """W, of each key."""
    return -(-layout.n // (64 // layout.bits))


def _packed(documents: Documents, layout: Order) -> Iterator[tuple[int, Keys]]:
    """The keys of all positions, in chunks, and where each chunk begins."""
    width, text = words(layout), text_of(documents)
    context = np.zeros(width, np.uint64)
    for low in range(0, len(documents), CHUNK):
        keys = np.empty((min(CHUNK, len(documents) - low), width), np.uint64)
        places = (
            int(np.searchsorted(text.first, low, side="right")) - 1,
            int(np.searchsorted(documents.starts, low)),
            int(np.searchsorted(documents.cuts, low)),
        )
        kernels.pack(keys, text, low, places, context, layout)
        yield low, keys


def counted(keys: Keys, layout: Order) -> Grams:
    """The grams of these keys, whose array is used up."""
    if keys.shape[1] == 1:
        keys.reshape(-1).sort()
    elif len(keys) and kernels.sort(keys, spare := np.empty_like(keys)):
        keys = spare
    counts = np.empty(len(keys), np.uint32)
    found = kernels.distinct(keys, counts)
    return Grams(keys[:found], counts[:found], layout)


def _behind(documents: Documents, layout: Order, labels: tuple[int, ...]) -> Grams:
    """The grams behind labels, of each column and text of which the label is known."""
    first = documents.vocab_size + 2

    def parts() -> Iterator[Grams]:
        for low, keys in _packed(documents, layout):
            ids = documents.labels_at(np.arange(low, low + len(keys)))
            if ids is None:
                ids = np.full((len(keys), len(labels)), labels, np.int32)  # unknown, each
            for own in places_of(ids[:, : len(labels)], labels).T:
                has = own >= 0
                some, symbols = keys[has], own[has].astype(np.int64) + first
                kernels.put_first(some, symbols, layout)
                yield counted(some, layout)

    return reduce(Grams.merged, balanced(parts()))


def balanced(parts: Iterator[Grams]) -> list[Grams]:
    """The parts, merged where those before have the same size: each gram is merged a few times only."""
    merged: list[Grams] = []
    for part in parts:
        merged.append(part)
        while len(merged) > 1 and len(merged[-1].keys) * 2 > len(merged[-2].keys):
            merged[-2:] = [merged[-2].merged(merged[-1])]
    return merged


def order_of(characters: int, vocab_size: int) -> int:
    """The order for a text of so many characters, of which so many are different."""
    return min(ORDER, longest_order(vocab_size) if characters <= LONG else 64 // _bits(vocab_size))
