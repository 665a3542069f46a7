"""PyTorch's side of score.py: batched scoring of lines. Needs PyTorch and nothing else."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812 - as everybody calls it
from serve import serve
from torch import nn
from torch.nn.utils.rnn import pad_sequence

CHUNK = 12_000  # lines that are sorted by length together, about as many as charrnn gets at a time
BATCHES = (64, 128, 256, 512)  # the best for the network is taken, measured before


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("corpus", type=Path)
    for name in ("lines", "layers", "hidden"):
        parser.add_argument(f"--{name}", type=int)
    a = parser.parse_args()
    lines = a.corpus.read_text(encoding="utf-8").splitlines()
    lines = (lines * -(-a.lines // len(lines)))[: a.lines]
    ids = {c: n for n, c in enumerate(sorted(set("\n" + "".join(lines))))}
    V = len(ids)
    encoded = [torch.tensor([V, *(ids[c] for c in line), ids["\n"]]) for line in lines]  # START first
    embedding, rnn = nn.Embedding(V + 1, a.hidden), nn.LSTM(a.hidden, a.hidden, a.layers)
    decoder = nn.Linear(a.hidden, V)

    @torch.inference_mode()
    def score(batch: list[torch.Tensor]) -> torch.Tensor:
        """Nats of each line, (B,)."""
        padded = pad_sequence(batch)  # (T + 1, B)
        x, y = padded[:-1], padded[1:]
        logits = decoder(rnn(embedding(x))[0])
        losses = F.cross_entropy(logits.view(-1, V), y.reshape(-1), reduction="none").view(y.shape)
        lengths = torch.tensor([len(line) - 1 for line in batch])
        return (losses * (torch.arange(len(y))[:, None] < lengths)).sum(0)

    def measure(seconds: float, size: int) -> float:
        characters, begun = 0, time.perf_counter()
        while True:
            for start in range(0, len(encoded), CHUNK):
                chunk = sorted(encoded[start : start + CHUNK], key=len)
                for low in range(0, len(chunk), size):
                    batch = chunk[low : low + size]
                    score(batch)
                    characters += sum(map(len, batch)) - len(batch)
                    if (spent := time.perf_counter() - begun) >= seconds:
                        return characters / spent

    measure(0.5, BATCHES[0])
    best = max(BATCHES, key=lambda size: measure(1.0, size))
    serve(lambda seconds: measure(seconds, best), batch=best)


if __name__ == "__main__":
    main()
