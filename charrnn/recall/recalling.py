"""A network's logits -> log-probabilities, mixed with those of a cache; see kernels.loops.beside.recall.

That does the same in the compiled loop, bit for bit, and says what is computed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from charrnn.config import CacheConfig
from charrnn.kernels.coefficients import EXP_LEAST

Floats = npt.NDArray[np.float32]
Wide = npt.NDArray[np.float64]

LANES = 32  # partial sums of a product of states
PLACE, KNOWN, FIRST = range(3)  # of the numbers of a cache, see kernels.loops.beside.recall.Memory

_ZERO, _ONE, _LEAST, _MOST = map(np.float32, (0, 1, EXP_LEAST, 3e38))


class Layout:
    """Where a cache lies in the state of a text that is written: in layers of S numbers.

    First those of the states, of which each layer has as many as it holds whole; then those of the numbers.
    """

    def __init__(self, config: CacheConfig, H: int, S: int) -> None:
        """S is the width of the network's own layers, at least H."""
        self.N, self.H, self.each = config.size, H, S // H
        self.states, self.numbers = -(-self.N // self.each), -(-(FIRST + self.N) // S)  # layers
        self.layers = (S,) * (self.states + self.numbers)
        self.size = self.N * H  # numbers that a character passes over
        self.settings = np.array([config.theta, config.weight, config.doubt])


class Recalling:
    """The last operation of a network that has a cache.

    `of` has the functions exp, log and lane_sum, as a network has them when it writes.
    """

    def __init__(self, layout: Layout, V: int, of: Any) -> None:
        self._layout, self._V, self._of = layout, V, of
        theta, self._most, self._doubt = layout.settings.tolist()
        self._theta = np.float32(theta)

    def __call__(self, logits: Floats, hidden: Floats, character: int, state: Floats, new: Floats) -> Floats:
        """log p (V,) after one more character, 0 .. V-1 or V for START; fills in the `new` state."""
        at, V = self._layout, self._V
        new[:] = state
        numbers = new[at.states :].ravel()  # a view
        place, known = int(numbers[PLACE]), int(numbers[KNOWN])
        if place:
            numbers[FIRST + place - 1] = character
            known = min(known + 1, at.N)
            place %= at.N
        u = unit(hidden)
        states = new[: at.states, : at.each * at.H].reshape(at.states, at.each, at.H)
        e = self._compare(u, states[: -(-known // at.each)])[:known]
        characters = numbers[FIRST : FIRST + known].astype(np.int64)
        hits = np.bincount(characters, weights=e, minlength=V + 1)[:V]
        found = self._of.lane_sum(e.astype(np.float64))
        x = logits - np.fmax.reduce(logits, initial=np.float32(-np.inf))
        share = self._of.exp(np.where(x > _LEAST, x, _LEAST)).astype(np.float64)  # also in place of NaN
        scale = self._most / (found + self._doubt)
        left = (1.0 - scale * found) / self._of.lane_sum(share)
        states[place // at.each, place % at.each] = u
        numbers[PLACE], numbers[KNOWN] = place + 1, known
        mixed: Floats = self._of.log(left * share + scale * hits).astype(np.float32)
        return mixed

    def _compare(self, u: Floats, states: Floats) -> Floats:
        """e of each of the states (layers, each, H)."""
        x = self._theta * (dots(states.reshape(-1, len(u)), u) - _ONE)
        found: Floats = self._of.exp(np.maximum(np.minimum(x, _ZERO), _LEAST))
        return found


def unit(h: Floats) -> Floats:
    """h / |h|, (H,); 0 where that has no length, or an infinite one."""
    (square,) = dots(h[None], h)
    if not _ZERO < square < _MOST:
        return np.zeros_like(h)
    scaled: Floats = h * (_ONE / np.sqrt(square))
    return scaled


def dots(rows: Floats, x: Floats) -> Floats:
    """The product of each row (n, H) with x (H,), (n,): 32 partial sums, which are then added by halves."""
    products, whole = rows * x, len(x) // LANES * LANES
    lanes, rest = np.zeros((len(rows), LANES), np.float32), np.zeros(len(rows), np.float32)
    for k in range(0, whole, LANES):
        lanes += products[:, k : k + LANES]
    for k in range(whole, len(x)):
        rest += products[:, k]
    while lanes.shape[1] > 1:
        half = lanes.shape[1] // 2
        lanes = lanes[:, :half] + lanes[:, half:]
    sums: Floats = lanes[:, 0] + rest
    return sums
