"""Records from PyTorch what test_naive.py and the tests of the kernels are held against.

    python -m venv torch && torch/bin/pip install numpy torch
    torch/bin/python tests/record_torch.py        # rewrites tests/recordings/

Only this script needs PyTorch; charrnn and its tests do not.
support/torch_recordings.py says what a recording holds.
Last recorded with PyTorch 2.13 (CPU), x86-64.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

FOLDER = Path(__file__).parent / "recordings"

V, T, B = 11, 7, 3
SEED = 20240  # of the weights and the texts
WINDOWS = 10  # of the recorded training runs
SETTINGS = {
    "lr": 1e-2,
    "beta1": 0.9,
    "beta2": 0.99,
    "eps": 1e-8,
    "weight_decay": 0.1,  # on matrices only
    "clip": 0.2,  # small enough that every recorded run is clipped
}

CELLS = [("lstm", "tanh"), ("gru", "tanh"), ("rnn", "tanh"), ("rnn", "relu")]
GATES = {"lstm": 4, "gru": 3, "rnn": 1}
# norm, residual, layers, D (0: one-hot), H, whether ten steps of training are recorded too.
NETWORKS = [
    (False, False, 2, 7, 10, True),
    (False, False, 1, 0, 9, False),
    (False, False, 3, 9, 9, False),
    (True, False, 1, 9, 9, False),
    (True, False, 2, 0, 8, False),
    (False, True, 2, 9, 9, False),
    (False, True, 3, 0, 8, False),  # no skip connection around the first layer: V is not H
    (True, True, 3, 8, 8, False),
    (True, True, 2, 6, 9, False),  # none either: D is not H
    (True, True, 2, 0, V, True),  # one around the first layer: its input is one-hot and V is H
]


class PlainNetwork(nn.Module):
    """PyTorch's own layers and nothing else: the tensors load into it under their own names."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        D, H = config["embedding_size"], config["hidden_size"]
        if D:
            self.embedding = nn.Embedding(V, D)
        self.rnn = recurrent_layer(config, D or V, config["num_layers"])
        self.decoder = nn.Linear(H, V)

    def load(self, tensors: dict[str, torch.Tensor]) -> None:
        self.load_state_dict(tensors)

    def gradients(self) -> dict[str, torch.Tensor]:
        return {name: p.grad for name, p in self.named_parameters()}

    def forward(self, x: torch.Tensor, state: list[tuple[torch.Tensor, ...]]) -> Any:
        stacked = tuple(torch.stack(parts) for parts in zip(*state, strict=True))  # each (L, B, H)
        before = stacked if len(stacked) == 2 else stacked[0]
        values, after = self.rnn(input_vectors(self, x), before)
        parts = after if isinstance(after, tuple) else (after,)
        return self.decoder(values), [tuple(part[k] for part in parts) for k in range(len(state))]


