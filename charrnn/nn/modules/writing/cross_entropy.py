"""The loss at a network's end: softmax cross-entropy of the next character, in nats."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from charrnn import kernels
from charrnn.nn.modules.stream import Stream

if TYPE_CHECKING:
    from charrnn.nn.parameters import Array
    from charrnn.nn.window import Window


class CrossEntropy:
    """-log softmax(logits)[target] in a window: its mean and the logits' gradient, or that of any targets."""

    def __init__(self, window: Window, logits: Stream) -> None:
        self.logits, shape = logits, (window.T, window.B)
        self.losses, self.sums = window.numbers(), [np.zeros(shape, window.dtype) for _ in range(3)]
        self.targets = np.zeros(shape, np.int32)
        self.count = self.losses.size  # of the positions over which the mean is taken, here and elsewhere
        self.weights = np.full(shape, 1.0 / self.count, window.dtype)
        if window.training:
            logits.gradient = logits.values  # which it overwrites

    def take_mean_over(self, count: int) -> None:
        """Let the mean be that over so many positions, of which these are some."""
        if count != self.count:
            self.count = count
            self.weights[:] = 1.0 / count

    def gradient(self, b0: int, b1: int, weights: Array | None = None) -> None:
        """The losses of the `targets`, and the gradient of their mean; columns b0 to b1.

        With `weights` (T, B), that of their sum with these; where a weight is 0, the loss is, too.
        """
        logits, weights = self.logits, self.weights if weights is None else weights
        kernels.loss.cross_entropy(logits.values, self.targets, weights, self.losses, logits.N, b0, b1)

    def mean(self, b0: int = 0, b1: int | None = None) -> float:
        """The loss, once all columns are done; of the mean over more positions, what these add to it.

        Of columns b0 to b1, what they would add in a window of their own, to the byte.
        """
        losses = np.ascontiguousarray(self.losses[:, b0:b1])
        return float(np.add.reduce(losses, axis=None, dtype=np.float64)) / self.count

    def compare(self, b0: int, b1: int) -> None:
        """Compute what `nats` and `doubts` need, for columns b0 to b1."""
        kernels.loss.log_partitions(self.logits.values, tuple(self.sums), self.logits.N, b0, b1)

    def nats(self, places: Array, ids: Array) -> Array:
        """-log p(ids[i]) at the position t * B + b = places[i], (n,)."""
        logits = self.logits.values.reshape(self.losses.size, -1)[places, ids]
        largest, logs = (array.reshape(-1)[places] for array in self.sums[:2])
        with np.errstate(all="ignore"):  # after training has diverged, losses are NaN
            nats: Array = logs - (logits - largest)
        return nats

    def doubts(self, places: Array) -> Array:
        """-log of the largest probability, and the entropy in nats, (n, 2), at these positions."""
        return np.stack([array.reshape(-1)[places] for array in self.sums[1:]], axis=1)
