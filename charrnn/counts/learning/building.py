"""N-grams of a text -> its counts, within a bound of bytes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from charrnn.counts.counts import Array, Counts
from charrnn.counts.learning import levels as contexts
from charrnn.counts.learning.grams import Grams, order_of
from charrnn.counts.learning.levels import CODES, Above, Into, Sizes, Table
from charrnn.kernels.coefficients import LABEL_SHARE
from charrnn.kernels.loops.beside.grams import Level
from charrnn.text.documents import Documents

# Grams of more than 5 symbols that occur once bring 0.004 nats at most on five texts, and take as many bytes
# as all others, or three times more.
ONCE = 5
MOST_BYTES, BYTES_EACH = 12_000_000, 4  # in all, and for each character of the text


def default_bytes(characters: int) -> int:
    """The bound for a text of so many characters: more brings little."""
    return min(max(MOST_BYTES // 12, BYTES_EACH * characters), MOST_BYTES)


def learned(documents: Documents, most_bytes: int | None = None) -> Counts:
    """The counts of documents, which have at least one character, within most_bytes or `default_bytes`."""
    order = order_of(len(documents), documents.vocab_size)
    return build(Grams.of(documents, order), most_bytes or default_bytes(len(documents)))


class _Part(NamedTuple):
    """The contexts of all texts, or those behind labels."""

    levels: list[Level]  # by how many characters they have
    tables: list[Table]
    discounts: Array  # (n, 4)
    labels: int  # symbols of labels in a context: 0 or 1

    @classmethod
    def of(cls, levels: list[Level], labels: int) -> _Part:
        tables = [contexts.table(level, is_root=k == 0) for k, level in enumerate(levels)]
        discounts = np.array([contexts.discounts_of(table) for table in tables], np.int64)
        return cls(levels, tables, discounts, labels)

    def marked(self, gains: list[Array], once: int) -> list[Array]:
        """The gains, negative where something is left out, and endless where it always remains."""
        contexts.mark(self.levels, gains, 0, once)
        if not self.labels:
            gains[0][:] = np.inf
        return gains

    def weigh(self, above: Above, V: int) -> tuple[list[Array], list[Array]]:
        """See charrnn.counts.learning.levels.weigh; what labels tell has a share of the prediction."""
        chances, gains = contexts.weigh(self.levels, self.labels, above, self.discounts, V)
        return chances, [gain * np.float32(LABEL_SHARE) for gain in gains] if self.labels else gains


def build(grams: Grams, most_bytes: int | None = None, *, once: int = ONCE, exact: bool = False) -> Counts:
    """The counts of a text, from its grams.

    Of the grams longer than `once`, those that occur a single time are left out; and of all, those that gain
    the least, until the arrays take no more than `most_bytes`: only the characters' own counts always remain.
    With `exact`, no value is rounded, which takes more bytes.
    """
    V, parts = grams.layout.vocab_size, [_Part.of(contexts.levels_of(grams), 0)]
    if grams.behind is not None:
        parts.append(_Part.of(contexts.levels_of(grams.behind)[1:], 1))
    sizes = Sizes(V, V + 1 + sum(grams.labels))

    def total_bytes() -> Array:
        total = contexts.no_bytes()
        total[-1] = fixed_bytes(len(parts) * len(parts[0].levels))
        for part, own in zip(parts, gains, strict=True):
            contexts.tally(part.levels, own, part.labels, contexts.NOTHING, sizes, total)
        return total

    gains = [part.marked(contexts.zeros(part.levels), once) for part in parts]
    least = np.float32(0)
    if most_bytes is not None and total_bytes().sum() > most_bytes:
        root = parts[0].levels[0]
        chances, gained = parts[0].weigh((root, np.zeros(0, np.float32)), V)
        weighed = [gained, *(part.weigh((root, chances[0]), V)[1] for part in parts[1:])]
        gains = [part.marked(own, once) for part, own in zip(parts, weighed, strict=True)]
        least = contexts.least_gain(total_bytes(), most_bytes)
    occurring, _ = contexts.added(*(table for part in parts for table in part.tables))
    values, coding = contexts.codes_of(occurring, exact=exact)
    into = Into(coding, least, sizes)
    trees = [
        contexts.thin(part.levels, own, part.labels, contexts.NONE_KEPT, part.discounts, into)[0]
        for part, own in zip(parts, gains, strict=True)
    ]
    return assembled(trees, [part.discounts for part in parts], values, V, labels=grams.labels, exact=exact)


def fixed_bytes(orders: int) -> int:
    """Of discounts of so many orders, and of the tables of values."""
    return 6 * orders + 2 * 4 * CODES


def assembled(
    trees: Sequence[list[list[Array]]], discounts: list[Array], values: Array, V: int, *,
    labels: tuple[int, ...] = (), exact: bool,
) -> Counts:  # fmt: skip
    """The counts whose arrays these are: by levels, see charrnn.counts.learning.levels.thin.

    `trees` are those of 0, 1, .. n - 1 symbols and, behind labels, of 1, 2, .. `discounts` are of either.
    """
    plain, *behind = trees
    n, tree = len(plain), [[level] for level in plain]
    if behind:
        nothing = [array[:0] for array in plain[0]]
        for k, level in enumerate([*behind[0], *[nothing] * (n - len(behind[0]))], 1):
            tree[k : k + 1] = [[*(tree[k] if k < n else []), level]]
        plain[0][1][0] += len(behind[0][0][0])  # the root's children
    found = map(np.concatenate, zip(*(arrays for level in tree for arrays in level), strict=True))
    symbols, children, successors, masses, following, codes = found
    symbols[0] = 0  # of the root, which has none
    longest = sum(len(arrays[0]) for arrays in tree[-1])
    mass_values, mass_codes = contexts.coded(masses, exact=exact)
    kept = [part[:, 1:].astype(np.uint16) for part in discounts]
    if behind and len(kept[1]) < n:
        none = np.zeros(0, np.int64), np.zeros(0, np.int64)
        usual = np.array([contexts.discounts_of(none)[1:]] * (n - len(kept[1])), np.uint16)
        kept[1] = np.concatenate([kept[1], usual])
    return Counts(
        discounts=kept[0],
        symbols=symbols,
        children=children[: len(children) - longest],
        successors=successors,
        masses=mass_codes,
        following=following,
        codes=codes,
        count_values=values,
        mass_values=mass_values,
        vocab_size=V,
        labels=labels,
        label_discounts=kept[1] if behind else None,
    )
