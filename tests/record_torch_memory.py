"""Records from PyTorch what networks with a memory are held against.

    torch/bin/python tests/record_torch_memory.py     # rewrites tests/recordings/memory/

See record_torch.py, which also says how to install PyTorch. Ten float64 steps of AdamW over ten windows of a
text, with the state carried as a constant; in each stream texts begin here and there.
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
from torch.nn import functional

FOLDER = Path(__file__).parent / "recordings" / "memory"
V, D, T, B, WINDOWS = 11, 6, 7, 3, 10
SETTINGS = {"lr": 1e-2, "beta1": 0.9, "beta2": 0.99, "eps": 1e-8, "weight_decay": 0.1, "clip": 0.2}
NETWORKS = [(9, 5, 4), (34, 40, 3)]  # H, N, M


class Machine(nn.Module):
    """A neural Turing machine with one head that reads and one that writes."""

    def __init__(self, H: int, N: int, M: int) -> None:
        super().__init__()
        self.N, self.M = N, M
        self.embedding, self.rnn = nn.Embedding(V, D), nn.LSTMCell(D + M, H)
        self.heads, self.decoder = nn.Linear(H, 4 * M + 12), nn.Linear(H + M, V)

    def begin(self) -> list[torch.Tensor]:
        """h, c, what was read, the weights of both heads and the memory, of one stream."""
        H, start = self.rnn.hidden_size, torch.eye(self.N)[:1].double()
        zeros = [torch.zeros(1, n).double() for n in (H, H, self.M)]
        return [*zeros, start, start, torch.full((1, self.N, self.M), 1e-6).double()]

    def look(self, told: torch.Tensor, before: torch.Tensor, memory: torch.Tensor) -> torch.Tensor:
        M = self.M
        key, strength, gate = told[:, :M], functional.softplus(told[:, M : M + 1]), told[:, M + 1 : M + 2]
        shifts, sharpness = (
            torch.softmax(told[:, M + 2 : M + 5], 1),
            1 + functional.softplus(told[:, M + 5 :]),
        )
        lengths = (memory.square().sum(2) + 1e-8).sqrt() * (key.square().sum(1, keepdim=True) + 1e-8).sqrt()
        content = torch.softmax(strength * (memory @ key[:, :, None])[:, :, 0] / lengths, 1)
        now = torch.sigmoid(gate) * content + (1 - torch.sigmoid(gate)) * before
        moved = sum(shifts[:, n : n + 1] * torch.roll(now, 1 - n, 1) for n in (0, 1, 2))
        powers = moved**sharpness
        return powers / powers.sum(1, keepdim=True)

    def step(self, x: torch.Tensor, state: list[torch.Tensor]) -> Any:
        """x (B, D): the logits and the state after it."""
        M = self.M
        h, c, read, reading, writing, memory = state
        h, c = self.rnn(torch.cat([x, read], 1), (h, c))
        told = self.heads(h)
        reading = self.look(told[:, : M + 6], reading, memory)
        writing = self.look(told[:, M + 6 : 2 * M + 12], writing, memory)
        read = (reading[:, :, None] * memory).sum(1)
        erased, added = torch.sigmoid(told[:, -2 * M : -M]), torch.tanh(told[:, -M:])
        memory = memory * (1 - writing[:, :, None] * erased[:, None]) + writing[:, :, None] * added[:, None]
        return self.decoder(torch.cat([h, read], 1)), [h, c, read, reading, writing, memory]

    def forward(self, x: torch.Tensor, begins: np.ndarray, carry: list[torch.Tensor]) -> Any:
        """x (T, B); where `begins` (T, B), a text does."""
        logits = []
        for t in range(len(x)):
            rows = [self.begin() if begins[t, b] else [part[b : b + 1] for part in carry] for b in range(B)]
            carry = [torch.cat(parts) for parts in zip(*rows, strict=True)]
            found, carry = self.step(self.embedding(x[t]), carry)
            logits.append(found)
        return torch.stack(logits), carry


def record(H: int, N: int, M: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng([20241, H])
    network = Machine(H, N, M).double()
    names = {f"rnn.{n}": f"rnn.{n}_l0" for n in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")}
    tensors = {}
    for name, parameter in network.named_parameters():
        bound = 3.0 / math.sqrt(parameter.shape[-1] if parameter.ndim > 1 else H)
        value = rng.uniform(-bound, bound, tuple(parameter.shape)).astype(np.float32)
        tensors[names.get(name, name)] = value
        parameter.data = torch.from_numpy(value).double()
    positions, strides = np.arange(WINDOWS * T + 1)[:, None], rng.integers(1, 4, B)
    text = (positions * strides + rng.integers(0, V, B)) % V
    begins = rng.random((WINDOWS * T, B)) < 0.08
    begins[0] = True
    matrices = [p for p in network.parameters() if p.ndim == 2]
    vectors = [p for p in network.parameters() if p.ndim == 1]
    decayed = {"params": matrices, "weight_decay": SETTINGS["weight_decay"]}
    optimizer = torch.optim.AdamW(
        [decayed, {"params": vectors, "weight_decay": 0}],
        lr=SETTINGS["lr"], betas=(SETTINGS["beta1"], SETTINGS["beta2"]), eps=SETTINGS["eps"],
    )  # fmt: skip
    carry = [torch.cat([part] * B) for part in network.begin()]
    losses, norms, recording = [], [], {}
    for k in range(WINDOWS):
        x, y = (torch.from_numpy(text[k * T + i : k * T + i + T]) for i in (0, 1))
        logits, carry = network(x, begins[k * T : k * T + T], carry)
        carry = [part.detach() for part in carry]
        loss = functional.cross_entropy(logits.reshape(-1, V), y.reshape(-1))
        optimizer.zero_grad()
        loss.backward()
        if k == 3:  # with a past, after three updates
            recording["logits"] = logits.detach().numpy()
            for name, parameter in network.named_parameters():
                recording[f"gradients/{names.get(name, name)}"] = parameter.grad.numpy().copy()
        norms.append(nn.utils.clip_grad_norm_(network.parameters(), SETTINGS["clip"]).item())
        optimizer.step()
        losses.append(loss.item())
    recording |= {f"tensors/{name}": tensor for name, tensor in tensors.items()}
    sizes = {"hidden_size": H, "memory_rows": N, "memory_width": M, "embedding_size": D}
    recording |= {"text": text.astype(np.int32), "begins": begins}
    recording |= {"losses": np.array(losses), "norms": np.array(norms)}
    return recording | {"config": np.array(json.dumps({**sizes, "settings": SETTINGS}))}


def main() -> None:
    torch.set_num_threads(1)
    FOLDER.mkdir(parents=True, exist_ok=True)
    for H, N, M in NETWORKS:
        np.savez_compressed(FOLDER / f"ntm-{H}-{N}x{M}.npz", **record(H, N, M))


if __name__ == "__main__":
    main()
