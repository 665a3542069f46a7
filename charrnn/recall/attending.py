"""The mean of its past outputs that a network attends to, in NumPy; see nn.modules.writing.retrospection.

kernels.loops.beside.attending does the same in the compiled loop, bit for bit.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from charrnn.kernels.coefficients import EXP_LEAST
from charrnn.recall.recalling import dots

Floats = npt.NDArray[np.float32]

_ZERO, _LEAST = np.float32(0), np.float32(EXP_LEAST)


class Attending:
    """An operation of a network that attends to itself.

    `of` has the functions exp and lane_sum, as a network has them when it writes.
    """

    def __init__(self, operation: Any, lags: Floats, of: Any) -> None:
        """`operation` is nn.modules.program.Attend, and `lags` (S,) are its biases."""
        self._H, self._each, self._lags, self._of = operation.width, operation.each, lags, of

    def __call__(self, hidden: Floats, query: Floats, key: Floats, state: Floats, new: Floats) -> Floats:
        """The mean (H,), after one more output; fills in the `new` state, layers of numbers."""
        new[:] = state
        span, H, A = len(self._lags), self._H, len(query)
        entries = new[:-1, : self._each * (A + H)].reshape(len(new) - 1, self._each, A + H)  # a view
        place, known = int(new[-1, 0]), int(new[-1, 1])
        if place:
            entries[(place - 1) // self._each, (place - 1) % self._each, A:] = hidden
            known, place = min(known + 1, span), place % span
        whole = entries[: -(-known // self._each)].reshape(-1, A + H)[:known]
        lags = self._lags[(place - 1 - np.arange(known)) % span]
        scores = np.float32(1 / math.sqrt(A)) * dots(whole[:, :A], query) + lags
        top = np.fmax.reduce(scores, initial=_ZERO)
        e = self._of.exp(np.maximum(scores - top, _LEAST))
        (nothing,) = self._of.exp(np.maximum(np.array([-top], np.float32), _LEAST))
        total = self._of.lane_sum(e.astype(np.float64)) + float(nothing)
        weights = (e.astype(np.float64) / total).astype(np.float32)
        # With the key's last number, since NumPy would sum a single column in pairs.
        mean: Floats = np.add.reduce(whole[:, A - 1 :] * weights[:, None], axis=0, initial=np.float32(-0.0))
        entries[place // self._each, place % self._each, :A] = key
        new[-1, :2] = place + 1, known
        return mean[1:]
