"""Plain NumPy as a knowledgeable user writes it, as a measured process; `speed.py` starts it.

python bench/peer_numpy.py sample --layers 2 --hidden 128 --count 1   serves writing, in characters a second
python bench/peer_numpy.py first --layers 2 --hidden 128              writes one character
python bench/peer_numpy.py peak                                       serves the best float32 product, GFLOP/s
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any

import numpy as np
from serve import quickest, serve

SIDE = 3072  # of the matrices whose product is the peak: 38 MB each, 58 GFLOP
TEMPERATURE = 0.8
Array = np.ndarray[Any, Any]


class LSTM:
    """A stacked LSTM. The first layer's input is a row of a table; each layer is one product, W [x, h]."""

    def __init__(self, V: int, H: int, L: int, B: int) -> None:
        self.random = random = np.random.default_rng(1)

        def weights(*shape: int) -> Array:
            return random.standard_normal(shape, np.float32) / np.float32(np.sqrt(H))

        self.V, self.H, self.L = V, H, L
        self.table = weights(V, 4 * H)
        self.weights = [weights(4 * H, H if k == 0 else 2 * H) for k in range(L)]  # gates i, f, o, g
        self.biases = [weights(4 * H) for _ in range(L)]
        self.decoder, self.decoder_bias = weights(V, H), weights(V)
        shape = (H,) if B == 1 else (B, H)  # NumPy is quicker with vectors than with matrices of a row
        self.h = [np.zeros(shape, np.float32) for _ in range(L)]
        self.c = [np.zeros(shape, np.float32) for _ in range(L)]
        self.id: Any = 0 if B == 1 else np.zeros(B, np.int64)
        self.step = self.write_one if B == 1 else self.write_many

    def write_one(self) -> None:
        """The next character of the one text, `id`."""
        H = self.H
        for k, weight in enumerate(self.weights):
            if k == 0:
                a = np.dot(weight, self.h[0])
                a += self.table[self.id]
            else:
                a = np.dot(weight, np.concatenate((self.h[k - 1], self.h[k])))
                a += self.biases[k]
            s = 1.0 / (1.0 + np.exp(-a[: 3 * H]))
            self.c[k] = s[H : 2 * H] * self.c[k] + s[:H] * np.tanh(a[3 * H :])
            self.h[k] = s[2 * H :] * np.tanh(self.c[k])
        logits = (np.dot(self.decoder, self.h[-1]) + self.decoder_bias) / TEMPERATURE
        cumulated = np.exp(logits - logits.max()).cumsum()
        u = self.random.random() * cumulated[-1]
        self.id = min(int(cumulated.searchsorted(u)), self.V - 1)

    def write_many(self) -> None:
        """The next character of each text, `id` (B,)."""
        H = self.H
        for k, weight in enumerate(self.weights):
            if k == 0:
                a = np.dot(self.h[0], weight.T)
                a += self.table[self.id]
            else:
                a = np.dot(np.concatenate((self.h[k - 1], self.h[k]), axis=1), weight.T)
                a += self.biases[k]
            s = 1.0 / (1.0 + np.exp(-a[:, : 3 * H]))
            self.c[k] = s[:, H : 2 * H] * self.c[k] + s[:, :H] * np.tanh(a[:, 3 * H :])
            self.h[k] = s[:, 2 * H :] * np.tanh(self.c[k])
        logits = (np.dot(self.h[-1], self.decoder.T) + self.decoder_bias) / TEMPERATURE
        cumulated = np.exp(logits - logits.max(axis=1, keepdims=True)).cumsum(axis=1)
        u = self.random.random((len(cumulated), 1)) * cumulated[:, -1:]
        self.id = np.minimum((cumulated < u).sum(axis=1), self.V - 1)


def peak(seconds: float) -> float:
    """GFLOP/s of the quickest large float32 product, on all cores."""
    a, b = (np.random.default_rng(k).random((SIDE, SIDE), np.float32) for k in (1, 2))
    product = np.empty_like(a)
    return 2 * SIDE**3 / quickest(seconds, lambda: np.matmul(a, b, out=product)) / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("mode", choices=["sample", "first", "peak"])
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--vocabulary", type=int, default=65)
    parser.add_argument("--count", type=int, default=1)
    a = parser.parse_args()
    if a.mode == "peak":
        peak(0)
        serve(peak)
        return
    network = LSTM(a.vocabulary, a.hidden, a.layers, a.count)
    if a.mode == "first":
        network.step()
        sys.stdout.write(chr(ord("!") + network.id))
        sys.stdout.flush()
        return

    def writing(seconds: float) -> float:
        steps, begun = 0, time.perf_counter()
        while (now := time.perf_counter()) - begun < seconds or not steps:
            network.step()
            steps += 1
        return float(steps * a.count / (now - begun))

    writing(0.5)
    serve(writing)


if __name__ == "__main__":
    main()
