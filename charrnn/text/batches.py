"""Documents -> windows for truncated back-propagation through time."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from charrnn.text.documents import Documents, Inputs

LOOKUP_SIZE = 20_000  # positions looked up together: small windows are fetched several at a time


class Reading(Protocol):
    """What is read in training."""

    def __len__(self) -> int:
        """The number of characters in an epoch, give or take a few records."""

    def in_epoch(self, epoch: int) -> Documents:
        """What is read in an epoch: a pure function of it."""


class Batches:
    """Windows of T characters of B streams, (T, B), for truncated back-propagation through time.

    The text is cut into B streams of S = N // B characters, side by side; window k of an epoch
    continues window k-1 in every column, so that the state carries over. From the second epoch
    on, all streams start at a random offset below S, so that windows begin at other places.

    A tiny text gets fewer streams, then a shorter window: B is halved until S >= 2T; with B = 1,
    T is at most N, or N // 2 if one window of T would leave a remainder that is never trained on.

    Every window is a pure function of the text, the sizes, the seed, the epoch and k. An epoch whose text is
    a little shorter than another's begins anew at its end, and one whose text is longer leaves a little out.
    """

    def __init__(self, text: Reading, batch_size: int, seq_len: int, seed: int) -> None:
        total = len(text)
        if not total:
            raise ValueError("there is no text to cut into batches")
        while batch_size > 1 and total // batch_size < 2 * seq_len:
            batch_size //= 2
        stream = total // batch_size
        if stream < 2 * seq_len:
            seq_len = stream if stream <= seq_len else stream // 2
        self.text = text
        self.batch_size = batch_size  # B
        self.seq_len = seq_len  # T
        self.seed = seed
        self.windows_per_epoch = stream // seq_len  # K
        self._stream = stream  # S
        # A training step evicts these lookups' data from the CPU caches, so several windows in one lookup
        # cost little more than one.
        self._group_size = max(1, LOOKUP_SIZE // (batch_size * seq_len))
        self._group: tuple[tuple[int, int], Inputs] | None = None  # (epoch, group), and its windows
        self._epoch: tuple[int, Documents] | None = None  # an epoch, and what is read in it
        self._labels: tuple[int, int, npt.NDArray[np.int32]] | None = None  # likewise

    def offset(self, epoch: int) -> int:
        """The first stream's start in this epoch, 0 .. S-1."""
        if epoch == 0 or self.windows_per_epoch == 1:
            return 0
        return int(np.random.default_rng([self.seed, epoch]).integers(self._stream))

    def window(self, epoch: int, k: int) -> Inputs:
        """Inputs, targets and resets of window k = 0 .. K-1 of an epoch, each (T, B).

        Target y[t, j] is the character at some position; input x[t, j] is the character before it
        or, where reset[t, j] marks a document's start, START = V. The caller zeroes the state at
        k = 0: a stream that starts inside a document has no reset there.

        One stream of "abcde", T = 2: x, y = [START a], [a b], then [b c], [c d].
        """
        if not 0 <= k < self.windows_per_epoch:
            raise IndexError(f"window {k} of {self.windows_per_epoch}")
        group, n = divmod(k, self._group_size)
        if self._group is None or self._group[0] != (epoch, group):
            self._group = (epoch, group), self.documents(epoch).look_up(self._positions(epoch, group))
        x, y, reset = self._group[1]
        return x[n], y[n], reset[n]

    def labels(self, epoch: int, k: int, rate: float) -> npt.NDArray[np.int32] | None:
        """The labels in the window, (T, B, columns), the share `rate` of them hidden; None: there are none.

        Which ones are hidden differs from epoch to epoch.
        """
        documents = self.documents(epoch)
        if documents.labels is None:
            return None
        group, n = divmod(k, self._group_size)
        if self._labels is None or self._labels[:2] != (epoch, group):
            key = int(np.random.default_rng([self.seed, epoch, 2]).integers(2**63))
            found = documents.labels_at(self._positions(epoch, group), rate, key)
            assert found is not None
            self._labels = epoch, group, found
        labels: npt.NDArray[np.int32] = self._labels[2][n]
        return labels

    def documents(self, epoch: int) -> Documents:
        """What is read in this epoch."""
        if self._epoch is None or self._epoch[0] != epoch:
            self._epoch = None  # an epoch's text may be a copy: never two at a time
            self._epoch = epoch, self.text.in_epoch(epoch)
        return self._epoch[1]

    def _positions(self, epoch: int, group: int) -> npt.NDArray[np.int64]:
        """The positions of the windows of a group, (windows, T, B)."""
        T, B = self.seq_len, self.batch_size
        length = self._group_size * T
        streams = self.offset(epoch) + self._stream * np.arange(B, dtype=np.int64)  # (B,)
        times = group * length + np.arange(length, dtype=np.int64).reshape(-1, T, 1)
        return (times + streams) % len(self.documents(epoch))