class LayeredNetwork(nn.Module):
    """One PyTorch layer at a time, with layer norm and skip connections between them."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        D, H, L = config["embedding_size"], config["hidden_size"], config["num_layers"]
        self.residual = config["residual"]
        if D:
            self.embedding = nn.Embedding(V, D)
        self.layers = nn.ModuleList(recurrent_layer(config, H if k else (D or V), 1) for k in range(L))
        self.norms = nn.ModuleList(
            nn.LayerNorm(H, eps=1e-5) if config["norm"] else nn.Identity() for _ in range(L)
        )
        self.decoder = nn.Linear(H, V)

    def names(self) -> Iterator[tuple[str, str]]:
        """This module's name of each parameter, and the file's."""
        for name, _ in self.named_parameters():
            parts = name.split(".")
            if parts[0] == "layers":
                yield name, f"rnn.{parts[2].removesuffix('_l0')}_l{parts[1]}"
            elif parts[0] == "norms":
                yield name, f"norm_l{parts[1]}.{parts[2]}"
            else:
                yield name, name

    def load(self, tensors: dict[str, torch.Tensor]) -> None:
        self.load_state_dict({name: tensors[theirs] for name, theirs in self.names()})

    def gradients(self) -> dict[str, torch.Tensor]:
        return {theirs: self.get_parameter(name).grad for name, theirs in self.names()}

    def forward(self, x: torch.Tensor, state: list[tuple[torch.Tensor, ...]]) -> Any:
        values = input_vectors(self, x)
        new_state = []
        for layer, norm, parts in zip(self.layers, self.norms, state, strict=True):
            before = tuple(part[None] for part in parts)  # each (1, B, H)
            out, after = layer(values, before if len(before) == 2 else before[0])
            new_state.append(tuple(p[0] for p in (after if isinstance(after, tuple) else (after,))))
            out = norm(out)
            if self.residual and values.shape == out.shape:
                out = out + values
            values = out
        return self.decoder(values), new_state


def recurrent_layer(config: dict[str, Any], D: int, L: int) -> nn.Module:
    H = config["hidden_size"]
    if config["cell"] == "lstm":
        return nn.LSTM(D, H, num_layers=L)
    if config["cell"] == "gru":
        return nn.GRU(D, H, num_layers=L)
    return nn.RNN(D, H, num_layers=L, nonlinearity=config["nonlinearity"])


def input_vectors(network: Any, x: torch.Tensor) -> torch.Tensor:
    if hasattr(network, "embedding"):
        return network.embedding(x)
    return nn.functional.one_hot(x, V).to(network.decoder.weight.dtype)


def cross_entropy(logits: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return nn.functional.cross_entropy(logits.reshape(-1, V), y.reshape(-1))


def make_tensors(config: dict[str, Any], rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Seeded float32 weights, PyTorch's names and layout; no zeros and ones that hide mistakes."""
    D, H, G = config["embedding_size"], config["hidden_size"], GATES[config["cell"]]

    def uniform(*shape: int) -> np.ndarray:
        return rng.uniform(-1, 1, shape).astype(np.float32) * np.float32(2 / math.sqrt(H))

    tensors = {"embedding.weight": uniform(V, D)} if D else {}
    for k in range(config["num_layers"]):
        tensors[f"rnn.weight_ih_l{k}"] = uniform(G * H, H if k else (D or V))
        tensors[f"rnn.weight_hh_l{k}"] = uniform(G * H, H)
        tensors[f"rnn.bias_ih_l{k}"] = uniform(G * H)
        tensors[f"rnn.bias_hh_l{k}"] = uniform(G * H)
        if config["norm"]:
            tensors[f"norm_l{k}.weight"] = 1 + uniform(H)
            tensors[f"norm_l{k}.bias"] = uniform(H)
    return tensors | {"decoder.weight": uniform(V, H), "decoder.bias": uniform(V)}


def make_network(config: dict[str, Any], tensors: dict[str, np.ndarray], dtype: torch.dtype) -> Any:
    plain = not (config["norm"] or config["residual"])
    network = (PlainNetwork if plain else LayeredNetwork)(config).to(dtype)
    network.load({name: torch.from_numpy(tensor).to(dtype) for name, tensor in tensors.items()})
    return network


