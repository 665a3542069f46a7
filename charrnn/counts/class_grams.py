"""Counted grams beside a classifier: how much more likely a text is of a class that has a gram.

A gram is up to four characters in a row, with marks for the start and the end of a text. What a text's grams
tell of a class is the sum of their weights by the root of their number. Grams that are not in the table tell
nothing. See charrnn.counts.learning.class_grams for how weights are found.

Of a text, a model's logits are either those of the network and `scales` times what grams tell, or where grams
alone are sure, those of grams alone. That depends on the text and the model, and on nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from charrnn.kernels.coefficients import CLASS_GRAM_BITS

PREFIX = "grams."
NEVER = 2.0  # a probability that grams alone do not reach

Array = np.ndarray[Any, Any]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ClassGrams:
    """K grams and their weights for N classes, side by side those of several columns.

    Raises:
        ValueError: the arrays are anything else; says why.
    """

    numbers: Array  # (K,) uint32, those of the grams, ascending
    weights: Array  # (K, N) uint8: their codes, see charrnn.kernels.coefficients
    scales: Array  # (columns,) float32, of what grams tell beside a network
    alone_scales: Array  # (columns,) float32, of what they tell alone
    alone_bias: Array  # (N,) float32
    sure: Array  # (1,) float32, the probability from which on grams alone are asked

    sizes: tuple[int, ...]  # how many classes each column has
    vocab_size: int  # V

    def __post_init__(self) -> None:
        N, columns, K = sum(self.sizes), len(self.sizes), len(self.numbers)
        wanted = {
            "numbers": (np.uint32, (K,)), "weights": (np.uint8, (K, N)), "scales": (np.float32, (columns,)),
            "alone_scales": (np.float32, (columns,)), "alone_bias": (np.float32, (N,)),
            "sure": (np.float32, (1,)),
        }  # fmt: skip
        for name, (dtype, shape) in wanted.items():
            array = getattr(self, name)
            if array.dtype != dtype or array.shape != shape:
                raise ValueError(f"{PREFIX}{name} is {array.dtype} of shape {array.shape}, not {shape}")
            if dtype == np.float32 and not np.isfinite(array).all():
                raise ValueError(f"{PREFIX}{name} holds NaN or infinity")
        if K and int(self.numbers[-1]) >= 2**CLASS_GRAM_BITS:
            raise ValueError(f"{PREFIX}numbers has a {self.numbers[-1]}, of {CLASS_GRAM_BITS} bits")
        if not np.all(self.numbers[1:] > self.numbers[:-1]):
            raise ValueError(f"{PREFIX}numbers do not ascend")

    @cached_property
    def rows(self) -> npt.NDArray[np.int32]:
        """(2 ** BITS,), see rows_of: made when texts are first read, since a table takes 4 MB."""
        return rows_of(self.numbers)

    @property
    def nbytes(self) -> int:
        """The size of all arrays in a file."""
        return sum(array.nbytes for array in self.tensors().values())

    def tensors(self) -> dict[str, Array]:
        """The arrays, by their names in a model file."""
        return {PREFIX + name: getattr(self, name) for name in NAMES}

    @classmethod
    def from_tensors(
        cls, tensors: Mapping[str, Array], sizes: tuple[int, ...], vocab_size: int
    ) -> ClassGrams:
        """The grams that `tensors` gave. ValueError: these are anything else."""
        names = [PREFIX + name for name in NAMES]
        if wrong := sorted(tensors.keys() ^ set(names)):
            raise ValueError(f"its grams {'lack' if wrong[0] in names else 'have'} {wrong[0]!r}")
        arrays = {name: tensors[PREFIX + name] for name in NAMES}
        if arrays["numbers"].ndim != 1:
            raise ValueError(f"{PREFIX}numbers has the shape {arrays['numbers'].shape}")
        return cls(**arrays, sizes=sizes, vocab_size=vocab_size)

    def tell(self, values: Array, begins: Array, ends: Array) -> Floats:
        """What grams tell of R texts, which are values[begins[r] : ends[r]]: (R, N)."""
        from charrnn.kernels.loops.beside import class_grams as kernels  # what only opens files needs none

        told = np.empty((len(begins), self.weights.shape[1]))
        kernels.tell(told, kernels.Texts(values, begins, ends, self.vocab_size), self.rows, self.weights)
        return told

    def alone(self, told: Floats) -> tuple[Floats, Floats]:
        """The logits (R, N) of grams alone, by what they tell (R, N), and how sure they are of texts (R,)."""
        from charrnn.kernels.loops.beside import class_grams as kernels

        logits, sure = np.empty_like(told), np.empty(len(told))
        bounds = np.cumsum((0, *self.sizes))
        kernels.alone(logits, sure, told, self.alone_scales, self.alone_bias, bounds)
        return logits, sure

    def beside(self, logits: Floats, told: Floats) -> Floats:
        """The logits (R, N) of network and grams, by those of the network and what grams tell (R, N)."""
        return logits + np.repeat(self.scales.astype(np.float64), self.sizes) * told


NAMES = ("numbers", "weights", "scales", "alone_scales", "alone_bias", "sure")


def rows_of(numbers: Array) -> npt.NDArray[np.int32]:
    """(K,) -> (2 ** BITS,): for each gram's number its place among these; -1: it is not among them."""
    rows = np.full(2**CLASS_GRAM_BITS, -1, np.int32)
    rows[numbers] = np.arange(len(numbers), dtype=np.int32)
    return rows
