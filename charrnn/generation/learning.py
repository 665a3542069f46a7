"""A network beside which counts go on counting the texts that it is given: what it writes and offers follows.

It learns what others wrote, never what it writes itself. It takes the network's place in the plain engine.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from charrnn.counts.growing import GrowingCounts, Past
from charrnn.inference import sampling
from charrnn.inference.engines import Network, Paths, PlainPath
from charrnn.inference.numpy_network import NEVER

State = tuple[Any, Past]  # the network's, and what was read last
_RULED_OUT = NEVER / 2


class LearningNetwork:
    """See charrnn.inference.numpy_network.PlainNetwork. Networks may share what they learn."""

    def __init__(self, network: Network, counts: GrowingCounts) -> None:
        self._network, self._counts = network, counts
        self.vocab_size, self.weights, self.precision = network.vocab_size, network.weights, network.precision
        self._learned: list[int] = []  # the document that was read last

    def initial_state(self) -> State:
        """The state at a document's start."""
        return self._network.initial_state(), self._counts.nothing()

    def fill_table(self, character: int) -> None:
        """See PlainNetwork."""
        self._network.fill_table(character)

    def step(self, character: int, state: State) -> tuple[npt.NDArray[np.float64], State]:
        """Read one character, 0 .. V-1 or V for START: log p (V,) of the next, and the new state."""
        logits, after = self._network.step(character, state[0])
        past = self._counts.after(state[1], np.array([character], np.int32))
        return self.told(logits, past), (after, past)

    def told(self, logits: npt.NDArray[Any], past: Past) -> npt.NDArray[np.float64]:
        """log p (V,) of what follows, where the network has the logits (V,); what it rules out remains so."""
        row: list[float] = self._counts.predict(logits.astype(np.float32), past).tolist()
        sampling.logarithms(row)
        return np.where(logits > _RULED_OUT, row, NEVER)

    def told_after(self, logits: npt.NDArray[Any], ids: Sequence[int]) -> npt.NDArray[np.float64]:
        """The same after a document of these characters."""
        read = np.array([self.vocab_size, *ids], np.int32)
        return self.told(logits, self._counts.after(self._counts.nothing(), read))

    def learn(self, document: Sequence[int]) -> State:
        """Learn a document, which begins with START; returns the state before its last character is read.

        What it has at its beginning in common with the last one is not learned twice: a user's text grows.
        """
        document, same = list(document), 0
        while same < min(len(document), len(self._learned)) and document[same] == self._learned[same]:
            same += 1
        self._learned = document
        state, past = self.initial_state()
        for n, character in enumerate(document[:-1]):
            logits, state = self._network.step(character, state)
            following = document[n + 1] if n + 1 >= same else -1
            x, y = np.array([[character], [following]], np.int32)
            self._counts.read(logits.astype(np.float32)[None], x, y, np.array([n == 0]), past)
        return state, past

    def forget_beginning(self) -> None:
        """The next document is another one, however it begins."""
        self._learned = []


class PlainPaths(Paths):
    """The plain path alone: a network that learns is not compiled."""

    def best(self, left: int) -> PlainPath:
        """The plain path."""
        assert isinstance(self._path, PlainPath)
        return self._path
