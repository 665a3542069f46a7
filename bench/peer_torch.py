"""The same network as a knowledgeable user writes it in PyTorch, as a measured process; `speed.py` starts it.

python bench/peer_torch.py facts                                  PyTorch's version
python bench/peer_torch.py train --corpus FILE --cell lstm ...    serves training, in characters a second
python bench/peer_torch.py sample --layers 2 --hidden 128 ...     serves writing, in characters a second
python bench/peer_torch.py first --layers 2 --hidden 128          writes one character
python bench/peer_torch.py peak [--bf16]                          serves the best product, GFLOP/s

Needs PyTorch (a CPU build will do) and nothing else. It runs on as many threads as OMP_NUM_THREADS says.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - as everybody calls it
from serve import quickest, say, serve
from torch import Tensor, nn

SIDE = 3072  # as in peer_numpy.py
TEMPERATURE = 0.8
WARM_UP = 0.5  # seconds
RECURRENT: dict[str, Any] = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}


class LM(nn.Module):
    """Embedding, recurrent layers, decoder. One module for all layers where nothing stands between them."""

    def __init__(self, V: int, a: argparse.Namespace) -> None:
        super().__init__()
        self.residual, self.dropout, H = a.residual, a.dropout, a.hidden
        self.embedding = nn.Embedding(V, H)
        kind = RECURRENT[a.cell]
        if a.norm or a.residual:
            self.rnns = nn.ModuleList(kind(H, H) for _ in range(a.layers))
            self.norms = nn.ModuleList(nn.LayerNorm(H) if a.norm else nn.Identity() for _ in range(a.layers))
        else:
            between = a.dropout if a.layers > 1 else 0.0
            self.rnns = nn.ModuleList([kind(H, H, a.layers, dropout=between)])
            self.norms = nn.ModuleList([nn.Identity()])
        self.decoder = nn.Linear(H, V)
        for name, p in self.rnns.named_parameters():
            if "weight_hh" in name:
                for gate in p.data.split(H):
                    nn.init.orthogonal_(gate)
            elif "weight_ih" in name:
                nn.init.xavier_uniform_(p.data)

    def forward(self, x: Tensor, states: list[Any]) -> tuple[Tensor, list[Any]]:
        """Ids (T, B) and a state for each module -> logits (T, B, V) and the new states."""
        y, new = self.embedding(x), []
        for rnn, norm, state in zip(self.rnns, self.norms, states, strict=True):
            z, state = rnn(y, state)
            new.append(state)
            if not isinstance(norm, nn.Identity):
                z = norm(z.float())
            y = F.dropout(z + y if self.residual else z, self.dropout, self.training)
        return self.decoder(y), new


def training(a: argparse.Namespace) -> Callable[[float], float]:
    """What trains for some seconds and returns characters a second. The first step is done."""
    text = a.corpus.read_text(encoding="utf-8")
    ids_of = {c: i for i, c in enumerate(sorted(set(text)))}
    ids, V, B, T = torch.tensor([ids_of[c] for c in text]), len(ids_of), a.batch, a.seq
    n = (len(ids) - 1) // B
    X = ids[: n * B].view(B, n).t().contiguous()  # (n, B): every column a stream
    Y = ids[1 : n * B + 1].view(B, n).t().contiguous()
    model = LM(V, a)
    parameters = list(model.parameters())
    groups = [
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": 0.01},
        {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
    ]
    adam = torch.optim.AdamW(groups, lr=2e-3, betas=(0.9, 0.99), fused=True)
    autocast = torch.autocast("cpu", dtype=torch.bfloat16, enabled=a.bf16)
    layers = a.layers if len(model.rnns) == 1 else 1

    def fresh() -> list[Any]:
        zero = torch.zeros(layers, B, a.hidden)
        return [(zero, zero) if a.cell == "lstm" else zero for _ in model.rnns]

    def detached(state: Any) -> Any:
        return tuple(map(detached, state)) if isinstance(state, tuple) else state.detach().float()

    states, at = fresh(), 0

    def step() -> None:
        nonlocal states, at
        if at + T > n:
            states, at = fresh(), 0
        adam.zero_grad(set_to_none=True)
        with autocast:
            logits, new = model(X[at : at + T], states)
        loss = F.cross_entropy(logits.float().view(-1, V), Y[at : at + T].reshape(-1))
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0, foreach=True)
        adam.step()
        states, at = [detached(state) for state in new], at + T
        loss.item()

    def measure(seconds: float) -> float:
        steps, begun = 0, time.perf_counter()
        while (now := time.perf_counter()) - begun < seconds or not steps:
            step()
            steps += 1
        return steps * B * T / (now - begun)

    step()
    return measure


def run_train(a: argparse.Namespace) -> None:
    measure = training(a)
    say(event="step")
    measure(WARM_UP)
    serve(measure)


def writing(a: argparse.Namespace) -> Callable[[], Tensor]:
    """What writes the next character of each text, (B,): with nn.LSTM, or with one nn.LSTMCell a layer."""
    model, ids, states = LM(a.vocabulary, a).eval(), torch.zeros(1, a.count, dtype=torch.long), [None]
    cells = [nn.LSTMCell(a.hidden, a.hidden) for _ in range(a.layers)]
    zero = torch.zeros(a.count, a.hidden)
    memory = [(zero, zero)] * a.layers

    def choose(logits: Tensor) -> Tensor:
        return torch.multinomial(F.softmax(logits / TEMPERATURE, -1), 1).view(1, -1)

    @torch.inference_mode()
    def with_module() -> Tensor:
        nonlocal ids, states
        logits, states = model(ids, states)
        ids = choose(logits[-1])
        return ids[0]

    @torch.inference_mode()
    def with_cells() -> Tensor:
        nonlocal ids
        y = model.embedding(ids[0])
        for k, cell in enumerate(cells):
            memory[k] = cell(y, memory[k])
            y = memory[k][0]
        ids = choose(model.decoder(y))
        return ids[0]

    return with_cells if a.cells else with_module


def run_sample(a: argparse.Namespace) -> None:
    step = writing(a)

    def measure(seconds: float) -> float:
        steps, begun = 0, time.perf_counter()
        while (now := time.perf_counter()) - begun < seconds or not steps:
            step()
            steps += 1
        return steps * a.count / (now - begun)

    measure(WARM_UP)
    serve(measure)


def run_first(a: argparse.Namespace) -> None:
    sys.stdout.write(chr(ord("!") + int(writing(a)()[0])))
    sys.stdout.flush()


def run_peak(a: argparse.Namespace) -> None:
    kind = torch.bfloat16 if a.bf16 else torch.float32
    first, second = (torch.rand(SIDE, SIDE).to(kind) for _ in range(2))
    result = torch.empty_like(first)

    def product() -> None:
        torch.mm(first, second, out=result)

    product()
    serve(lambda seconds: 2 * SIDE**3 / quickest(seconds, product) / 1e9)


def run_facts(_: argparse.Namespace) -> None:
    say(version=torch.__version__)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("mode", choices=list(MODES))
    parser.add_argument("--corpus", type=Path)
    parser.add_argument("--cell", choices=list(RECURRENT), default="lstm")
    for name, default in (
        ("layers", 2), ("hidden", 128), ("batch", 50), ("seq", 50), ("vocabulary", 65), ("count", 1)
    ):  # fmt: skip
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--dropout", type=float, default=0.0)
    for name in ("norm", "residual", "bf16", "cells"):
        parser.add_argument(f"--{name}", action="store_true")
    torch.manual_seed(1)
    arguments = parser.parse_args()
    MODES[arguments.mode](arguments)


MODES = {
    "facts": run_facts, "train": run_train, "sample": run_sample, "first": run_first, "peak": run_peak
}  # fmt: skip

if __name__ == "__main__":
    main()
