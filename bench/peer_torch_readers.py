"""The networks that read, as a knowledgeable user writes them in PyTorch; `reading_speed.py` starts it.

python bench/peer_torch_readers.py facts                       PyTorch's version
python bench/peer_torch_readers.py KIND train|read SIZES       serves characters of sources a second

SIZES is JSON: see reading_speed.SIZES. Needs PyTorch and nothing else.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - as everybody calls it
from serve import quickest, say, serve
from torch import Tensor, nn

WARM_UP = 0.5  # seconds


class Encoder(nn.Module):
    """Both directions: ids (T, B) -> (T, B, 2H)."""

    def __init__(self, V: int, D: int, H: int, L: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(V, D)
        self.rnn = nn.LSTM(D, H, L, bidirectional=True)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.rnn(self.embedding(x))[0]
        return y


class Reader(nn.Module):
    """An encoder and a read-out; the loss of a batch, and what is read of one."""

    def __init__(self, sizes: dict[str, int]) -> None:
        super().__init__()
        self.H, self.N = sizes["H"], sizes["N"]
        self.encoder = Encoder(sizes["V"], sizes["D"], self.H, sizes["L"])

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        """Ids (T, B) and targets (T, B)."""
        raise NotImplementedError

    def read(self, x: Tensor) -> Tensor:
        """What a user wants to know."""
        raise NotImplementedError


class Restorer(Reader):
    """A label of each character."""

    def __init__(self, sizes: dict[str, int]) -> None:
        super().__init__(sizes)
        self.decoder = nn.Linear(2 * self.H, self.N)

    def read(self, x: Tensor) -> Tensor:
        logits: Tensor = self.decoder(self.encoder(x))
        return logits

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(self.read(x).flatten(0, 1), y.flatten())


class Classifier(Reader):
    """A class of each text, pooled by attention."""

    def __init__(self, sizes: dict[str, int]) -> None:
        super().__init__(sizes)
        self.key, self.vector = nn.Linear(2 * self.H, self.H), nn.Parameter(torch.randn(self.H))
        self.decoder = nn.Linear(2 * self.H, self.N)

    def read(self, x: Tensor) -> Tensor:
        y = self.encoder(x)
        weights = torch.softmax(torch.tanh(self.key(y)) @ self.vector, 0)
        logits: Tensor = self.decoder((weights[..., None] * y).sum(0))
        return logits

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(self.read(x), y[0])


class Tagger(Restorer):
    """Labels with a CRF, as pytorch-crf computes it: all texts at once, step by step, in log space."""

    def __init__(self, sizes: dict[str, int]) -> None:
        super().__init__(sizes)
        self.transitions = nn.Parameter(torch.zeros(self.N, self.N))
        self.start, self.end = (nn.Parameter(torch.zeros(self.N)) for _ in range(2))

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        emissions = super().read(x)
        score = self.start[y[0]] + self.end[y[-1]] + self.transitions[y[:-1], y[1:]].sum(0)
        score = score + emissions.gather(2, y[..., None])[..., 0].sum(0)
        alpha = self.start + emissions[0]
        for row in emissions[1:]:
            alpha = torch.logsumexp(alpha[:, :, None] + self.transitions, 1) + row
        return (torch.logsumexp(alpha + self.end, 1) - score).mean() / len(x)

    def read(self, x: Tensor) -> Tensor:
        """The best labels (T, B)."""
        emissions = super().read(x)
        score, back = self.start + emissions[0], []
        for row in emissions[1:]:
            score, before = (score[:, :, None] + self.transitions).max(1)
            score = score + row
            back.append(before)
        labels = [(score + self.end).argmax(1)]
        for before in reversed(back):
            labels.append(before.gather(1, labels[-1][:, None])[:, 0])
        return torch.stack(labels[::-1])


class Rewriter(Reader):
    """A decoder with additive attention and input feeding."""

    def __init__(self, sizes: dict[str, int]) -> None:
        super().__init__(sizes)
        H, D, N = self.H, sizes["D"], self.N
        self.embedding = nn.Embedding(N + 1, D)
        self.cell, self.start = nn.LSTMCell(D + H, H), nn.Linear(2 * H, 2 * H)
        self.key, self.query = nn.Linear(2 * H, H), nn.Linear(H, H, bias=False)
        self.vector = nn.Parameter(torch.randn(H))
        self.output, self.decoder = nn.Linear(3 * H, H), nn.Linear(H, N)

    def begin(self, x: Tensor) -> tuple[Tensor, Tensor, Any, Tensor]:
        y, H = self.encoder(x), self.H
        ends = torch.cat([y[-1, :, :H], y[0, :, H:]], 1)
        state = torch.tanh(self.start(ends)).split(H, 1)
        return y, self.key(y), state, torch.zeros(x.shape[1], H)

    def step(self, y: Tensor, keys: Tensor, now: Tensor, state: Any, fed: Tensor) -> tuple[Any, Tensor]:
        state = self.cell(torch.cat([now, fed], 1), state)
        weights = torch.softmax(torch.tanh(self.query(state[0]) + keys) @ self.vector, 0)
        context = (weights[..., None] * y).sum(0)
        return state, torch.tanh(self.output(torch.cat([context, state[0]], 1)))

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        source, keys, state, fed = self.begin(x)
        previous = self.embedding(torch.cat([torch.full_like(y[:1], self.N), y[:-1]]))
        outputs = []
        for now in previous:
            state, fed = self.step(source, keys, now, state, fed)
            outputs.append(fed)
        return F.cross_entropy(self.decoder(torch.stack(outputs)).flatten(0, 1), y.flatten())

    def read(self, x: Tensor) -> Tensor:
        """The most probable characters, one after another, as many as the source has."""
        source, keys, state, fed = self.begin(x)
        previous, written = torch.full((x.shape[1],), self.N), []
        for _ in range(len(x)):
            state, fed = self.step(source, keys, self.embedding(previous), state, fed)
            previous = torch.log_softmax(self.decoder(fed), 1).argmax(1)
            written.append(previous)
        return torch.stack(written)


class Memory(nn.Module):
    """A neural Turing machine: an LSTM of 100 units, a memory of 128 x 20; it answers without input."""

    def __init__(self, sizes: dict[str, int]) -> None:
        super().__init__()
        self.H, self.R, self.M = 100, 128, 20
        D, N = sizes["D"], sizes["N"]
        self.embedding, self.cell = nn.Embedding(sizes["V"], D), nn.LSTMCell(D + self.M, self.H)
        self.heads = nn.Linear(self.H, 4 * self.M + 12)
        self.decoder = nn.Linear(self.H + self.M, N)

    def look(self, told: Tensor, before: Tensor, memory: Tensor) -> Tensor:
        """The weights of both heads (B, 2, R), from what they are told (B, 2, M + 6)."""
        key, strength, gate, shifts, sharpness = told.split([self.M, 1, 1, 3, 1], 2)
        alike = F.normalize(key, dim=2) @ F.normalize(memory, dim=2).transpose(1, 2)
        gate = torch.sigmoid(gate)
        now = gate * torch.softmax(F.softplus(strength) * alike, 2) + (1 - gate) * before
        left, stay, right = torch.softmax(shifts, 2).split(1, 2)
        moved = left * now.roll(1, 2) + stay * now + right * now.roll(-1, 2)
        return torch.softmax((1 + F.softplus(sharpness)) * torch.log(moved + 1e-30), 2)

    def follow(self, x: Tensor) -> Tensor:
        """The outputs (2 T, B, H + M), the second half without input."""
        T, B = x.shape
        inputs, nothing = self.embedding(x), torch.zeros(B, self.embedding.embedding_dim)
        state, outputs = self.begin(B), []
        for t in range(2 * T):
            state, output = self.after(inputs[t] if t < T else nothing, state)
            outputs.append(output)
        return torch.stack(outputs)

    def begin(self, B: int) -> Any:
        """The state of the controller, what was read, the memory, and where the heads look."""
        weights = torch.zeros(B, 2, self.R)
        weights[:, :, 0] = 1
        state, read = (torch.zeros(B, self.H), torch.zeros(B, self.H)), torch.zeros(B, self.M)
        return state, read, torch.full((B, self.R, self.M), 1e-6), weights

    def after(self, x: Tensor, state: Any) -> tuple[Any, Tensor]:
        """The state after a step that reads x (B, D), and the output (B, H + M)."""
        controller, read, memory, weights = state
        controller = self.cell(torch.cat([x, read], 1), controller)
        told, both = self.heads(controller[0]), 2 * (self.M + 6)
        weights = self.look(told[:, :both].view(len(x), 2, -1), weights, memory)
        erase, add = told[:, both:].split(self.M, 1)
        read = (weights[:, :1] @ memory)[:, 0]
        writing = weights[:, 1, :, None]
        memory = memory * (1 - writing * torch.sigmoid(erase)[:, None])
        memory = memory + writing * torch.tanh(add)[:, None]
        return (controller, read, memory, weights), torch.cat([controller[0], read], 1)

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        logits = self.decoder(self.follow(x)[len(x) :])
        return F.cross_entropy(logits.flatten(0, 1), y.flatten())

    def read(self, x: Tensor) -> Tensor:
        return torch.log_softmax(self.decoder(self.follow(x)[len(x) :]), 2).argmax(2)


KINDS = {
    "classifier": Classifier, "restorer": Restorer, "tagger": Tagger, "rewriter": Rewriter, "memory": Memory,
}  # fmt: skip


def work(kind: str, mode: str, sizes: dict[str, int]) -> Callable[[], object]:
    """One step of training, or one batch that is read."""
    torch.manual_seed(1)
    model = KINDS[kind](sizes)
    x = torch.randint(sizes["V"], (sizes["T"], sizes["B"]))
    y = torch.randint(sizes["N"], (sizes["T"], sizes["B"]))
    adam = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.99), fused=True)

    def step() -> None:
        adam.zero_grad(set_to_none=True)
        model.loss(x, y).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        adam.step()

    def read() -> Tensor:
        with torch.inference_mode():
            return model.read(x)

    return step if mode == "train" else read


def main(kind: str, mode: str = "", sizes: str = "{}") -> None:
    if kind == "facts":
        say(version=torch.__version__)
        return
    values = json.loads(sizes)
    once = work(kind, mode, values)
    quickest(WARM_UP, once)
    serve(lambda seconds: values["T"] * values["B"] / quickest(seconds, once))


if __name__ == "__main__":
    main(*sys.argv[1:])
