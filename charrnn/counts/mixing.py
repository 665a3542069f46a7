"""A network's logits -> log-probabilities, mixed with those of counts, in NumPy; see charrnn.counts.gate.

charrnn.kernels.loops.beside.mixing does the same in the compiled loop, bit for bit. The counts' context is a
layer's state to both: the last n - 1 characters, plus 1, so that 0 stands where nothing is known.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from charrnn.counts.gate import GatedCounts
from charrnn.counts.lookup import Lookup, log2
from charrnn.kernels.coefficients import (
    EXP_LEAST,
    GATE_CONTEXTS,
    GATE_INPUTS,
    GATE_LONG,
    GATE_RANGE,
    GATE_UNITS,
    LOG2E,
)

Floats = npt.NDArray[np.float32]

_LEAST, _LN2 = np.float32(EXP_LEAST), np.float32(1 / LOG2E)
_LOWEST, _SPAN = np.float32(GATE_RANGE[0]), np.float32(GATE_RANGE[1] - GATE_RANGE[0])


class Mixing:
    """The last layer of a network that has counts beside it.

    `of` has the functions exp, log, tanh, sigmoid, product and lane_sum that a network has when it writes.
    """

    def __init__(self, gated: GatedCounts, of: Any) -> None:
        self._of, self._lookup = of, Lookup(gated.counts, gated.labels or ())
        self._n = gated.counts.order
        sizes = [GATE_INPUTS * GATE_UNITS, GATE_UNITS, GATE_UNITS, 1]
        weight, self._bias, self._output, self._shift, (self._long_span,) = np.split(
            gated.gate.numbers, np.cumsum(sizes)
        )
        self._weight = weight.reshape(GATE_INPUTS, GATE_UNITS)

    def __call__(self, logits: Floats, character: int, state: Floats, new: Floats) -> Floats:
        """log p (V,) after one more character, 0 .. V-1 or V for START; fills in the `new` state."""
        n = self._n
        new[: n - 2] = state[1 : n - 1]
        new[n - 2] = character + 1
        p, told = self._lookup.predict(new[: n - 1].astype(np.int32) - np.int32(1))
        x = logits - np.fmax.reduce(logits, initial=np.float32(-np.inf))
        x = np.where(x > _LEAST, x, _LEAST)  # also in place of NaN
        e = self._of.exp(x)
        whole = self._of.lane_sum(e.astype(np.float64))
        top = (log2(np.array([whole], np.float32)) * _LN2)[0]
        entropy = top - np.float32(self._of.lane_sum((e * x).astype(np.float64)) / whole)
        weight = float(self._opened(told, top, entropy))
        left = (1.0 - weight) / whole
        mixed: Floats = self._of.log(weight * p + left * e.astype(np.float64)).astype(np.float32)
        return mixed

    def _opened(self, told: Floats, top: np.float32, entropy: np.float32) -> np.float32:
        """The weight of the counts."""
        inputs = np.zeros(GATE_INPUTS, np.float32)
        contexts = min(self._n - 1, GATE_CONTEXTS)
        inputs[:contexts] = told[:contexts]
        inputs[GATE_CONTEXTS:] = *told[-2:], top, entropy
        hidden = self._of.tanh(self._of.product(self._weight, inputs) + self._bias) * self._output
        total = np.add.accumulate(hidden)[-1:]  # unlike reduce, it adds in order
        span = self._long_span if inputs[GATE_LONG - 1] > 0 else _SPAN
        opened: np.float32 = (self._of.sigmoid(total + self._shift) * span + _LOWEST)[0]
        return opened
