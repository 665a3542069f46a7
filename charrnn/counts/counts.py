"""The counts of a text as plain arrays: the contexts as a tree, and what follows each of them.

With modified Kneser-Ney smoothing (Chen and Goodman 1999), interpolated, what follows a context c of k
characters has the probability

    p_k(w | c) = (own(c w) + mass(c) p_(k-1)(w | c without its first character)) / total(c)

and p_(-1) is 1 / V. own(c w) is the count less its discount; mass(c) is the sum of the discounts, and of the
counts that are left out to save space. total(c), the sum of mass(c) and all own(c w), is not stored: so the
probabilities sum to one, however counts and masses are rounded. Both are codes, places in a table of values.

The tree's nodes are contexts, breadth first: the root is the empty one, and a node's children continue it
into the past, each by one symbol, 0 .. V-1 or V for START, where a context ends.

Of texts with labels, the root has children for labels, too, from V + 1 on, of one column after the other:
behind a label stand the contexts that texts with this label have, and p_l is the model of these, whose p_(-1)
is p_(n-1) of all texts. For each column of which a text's label is known, in their order,

    p(w | c) becomes (1 - LABEL_SHARE) p(w | c) + LABEL_SHARE p_l(w | c)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from charrnn.labels import places_of
from charrnn.vocabulary import id_dtype

UNIT = 4096  # discounts and masses are multiples of 1 / UNIT
MOST_ORDER = 16
MOST_VALUE = 2**30  # of a count, and of a mass times UNIT: so no total exceeds 63 bits
MOST_CODES = 2**16  # different values
MERGED_SCALE = 16  # of counts of two texts
PREFIX = "counts."
UNSIGNED = tuple(map(np.dtype, (np.uint8, np.uint16, np.uint32)))

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, eq=False, slots=True)
class Counts:
    """A model of V characters by contexts of 0 to n - 1 characters, and labels of the texts.

    The arrays are unsigned integers.

    Raises:
        ValueError: they are no such tree; says why.
    """

    discounts: Array  # (n, 3) of the counts 1, 2 and all above, times UNIT
    symbols: Array  # (nodes,)
    children: Array  # (nodes but those of the longest contexts,) how many each has
    successors: Array  # (nodes,) how many characters follow each
    masses: Array  # (nodes,) codes
    following: Array  # (S,) ids, ascending within a node
    codes: Array  # (S,) of their counts
    count_values: Array  # what the codes stand for
    mass_values: Array  # times UNIT

    vocab_size: int  # V
    labels: tuple[int, ...] = ()  # how many each column of labels has; (): contexts have none
    label_discounts: Array | None = None  # (n, 3) behind labels

    @property
    def order(self) -> int:
        """n: a context has n - 1 characters at most."""
        return len(self.discounts)

    @property
    def all_discounts(self) -> Array:
        """By the length of contexts, and then by that of contexts behind labels."""
        parts = [self.discounts] if self.label_discounts is None else [self.discounts, self.label_discounts]
        return np.concatenate(parts)

    @property
    def plain_children(self) -> int:
        """How many children of the root are no labels."""
        whole = int(self.children[0]) if len(self.children) else 0
        return int(np.count_nonzero(self.symbols[1 : 1 + whole] <= self.vocab_size))

    @property
    def is_merged(self) -> bool:
        """Whether these are counts of a text, and of that of a model that it was learned from.

        They have no discounts, but are MERGED_SCALE times as large; see charrnn.counts.learning.merging.
        """
        return not self.all_discounts.any()

    def symbols_of(self, labels: Array) -> npt.NDArray[np.int32]:
        """The symbols of labels, ids (.., columns) of charrnn.labels; -1: unknown. Of a column each."""
        places = places_of(labels[..., : len(self.labels)], self.labels)
        return np.where(places < 0, np.int32(-1), places + np.int32(self.vocab_size + 1))

    @property
    def nbytes(self) -> int:
        """The size of all arrays."""
        return sum(array.nbytes for array in self.tensors().values())

    def tensors(self) -> dict[str, Array]:
        """The arrays, by their names in a model file."""
        return {PREFIX + name: getattr(self, name) for name in (*ARRAYS, *(LABELLED if self.labels else ()))}

    @classmethod
    def from_tensors(
        cls, tensors: Mapping[str, Array], vocab_size: int, labels: tuple[int, ...] = ()
    ) -> Counts:
        """The counts that `tensors` gave, of a model that knows so many labels.

        ValueError: these are anything else.
        """
        labels = labels if any(PREFIX + name in tensors for name in LABELLED) else ()
        names = [PREFIX + name for name in (*ARRAYS, *(LABELLED if labels else ()))]
        if wrong := sorted(tensors.keys() ^ set(names)):
            raise ValueError(f"its counts {'lack' if wrong[0] in names else 'have'} {wrong[0]!r}")
        arrays = {name.removeprefix(PREFIX): tensors[name] for name in names}
        return cls(**arrays, vocab_size=vocab_size, labels=labels)

    def __post_init__(self) -> None:
        names = [name.removeprefix(PREFIX) for name in self.tensors()]
        for name in names:
            array = getattr(self, name)
            if array.dtype not in UNSIGNED or array.ndim != (2 if name.endswith("discounts") else 1):
                raise ValueError(f"{PREFIX}{name} is {array.dtype} of shape {array.shape}")
        if self.discounts.shape[1:] != (3,) or not 2 <= len(self.discounts) <= MOST_ORDER:
            raise ValueError(
                f"counts.discounts are {self.discounts.shape}, not 2 to {MOST_ORDER} times three"
            )
        if self.all_discounts.shape != (len(self.discounts) * (2 if self.labels else 1), 3):
            raise ValueError("counts.label_discounts are not as many as counts.discounts")
        if np.any(self.all_discounts > UNIT * np.arange(1, 4)):
            raise ValueError("counts.discounts are larger than counts")
        for name, size in (
            ("symbols", self.vocab_size + 1 + sum(self.labels)),
            ("following", self.vocab_size),
        ):
            if getattr(self, name).dtype != id_dtype(size):
                raise ValueError(f"{PREFIX}{name} is no {id_dtype(size)}")
            _check_below(getattr(self, name), size, name)
        nodes = len(self.symbols)
        if not nodes or len(self.successors) != nodes or len(self.masses) != nodes:
            raise ValueError("its counts have no symbol, successors and mass for each context")
        if len(self.codes) != len(self.following):
            raise ValueError("its counts have not one code for each character that follows")
        for name in ("count", "mass"):
            values = getattr(self, f"{name}_values")
            if not len(values) or values.min() == 0 or values.max() > MOST_VALUE:
                raise ValueError(f"{PREFIX}{name}_values are not all from 1 to {MOST_VALUE}")
            if len(values) > MOST_CODES:
                raise ValueError(f"{PREFIX}{name}_values are more than {MOST_CODES}")
        _check_below(self.codes, len(self.count_values), "codes")
        _check_below(self.masses, len(self.mass_values), "masses")
        self._check_tree()

    def _check_tree(self) -> None:
        """Checks that each node lies in one place of the tree, and the order of what lies in a node."""
        nodes, inner = len(self.symbols), len(self.children)
        ends = np.cumsum(self.children, dtype=np.int64)
        begin, end = 0, 1  # of a level's nodes
        behind = 1 + self.plain_children  # where those begin that stand behind labels
        for level in range(self.order - 1 + bool(self.labels)):
            if end > inner:
                break
            behind = 1 + int(ends[behind - 1]) if level else behind
            begin, end = end, 1 + int(ends[end - 1])
        if begin != inner or end != nodes or (self.labels and begin != behind):
            raise ValueError("counts.children do not make a tree of its contexts")
        if self.symbols[0] != 0 or np.any(self.children[self.symbols[:inner] == self.vocab_size] > 0):
            raise ValueError("counts.symbols continue contexts beyond their start")
        if np.any(self.symbols[1 + int(ends[0]) if inner else 1 :] > self.vocab_size):
            raise ValueError("counts.symbols have labels that do not stand first")
        if self.successors.sum(dtype=np.int64) != len(self.following):
            raise ValueError("counts.successors do not share out the characters that follow")
        _check_ascending(self.symbols, np.append(1, 1 + ends), "symbols")
        _check_ascending(self.following, np.cumsum(self.successors, dtype=np.int64), "following")


LABELLED = ("label_discounts",)  # the arrays that only counts of labels have
ARRAYS = tuple(
    field.name for field in fields(Counts) if field.name not in ("vocab_size", "labels", *LABELLED)
)


def offsets(sizes: Array) -> npt.NDArray[np.int64]:
    """(n,) -> (n + 1,): where each part begins, and the end of the last."""
    begin = np.zeros(len(sizes) + 1, np.int64)
    np.cumsum(sizes, out=begin[1:])
    return begin


def _check_below(values: Array, size: int, name: str) -> None:
    if len(values) and int(values.max()) >= size:
        raise ValueError(f"{PREFIX}{name} has a {values.max()}, but there are {size} values")


def _check_ascending(values: Array, starts: npt.NDArray[np.int64], name: str) -> None:
    """Checks that the values between two starts ascend."""
    ascends = np.ones(len(values) + 1, np.bool_)
    np.greater(values[1:], values[:-1], out=ascends[1:-1])
    ascends[starts] = True
    if not ascends.all():
        raise ValueError(f"{PREFIX}{name} do not ascend")
