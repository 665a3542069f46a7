"""The counts of a text as plain arrays: the contexts as a tree, and what follows each of them.

With modified Kneser-Ney smoothing (Chen and Goodman 1999), interpolated, what follows a context c of k
characters has the probability

    p_k(w | c) = (own(c w) + mass(c) p_(k-1)(w | c without its first character)) / total(c)

and p_(-1) is 1 / V. own(c w) is the count less its discount; mass(c) is the sum of the discounts, and of the
counts that are left out to save space. total(c), the sum of mass(c) and all own(c w), is not stored: so the
probabilities sum to one, however counts and masses are rounded. Both are codes, places in a table of values.

The tree's nodes are contexts, breadth first: the root is the empty one, and a node's children continue it
into the past, each by one symbol, 0 .. V-1 or V for START, where a context ends.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from charrnn.vocabulary import id_dtype

UNIT = 4096  # discounts and masses are multiples of 1 / UNIT
MOST_ORDER = 16
MOST_VALUE = 2**30  # of a count, and of a mass times UNIT: so no total exceeds 63 bits
MOST_CODES = 2**16  # different values
PREFIX = "counts."
UNSIGNED = tuple(map(np.dtype, (np.uint8, np.uint16, np.uint32)))

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, eq=False, slots=True)
class Counts:
    """A model of V characters by contexts of 0 to n - 1 characters. The arrays are unsigned integers.

    Raises:
        ValueError: they are no such tree; says why.
    """

    discounts: Array  # (n, 3) of the counts 1, 2 and all above, times UNIT
    symbols: Array  # (nodes,)
    children: Array  # (nodes but those of n - 1 characters,) how many each has
    successors: Array  # (nodes,) how many characters follow each
    masses: Array  # (nodes,) codes
    following: Array  # (S,) ids, ascending within a node
    codes: Array  # (S,) of their counts
    count_values: Array  # what the codes stand for
    mass_values: Array  # times UNIT

    vocab_size: int  # V

    @property
    def order(self) -> int:
        """n: a context has n - 1 characters at most."""
        return len(self.discounts)

    @property
    def nbytes(self) -> int:
        """The size of all arrays."""
        return sum(array.nbytes for array in self.tensors().values())

    def tensors(self) -> dict[str, Array]:
        """The arrays, by their names in a model file."""
        return {PREFIX + name: getattr(self, name) for name in ARRAYS}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Array], vocab_size: int) -> Counts:
        """The counts that `tensors` gave. ValueError: these are anything else."""
        names = [PREFIX + name for name in ARRAYS]
        if wrong := sorted(tensors.keys() ^ set(names)):
            raise ValueError(f"its counts {'lack' if wrong[0] in names else 'have'} {wrong[0]!r}")
        return cls(**{name: tensors[PREFIX + name] for name in ARRAYS}, vocab_size=vocab_size)

    def __post_init__(self) -> None:
        for name in ARRAYS:
            array = getattr(self, name)
            if array.dtype not in UNSIGNED or array.ndim != (2 if name == "discounts" else 1):
                raise ValueError(f"{PREFIX}{name} is {array.dtype} of shape {array.shape}")
        if self.discounts.shape[1:] != (3,) or not 2 <= len(self.discounts) <= MOST_ORDER:
            raise ValueError(
                f"counts.discounts are {self.discounts.shape}, not 2 to {MOST_ORDER} times three"
            )
        if np.any(self.discounts > UNIT * np.arange(1, 4)):
            raise ValueError("counts.discounts are larger than counts")
        for name, size in (("symbols", self.vocab_size + 1), ("following", self.vocab_size)):
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
        for _ in range(self.order - 1):
            if end > inner:
                break
            begin, end = end, 1 + int(ends[end - 1])
        if begin != inner or end != nodes:
            raise ValueError("counts.children do not make a tree of its contexts")
        if self.symbols[0] != 0 or np.any(self.children[self.symbols[:inner] == self.vocab_size] > 0):
            raise ValueError("counts.symbols continue contexts beyond their start")
        if self.successors.sum(dtype=np.int64) != len(self.following):
            raise ValueError("counts.successors do not share out the characters that follow")
        _check_ascending(self.symbols, np.append(1, 1 + ends), "symbols")
        _check_ascending(self.following, np.cumsum(self.successors, dtype=np.int64), "following")


ARRAYS = tuple(field.name for field in fields(Counts))[:-1]


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
