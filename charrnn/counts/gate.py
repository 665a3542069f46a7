"""The gate between counts and a network: how much of a prediction is whose, by what both know beforehand.

    p(c | text) = g p_counts(c | text) + (1 - g) p_network(c | text)

g is LEAST + (MOST - LEAST) sigmoid(v tanh(W x + b) + d), so that neither is ever left out. MOST is lower
where the last GATE_LONG characters occurred together, for there counts would copy the text, unless this
repeats itself anyway. x has, before the character is seen: log(1 + count) of the contexts of 1 .. 9
characters, the counts' largest probability and their entropy, the network's largest probability, as -log p,
and its entropy; entropies are in nats.

The network is trained alone: through the mixture it would learn nothing, since counts of the training text
are too good there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from charrnn.config import MOST_COLUMNS, MOST_LABELS
from charrnn.counts.counts import Array, Counts
from charrnn.kernels.coefficients import GATE_INPUTS, GATE_LONG_MOST, GATE_RANGE, GATE_UNITS

PREFIX = "gate."
GIVEN = "counts.given"  # in a file: how many labels counts know, and those that all texts have
MOST = "gate.most"  # in a file: long_most, unless it is the usual
MOST_WEIGHT = 1000.0
LEAST_FITTED = 300_000  # characters of a text of which some are set aside for a gate of its own
Floats = npt.NDArray[np.float32]

# In the layout of PyTorch's nn.Linear.
_SHAPES = {
    "hidden.weight": (GATE_UNITS, GATE_INPUTS),
    "hidden.bias": (GATE_UNITS,),
    "output.weight": (1, GATE_UNITS),
    "output.bias": (1,),
}


@dataclass(frozen=True, eq=False, slots=True)
class Gate:
    """The gate's weights, as one array: W transposed (inputs, units), b (units,), v (units,), d (1,).

    `long_most` is MOST where the last GATE_LONG characters occurred together: the usual, or a float32.

    Raises:
        ValueError: their number is wrong, or one is not finite, or too large; says which.
    """

    flat: Floats
    long_most: float = GATE_LONG_MOST

    @property
    def numbers(self) -> Floats:
        """What kernels take: the weights, and MOST - LEAST after GATE_LONG characters that occurred."""
        return np.append(self.flat, np.float32(self.long_most - GATE_RANGE[0]))

    def __post_init__(self) -> None:
        if self.flat.shape != (SIZE,) or self.flat.dtype != np.float32:
            raise ValueError(f"a gate has {SIZE} float32 numbers, not {self.flat.dtype} {self.flat.shape}")
        for name, tensor in self.tensors().items():
            if name == MOST and not GATE_RANGE[0] < self.long_most <= GATE_RANGE[1]:
                raise ValueError(
                    f"the tensor {name} is not above {GATE_RANGE[0]}, and at most {GATE_RANGE[1]}"
                )
            if not np.isfinite(tensor).all():
                raise ValueError(f"the tensor {name} holds NaN or infinity")
            if np.abs(tensor).max() > MOST_WEIGHT:
                raise ValueError(f"the tensor {name} holds a number beyond {MOST_WEIGHT:g}")

    def tensors(self) -> dict[str, Array]:
        """The weights, by their names in a model file."""
        at, found = 0, {}
        for name, shape in _SHAPES.items():
            size = int(np.prod(shape))
            part = self.flat[at : at + size]
            found[PREFIX + name] = (
                part.reshape(shape[::-1]).T.copy() if name == "hidden.weight" else part.reshape(shape).copy()
            )
            at += size
        if self.long_most != GATE_LONG_MOST:
            found[MOST] = np.array([self.long_most], np.float32)
        return found

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Array]) -> Gate:
        """The gate that `tensors` gave. ValueError: these are anything else."""
        shapes = _SHAPES | ({MOST.removeprefix(PREFIX): (1,)} if MOST in tensors else {})
        for name, shape in shapes.items():
            if (tensor := tensors.get(PREFIX + name)) is None:
                raise ValueError(f"the tensor {PREFIX}{name} is missing")
            if tensor.shape != shape or tensor.dtype != np.float32:
                raise ValueError(
                    f"the tensor {PREFIX}{name} is {tensor.dtype} of the shape {tensor.shape}, "
                    f"not float32 of {shape}"
                )
        if extra := sorted(tensors.keys() - {PREFIX + name for name in shapes}):
            raise ValueError(f"a gate has no such tensor as {extra[0]!r}")
        flat = np.concatenate([tensors[PREFIX + name].T.ravel() for name in _SHAPES])
        return cls(flat, float(tensors[MOST][0])) if MOST in tensors else cls(flat)


SIZE = sum(int(np.prod(shape)) for shape in _SHAPES.values())


@dataclass(frozen=True, eq=False, slots=True)
class GatedCounts:
    """What stands beside a network: counts, and the gate between both."""

    counts: Counts
    gate: Gate
    # The symbols of those that all texts have; None: they have their own.
    labels: tuple[int, ...] | None = None

    def given(self, labels: tuple[int, ...]) -> GatedCounts:
        """The counts of texts with these labels, one id for each column; or without any."""
        found = self.counts.symbols_of(np.array(labels, np.int32)).tolist() if labels else []
        return replace(self, labels=tuple(symbol for symbol in found if symbol >= 0))

    def is_shared_with(self, other: GatedCounts | None) -> bool:
        """Whether the other is the same but for the labels of texts."""
        return other is not None and self.counts is other.counts and self.gate is other.gate

    def symbols_of(self, labels: Array | None, positions: int) -> npt.NDArray[np.int32]:
        """The symbols (positions, columns) of labels, which have one id for each column; -1: unknown."""
        if labels is None:
            return np.tile(np.array(self.labels or (), np.int32), (positions, 1))
        return np.ascontiguousarray(self.counts.symbols_of(labels.reshape(positions, -1)))

    @property
    def is_plain(self) -> bool:
        """Whether the counts know no labels, and the gate's MOST are the usual."""
        return not self.counts.labels and self.gate.long_most == GATE_LONG_MOST

    def tensors(self) -> dict[str, Any]:
        """All arrays, by their names in a model file."""
        found = self.counts.tensors() | self.gate.tensors()
        if self.labels is not None and self.counts.labels:
            found[GIVEN] = np.array([sum(self.counts.labels), *self.labels], np.uint32)
        return found

    @classmethod
    def from_tensors(
        cls, tensors: Mapping[str, Array], vocab_size: int, labels: tuple[int, ...] = ()
    ) -> GatedCounts:
        """What `tensors` gave, for so many different characters, and labels of each column.

        ValueError: these are anything else.
        """
        gate = {name: tensor for name, tensor in tensors.items() if name.startswith(PREFIX)}
        counts = {name: tensor for name, tensor in tensors.items() if name not in gate}
        if labels or GIVEN not in tensors:
            return cls(Counts.from_tensors(counts, vocab_size, labels), Gate.from_tensors(gate))
        given = counts.pop(GIVEN)
        if given.dtype != np.uint32 or given.ndim != 1 or not 0 < len(given) <= 1 + MOST_COLUMNS:
            raise ValueError(f"{GIVEN} is {given.dtype} of shape {given.shape}")
        known, *symbols = given.tolist()
        if not 0 < known <= MOST_COLUMNS * MOST_LABELS or any(
            not vocab_size < symbol <= vocab_size + known for symbol in symbols
        ):
            raise ValueError(f"{GIVEN} has labels that are none")
        found = Counts.from_tensors(counts, vocab_size, (known,))
        return cls(found, Gate.from_tensors(gate), tuple(symbols))
