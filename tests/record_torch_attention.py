"""Records from PyTorch what networks that attend to their own past are held against.

    torch/bin/python tests/record_torch_attention.py     # rewrites tests/recordings/attention/

See record_torch.py, which also says how to install PyTorch. Ten float64 steps of AdamW over ten windows of a
text, with the state carried: the past outputs of each stream are constants of the next window.
Last recorded with PyTorch 2.13 (CPU), x86-64.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

FOLDER = Path(__file__).parent / "recordings" / "attention"
V, D, T, B, WINDOWS = 11, 6, 7, 3, 10
SETTINGS = {"lr": 1e-2, "beta1": 0.9, "beta2": 0.99, "eps": 1e-8, "weight_decay": 0.1, "clip": 0.2}
NETWORKS = [("lstm", 9, 5), ("gru", 34, 18)]  # cell, H, span: shorter than a window, and longer than two


class Attending(nn.Module):
    """y_t = h_t + W_o (sum of a_i h_i+1) + b_o, over the last S outputs; position by position."""

    def __init__(self, H: int, S: int) -> None:
        super().__init__()
        self.S, self.A = S, min(H, 64)
        self.query, self.key, self.output = nn.Linear(H, self.A), nn.Linear(H, self.A), nn.Linear(H, H)
        self.lag = nn.Parameter(torch.zeros(S))

    def forward(self, h: torch.Tensor, past: list[torch.Tensor]) -> torch.Tensor:
        """h (T, B, H), and the outputs before them, (B, H) each."""
        seen, found = [*past, *h], []
        for t in range(len(past), len(seen)):
            steps = range(max(0, t - self.S), t)
            query = self.query(seen[t])
            scores = [torch.zeros(query.shape[0], dtype=query.dtype)]
            for i in steps:
                scores.append((query * self.key(seen[i])).sum(1) / math.sqrt(self.A) + self.lag[t - i - 1])
            weights = torch.softmax(torch.stack(scores), 0)
            context = sum(weights[1 + n][:, None] * seen[i + 1] for n, i in enumerate(steps))
            context = torch.zeros_like(seen[t]) if len(steps) == 0 else context
            found.append(seen[t] + self.output(context))
        return torch.stack(found)


class Network(nn.Module):
    def __init__(self, cell: str, H: int, S: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(V, D)
        self.rnn = {"lstm": nn.LSTM, "gru": nn.GRU}[cell](D, H)
        self.attention, self.decoder = Attending(H, S), nn.Linear(H, V)

    def forward(self, x: torch.Tensor, carry: Any) -> Any:
        state, past = carry
        h, state = self.rnn(self.embedding(x), state)
        past_after = [*past, *h][-self.attention.S :]
        return self.decoder(self.attention(h, past)), (state, past_after)


def detached(carry: Any) -> Any:
    state, past = carry
    state = tuple(part.detach() for part in state) if isinstance(state, tuple) else state.detach()
    return state, [output.detach() for output in past]


def record(cell: str, H: int, S: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng([20240, H])
    network = Network(cell, H, S).double()
    tensors = {}
    for name, parameter in network.named_parameters():
        bound = 2.0 / math.sqrt(parameter.shape[-1] if parameter.ndim > 1 else H)
        tensors[name] = rng.uniform(-bound, bound, tuple(parameter.shape)).astype(np.float32)
        parameter.data = torch.from_numpy(tensors[name]).double()
    positions, strides = np.arange(WINDOWS * T + 1)[:, None], rng.integers(1, 4, B)
    text = (positions * strides + rng.integers(0, V, B)) % V
    matrices = [p for p in network.parameters() if p.ndim == 2]
    vectors = [p for p in network.parameters() if p.ndim == 1]
    decayed = {"params": matrices, "weight_decay": SETTINGS["weight_decay"]}
    optimizer = torch.optim.AdamW(
        [decayed, {"params": vectors, "weight_decay": 0}],
        lr=SETTINGS["lr"], betas=(SETTINGS["beta1"], SETTINGS["beta2"]), eps=SETTINGS["eps"],
    )  # fmt: skip
    carry: Any = (None, [])
    losses, norms, recording = [], [], {}
    for k in range(WINDOWS):
        x, y = (torch.from_numpy(text[k * T + i : k * T + i + T]) for i in (0, 1))
        logits, carry = network(x, carry)
        carry = detached(carry)
        loss = nn.functional.cross_entropy(logits.reshape(-1, V), y.reshape(-1))
        optimizer.zero_grad()
        loss.backward()
        if k == 3:  # with a past, after three updates
            recording["logits"] = logits.detach().numpy()
            for name, parameter in network.named_parameters():
                recording[f"gradients/{name}"] = parameter.grad.numpy().copy()
        norms.append(nn.utils.clip_grad_norm_(network.parameters(), SETTINGS["clip"]).item())
        optimizer.step()
        losses.append(loss.item())
    recording |= {f"tensors/{name}": tensor for name, tensor in tensors.items()}
    config = {"cell": cell, "hidden_size": H, "span": S, "embedding_size": D, "settings": SETTINGS}
    recording |= {"text": text.astype(np.int32), "losses": np.array(losses), "norms": np.array(norms)}
    return recording | {"config": np.array(json.dumps(config))}


def main() -> None:
    torch.set_num_threads(1)
    FOLDER.mkdir(parents=True, exist_ok=True)
    for cell, H, S in NETWORKS:
        np.savez_compressed(FOLDER / f"{cell}-{H}-span{S}.npz", **record(cell, H, S))


if __name__ == "__main__":
    main()
