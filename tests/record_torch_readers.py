"""Records from PyTorch what test_readers.py is held against: networks that read whole texts.

    torch/bin/python tests/record_torch_readers.py        # rewrites tests/recordings/readers/

See record_torch.py. Encoders are PyTorch's own bidirectional layers over packed sequences; what follows is
written out here, one equation a line, and differentiated by PyTorch.
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
from naive import CELLS
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

FOLDER = Path(__file__).parent / "recordings" / "readers"

GATES = {"lstm": 4, "gru": 3, "rnn": 1}
V, N = 11, 6  # characters, labels
END = 8  # the last output of a decoder; what is behind it is START
D, H, L = 7, 5, 2
LENGTHS = [7, 3, 1, 5]
TARGET_LENGTHS = [2, 6, 4, 1]
SEED = 20241
HEADS = ["classes", "labels", "tags", "rewrite-additive", "rewrite-dot"]
Tensors = dict[str, torch.Tensor]


def shapes(head: str, cell: str) -> dict[str, tuple[int, ...]]:
    G, parts = GATES[cell], 1 + (cell == "lstm")
    found: dict[str, tuple[int, ...]] = {"embedding.weight": (V, D)}
    for k in range(L):
        for way in ("", "_reverse"):
            found[f"rnn.weight_ih_l{k}{way}"] = (G * H, 2 * H if k else D)
            found[f"rnn.weight_hh_l{k}{way}"] = (G * H, H)
            found[f"rnn.bias_ih_l{k}{way}"] = found[f"rnn.bias_hh_l{k}{way}"] = (G * H,)
    if head.startswith("rewrite"):
        found |= {
            "target.embedding.weight": (END, D),
            "target.rnn.weight_ih_l0": (G * H, D + H), "target.rnn.weight_hh_l0": (G * H, H),
            "target.rnn.bias_ih_l0": (G * H,), "target.rnn.bias_hh_l0": (G * H,),
            "target.start.weight": (parts * H, 2 * H), "target.start.bias": (parts * H,),
            "attention.key.weight": (H, 2 * H), "attention.key.bias": (H,),
            "attention.output.weight": (H, 3 * H), "attention.output.bias": (H,),
        }  # fmt: skip
        if head.endswith("additive"):
            found |= {"attention.query.weight": (H, H), "attention.vector": (H,)}
        return found | {"decoder.weight": (END + 1, H), "decoder.bias": (END + 1,)}
    if head == "classes":
        found |= {"pooling.weight": (H, 2 * H), "pooling.bias": (H,), "pooling.vector": (H,)}
    if head == "tags":
        found |= {"crf.start_transitions": (N,), "crf.end_transitions": (N,), "crf.transitions": (N, N)}
    return found | {"decoder.weight": (N, 2 * H), "decoder.bias": (N,)}


def encode(p: Tensors, cell: str, nonlinearity: str, x: torch.Tensor) -> torch.Tensor:
    """The outputs of both directions, (T, B, 2H), zero behind each text."""
    options = {"nonlinearity": nonlinearity} if cell == "rnn" else {}
    kind = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}[cell]
    layer = kind(D, H, num_layers=L, bidirectional=True, **options).to(x.device, p["decoder.bias"].dtype)
    packed = pack_padded_sequence(p["embedding.weight"][x], LENGTHS, enforce_sorted=False)
    own = {name.removeprefix("rnn."): tensor for name, tensor in p.items() if name.startswith("rnn.")}
    return pad_packed_sequence(torch.func.functional_call(layer, own, (packed,))[0])[0]


def classes(p: Tensors, y: torch.Tensor) -> torch.Tensor:
    """The logits (B, N) after attention pooling."""
    pooled = []
    for b, n in enumerate(LENGTHS):
        rows = y[:n, b]
        scores = torch.tanh(rows @ p["pooling.weight"].T + p["pooling.bias"]) @ p["pooling.vector"]
        pooled.append(torch.softmax(scores, 0) @ rows)
    return torch.stack(pooled) @ p["decoder.weight"].T + p["decoder.bias"]


def crf_loss(p: Tensors, emissions: torch.Tensor, tags: torch.Tensor) -> torch.Tensor:
    """Of one text, in log space: emissions (n, N), tags (n,)."""
    start, end, transitions = (
        p[f"crf.{name}"] for name in ("start_transitions", "end_transitions", "transitions")
    )
    score = start[tags[0]] + end[tags[-1]] + transitions[tags[:-1], tags[1:]].sum()
    score = score + emissions[torch.arange(len(tags)), tags].sum()
    alpha = start + emissions[0]
    for row in emissions[1:]:
        alpha = torch.logsumexp(alpha[:, None] + transitions, 0) + row
    return torch.logsumexp(alpha + end, 0) - score


def rewrite(
    p: Tensors, cell: str, nonlinearity: str, y: torch.Tensor, previous: torch.Tensor
) -> torch.Tensor:
    """The logits (T', B, END + 1) after each of the previous characters, of which START is zero."""
    options = {"nonlinearity": nonlinearity} if cell == "rnn" else {}
    kind = {"lstm": nn.LSTMCell, "gru": nn.GRUCell, "rnn": nn.RNNCell}[cell]
    layer = kind(D + H, H, **options).to(y.dtype)
    own = {
        name.removeprefix("target.rnn.").removesuffix("_l0"): t
        for name, t in p.items()
        if name.startswith("target.rnn.")
    }
    last = torch.stack([torch.cat([y[n - 1, b, :H], y[0, b, H:]]) for b, n in enumerate(LENGTHS)])
    start = torch.tanh(last @ p["target.start.weight"].T + p["target.start.bias"]).split(H, 1)
    state = start if cell == "lstm" else start[0]
    keys = y @ p["attention.key.weight"].T + p["attention.key.bias"]
    behind = torch.arange(len(y))[:, None] >= torch.tensor(LENGTHS)
    fed, logits = torch.zeros(len(LENGTHS), H, dtype=y.dtype), []
    table = torch.cat([p["target.embedding.weight"], torch.zeros(2, D, dtype=y.dtype)])
    for now in previous:
        state = torch.func.functional_call(layer, own, (torch.cat([table[now], fed], 1), state))
        h = state[0] if cell == "lstm" else state
        if "attention.query.weight" in p:
            scores = torch.tanh(h @ p["attention.query.weight"].T + keys) @ p["attention.vector"]
        else:
            scores = (h * keys).sum(-1)
        weights = torch.softmax(scores.masked_fill(behind, -math.inf), 0)
        context = (weights[..., None] * y).sum(0)
        fed = torch.cat([context, h], 1) @ p["attention.output.weight"].T + p["attention.output.bias"]
        fed = torch.tanh(fed)
        logits.append(fed @ p["decoder.weight"].T + p["decoder.bias"])
    return torch.stack(logits)


def forward(head: str, cell: str, nonlinearity: str, p: Tensors, given: dict[str, Any]) -> Any:
    """The logits, and the loss as a weighted mean."""
    x, targets, weights = (torch.from_numpy(given[name]) for name in ("x", "targets", "weights"))
    weights = weights.to(p["decoder.bias"].dtype)
    y = encode(p, cell, nonlinearity, x.long())
    if head == "classes":
        logits = classes(p, y)
        losses = -(targets.to(logits.dtype) * torch.log_softmax(logits, -1)).sum(-1)
        return logits, (weights * losses).sum() / weights.sum()
    if head.startswith("rewrite"):
        logits = rewrite(p, cell, nonlinearity, y, torch.from_numpy(given["previous"]).long())
    else:
        logits = y @ p["decoder.weight"].T + p["decoder.bias"]
    if head == "tags":
        losses = torch.stack(
            [crf_loss(p, logits[:n, b], targets[:n, b].long()) for b, n in enumerate(LENGTHS)]
        )
        return logits, (weights * losses).sum() / (weights * torch.tensor(LENGTHS)).sum()
    losses = -torch.log_softmax(logits, -1).gather(-1, targets.long()[..., None])[..., 0]
    return logits, (weights * losses).sum() / weights.sum()


def texts(head: str, rng: np.random.Generator) -> dict[str, Any]:
    T, B = max(LENGTHS), len(LENGTHS)
    given: dict[str, Any] = {"x": rng.integers(0, V, (T, B)).astype(np.int32)}
    if head == "classes":
        return given | {"targets": rng.dirichlet(np.ones(N), B), "weights": rng.uniform(0.5, 2, B)}
    if head == "tags":
        targets = rng.integers(0, N, (T, B)).astype(np.int32)
        return given | {"targets": targets, "weights": rng.uniform(0.5, 2, B)}
    lengths, most = (LENGTHS, N) if head == "labels" else (TARGET_LENGTHS, END)
    T = max(lengths)
    targets = rng.integers(0, most, (T, B)).astype(np.int32)
    inside = np.arange(T)[:, None] < np.array(lengths)
    given |= {"targets": targets, "weights": rng.uniform(0.5, 2, (T, B)) * inside}
    if head != "labels":
        targets[np.array(lengths) - 1, np.arange(B)] = END
        start = np.full((1, B), END + 1, np.int32)
        given["previous"] = np.concatenate([start, targets[:-1]])
    return given


def record(head: str, cell: str, nonlinearity: str, rng: np.random.Generator) -> dict[str, Any]:
    """Float32 logits; float64 loss and gradients."""
    scale = np.float32(2 / math.sqrt(H))
    tensors = {
        name: rng.uniform(-1, 1, shape).astype(np.float32) * scale
        for name, shape in shapes(head, cell).items()
    }
    given, found = texts(head, rng), {}
    with torch.no_grad():
        single = {name: torch.from_numpy(tensor) for name, tensor in tensors.items()}
        found["logits"] = forward(head, cell, nonlinearity, single, given)[0].numpy()
    leaves = {name: tensor.double().requires_grad_() for name, tensor in single.items()}
    loss = forward(head, cell, nonlinearity, leaves, given)[1]
    loss.backward()
    found["loss"] = np.float64(loss.item())
    found |= {f"gradients/{name}": leaf.grad.numpy() for name, leaf in leaves.items()}
    return given | found | {f"tensors/{name}": tensor for name, tensor in tensors.items()}


def configurations() -> Iterator[tuple[str, str, str]]:
    for head in HEADS:
        for cell, nonlinearity in CELLS:
            yield head, cell, nonlinearity


def main() -> None:
    torch.set_num_threads(1)
    FOLDER.mkdir(exist_ok=True)
    for number, (head, cell, nonlinearity) in enumerate(configurations()):
        config = {"head": head, "cell": cell, "nonlinearity": nonlinearity}
        sizes = {"V": V, "D": D, "H": H, "L": L, "N": END + 1 if head.startswith("rewrite") else N}
        recording = record(head, cell, nonlinearity, np.random.default_rng([SEED, number]))
        name = f"{head}-{cell}" + (f"-{nonlinearity}" if cell == "rnn" else "")
        lengths = {"lengths": np.array(LENGTHS), "target_lengths": np.array(TARGET_LENGTHS)}
        np.savez_compressed(FOLDER / f"{name}.npz", config=json.dumps(config | sizes), **lengths, **recording)
        print(name)


if __name__ == "__main__":
    main()