def record_window(
    config: dict[str, Any], tensors: dict[str, np.ndarray], rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Float32 logits and state after a window; float64 loss and gradients of the same one."""
    H, L, parts = config["hidden_size"], config["num_layers"], 1 + (config["cell"] == "lstm")
    text = rng.integers(0, V, (T + 1, B))
    before = rng.normal(0, 0.5, (L, parts, B, H)).astype(np.float32)
    x, y = torch.from_numpy(text[:-1]), torch.from_numpy(text[1:])

    state = [tuple(torch.from_numpy(part) for part in layer) for layer in before]
    with torch.no_grad():
        logits, after = make_network(config, tensors, torch.float32)(x, state)
    recording = {
        "x": text[:-1].astype(np.int32),
        "y": text[1:].astype(np.int32),
        "state": before,  # (L, parts, B, H)
        "logits": logits.numpy(),
        "final_state": np.stack([np.stack([p.numpy() for p in layer]) for layer in after]),
    }

    network = make_network(config, tensors, torch.float64)
    leaves = [tuple(part.double().requires_grad_() for part in layer) for layer in state]
    loss = cross_entropy(network(x, leaves)[0], y)
    loss.backward()
    recording["loss"] = np.float64(loss.item())
    recording["state_gradient"] = np.stack(
        [np.stack([part.grad.numpy() for part in layer]) for layer in leaves]
    )
    for name, gradient in network.gradients().items():
        recording[f"gradients/{name}"] = gradient.numpy()
    return recording


def record_training(
    config: dict[str, Any], tensors: dict[str, np.ndarray], rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Ten float64 steps of AdamW over ten windows of a text, from a zero state that is carried."""
    H, L, parts = config["hidden_size"], config["num_layers"], 1 + (config["cell"] == "lstm")
    # Each stream counts upwards in its own stride: there is something to learn.
    positions, strides = np.arange(WINDOWS * T + 1)[:, None], rng.integers(1, 4, B)
    text = (positions * strides + rng.integers(0, V, B)) % V

    network = make_network(config, tensors, torch.float64)
    optimizer = torch.optim.AdamW(
        [
            {
                "params": [p for p in network.parameters() if p.ndim == 2],
                "weight_decay": SETTINGS["weight_decay"],
            },
            {"params": [p for p in network.parameters() if p.ndim == 1], "weight_decay": 0.0},
        ],
        lr=SETTINGS["lr"],
        betas=(SETTINGS["beta1"], SETTINGS["beta2"]),
        eps=SETTINGS["eps"],
    )
    state = [tuple(torch.zeros(B, H).double() for _ in range(parts)) for _ in range(L)]
    losses, norms = [], []
    for start in range(0, WINDOWS * T, T):
        x, y = (torch.from_numpy(text[start + i : start + i + T]) for i in (0, 1))
        logits, after = network(x, state)
        state = [tuple(part.detach() for part in layer) for layer in after]
        loss = cross_entropy(logits, y)
        optimizer.zero_grad()
        loss.backward()
        norms.append(nn.utils.clip_grad_norm_(network.parameters(), SETTINGS["clip"]).item())
        optimizer.step()
        losses.append(loss.item())
    return {
        "training/text": text.astype(np.int32),
        "training/losses": np.array(losses),
        "training/norms": np.array(norms),
        "training/settings": np.array(json.dumps(SETTINGS)),
    }


def configurations() -> Iterator[tuple[str, dict[str, Any], bool]]:
    for cell, nonlinearity in CELLS:
        for norm, residual, L, D, H, trained in NETWORKS:
            config = {
                "cell": cell,
                "dropout": 0.0,
                "embedding_size": D,
                "hidden_size": H,
                "nonlinearity": nonlinearity,
                "norm": norm,
                "num_layers": L,
                "residual": residual,
                "vocab_size": V,
            }
            kind = cell if cell != "rnn" else f"rnn-{nonlinearity}"
            layers = "-".join(["norm"] * norm + ["residual"] * residual) or "plain"
            yield f"{kind}-{layers}-{L}-{f'embedding{D}' if D else 'onehot'}-{H}", config, trained


def main() -> None:
    torch.set_num_threads(1)
    FOLDER.mkdir(exist_ok=True)
    for old in FOLDER.glob("*.npz"):
        old.unlink()
    for number, (name, config, trained) in enumerate(configurations()):
        rng = np.random.default_rng([SEED, number])
        tensors = make_tensors(config, rng)
        recording = record_window(config, tensors, rng)
        if trained:
            recording |= record_training(config, tensors, rng)
        recording |= {f"tensors/{key}": tensor for key, tensor in tensors.items()}
        np.savez_compressed(FOLDER / f"{name}.npz", config=json.dumps(config), **recording)
        print(name)


if __name__ == "__main__":
    main()
