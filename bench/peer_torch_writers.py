"""Networks that look back, echo and remember, as a knowledgeable user writes them in PyTorch.

python bench/peer_torch_writers.py facts                       PyTorch's version
python bench/peer_torch_writers.py KIND train|write SIZES      serves characters a second

SIZES is JSON: see writing_speed.SIZES. `writing_speed.py` starts it; it needs PyTorch and nothing else.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - as everybody calls it
from peer_torch_readers import Memory
from serve import quickest, say, serve
from torch import Tensor, nn

TEMPERATURE, WRITTEN = 0.8, 100  # characters of a measurement
WARM_UP = 0.5  # seconds


class Span(nn.Module):
    """An LSTM that attends to its last S outputs; each stands for the one that came after it."""

    def __init__(self, sizes: dict[str, int]) -> None:
        super().__init__()
        V, H, L, self.S = (sizes[name] for name in ("V", "H", "L", "S"))
        self.A = min(H, 64)
        self.embedding, self.rnn = nn.Embedding(V, H), nn.LSTM(H, H, L)
        self.query, self.key = nn.Linear(H, self.A), nn.Linear(H, self.A)
        self.output, self.lag = nn.Linear(H, H), nn.Parameter(torch.zeros(self.S))
        self.decoder = nn.Linear(H, V)

    def begin(self, B: int) -> Any:
        H = self.rnn.hidden_size
        zero = torch.zeros(self.rnn.num_layers, B, H)
        return (zero, zero), torch.zeros(B, self.S, H)

    def forward(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Ids (T, B) -> logits (T, B, V), and the state: that of the layers, and the last S outputs."""
        layers, past = state
        h, layers = self.rnn(self.embedding(x), layers)
        h = h.transpose(0, 1)
        T = h.shape[1]
        past = torch.cat([past, h], 1)  # (B, S + T, H)
        keys, queries = self.key(past[:, :-1]), self.query(h)
        # Output t, at S + t, attends to those from t to S + t - 1, which are 1 to S steps before.
        lags = self.S + torch.arange(T)[:, None] - torch.arange(self.S + T - 1)
        inside = (lags >= 1) & (lags <= self.S)
        bias = torch.where(inside, self.lag[(lags - 1).clamp(0, self.S - 1)], float("-inf"))
        scores = queries @ keys.transpose(1, 2) * self.A**-0.5 + bias
        weights = torch.softmax(F.pad(scores, (1, 0)), -1)[:, :, 1:]  # the first is of nothing
        y = h + self.output(weights @ past[:, 1:])
        return self.decoder(y.transpose(0, 1)), (layers, past[:, -self.S :])

    def writer(self) -> Callable[[Tensor], Tensor]:
        """What tells the logits (1, V) of the next character of one text; keys are kept."""
        H, L, S = self.rnn.hidden_size, self.rnn.num_layers, self.S
        cells = [nn.LSTMCell(H, H) for _ in range(L)]
        states = [(torch.zeros(1, H), torch.zeros(1, H)) for _ in cells]
        keys, told, n = torch.zeros(2 * S, self.A), torch.zeros(2 * S, H), 0
        lags = self.lag.detach().flip(0)

        def step(ids: Tensor) -> Tensor:
            nonlocal n
            y = self.embedding(ids)
            for k, cell in enumerate(cells):
                states[k] = cell(y, states[k])
                y = states[k][0]
            if n == 2 * S:  # the last S move to the front
                keys[:S], told[:S], n = keys[S:].clone(), told[S:].clone(), S
            first = max(0, n - S)
            if n:
                told[n - 1] = y[0]
                scores = keys[first:n] @ self.query(y)[0] * self.A**-0.5 + lags[S - n + first :]
                weights = torch.softmax(F.pad(scores, (1, 0)), 0)[1:]
                attended = y + self.output(weights @ told[first:n])
            else:
                attended = y + self.output.bias
            keys[n] = self.key(y)[0]
            n += 1
            return self.decoder(attended)

        return step


class Echo:
    """A reservoir whose read-out learns by steps of Newton's method with a bound on the curvature."""

    def __init__(self, sizes: dict[str, int]) -> None:
        V, N = sizes["V"], sizes["N"]
        self.V, self.N = V, N
        places = torch.randint(N, (4, N))
        self.weights = 0.4 * torch.randn(N, 4)
        self.places = places.t().contiguous()
        rows = torch.arange(N).repeat_interleave(4)
        matrix = torch.sparse_coo_tensor(
            torch.stack([rows, self.places.flatten()]), self.weights.flatten(), (N, N)
        )
        self.sparse = matrix.coalesce().to_sparse_csr()
        self.table, self.weight, self.bias = torch.randn(V, N), torch.zeros(V, N), torch.zeros(V)
        self.momentum = torch.zeros(V, N)
        states = torch.tanh(torch.randn(4 * N, N))
        self.mean = states.mean(0)
        self.inverse = torch.linalg.inv(torch.cov(states.t()) + 0.1 * torch.eye(N))

    def states(self, x: Tensor, h: Tensor) -> Tensor:
        """The states (T, B, N) after characters (T, B), from that before, (B, N).

        A sparse product is quicker than a dense one (4 times) and than gathering what is read.
        """
        found = torch.empty(*x.shape, self.N)
        for t, ids in enumerate(x):
            h = torch.tanh(torch.addmm(self.table[ids].t(), self.sparse, h.t())).t()
            found[t] = h
        return found

    def step(self, x: Tensor, y: Tensor, h: Tensor) -> Tensor:
        """The read-out learns from a window. Returns the state behind it."""
        states = self.states(x, h)
        rows = states.view(-1, self.N)
        p = torch.softmax(torch.addmm(self.bias, rows, self.weight.t()), 1)
        p[torch.arange(len(p)), y.flatten()] -= 1
        p /= len(p)
        d_bias = p.sum(0)
        direction = (p.t() @ rows - torch.outer(d_bias, self.mean)) @ self.inverse
        self.momentum.mul_(0.9).add_(direction, alpha=2)
        self.weight.sub_(self.momentum, alpha=0.2)
        self.bias.sub_(d_bias - direction @ self.mean, alpha=0.2)
        return states[-1]

    def writer(self) -> Callable[[Tensor], Tensor]:
        """The same; of one text, places are gathered, which is quicker than a sparse product."""
        h = torch.zeros(self.N)

        def step(ids: Tensor) -> Tensor:
            nonlocal h
            h = torch.tanh(self.table[ids[0]] + (self.weights * h[self.places]).sum(1))
            return torch.addmv(self.bias, self.weight, h)[None]

        return step


class Remembering(Memory):
    """A memory that tells the next character after each."""

    def __init__(self, sizes: dict[str, int]) -> None:
        super().__init__({"V": sizes["V"], "D": 32, "N": sizes["V"]})

    def forward(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Ids (T, B) -> logits (T, B, V), and the state."""
        outputs = []
        for now in self.embedding(x):
            state, output = self.after(now, state)
            outputs.append(output)
        return self.decoder(torch.stack(outputs)), state

    def writer(self) -> Callable[[Tensor], Tensor]:
        state = self.begin(1)

        def step(ids: Tensor) -> Tensor:
            nonlocal state
            state, output = self.after(self.embedding(ids), state)
            logits: Tensor = self.decoder(output)
            return logits

        return step


def detached(state: Any) -> Any:
    return state.detach() if isinstance(state, Tensor) else tuple(map(detached, state))


def training(kind: str, sizes: dict[str, int]) -> tuple[Callable[[], None], int]:
    """A step of training that goes on where the last one ended, and its characters."""
    B = sizes["B_echo" if kind == "echo" else "B"]
    ids = torch.randint(sizes["V"], (sizes["T"] + 1, B))
    x, y = ids[:-1], ids[1:]
    if kind == "echo":
        echo = Echo(sizes)
        h = torch.zeros(B, sizes["N"])

        @torch.inference_mode()
        def solve() -> None:
            nonlocal h
            h = echo.step(x, y, h)

        return solve, x.numel()
    model = Span(sizes) if kind == "span" else Remembering(sizes)
    adam = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.99), fused=True)
    state = model.begin(B)

    def step() -> None:
        nonlocal state
        adam.zero_grad(set_to_none=True)
        logits, after = model(x, state)
        F.cross_entropy(logits.flatten(0, 1), y.flatten()).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        adam.step()
        state = detached(after)

    return step, x.numel()


def writing(kind: str, sizes: dict[str, int]) -> tuple[Callable[[], None], int]:
    """One text, which goes on, and its characters."""
    made: dict[str, Any] = {"span": Span, "echo": Echo, "memory": Remembering}
    tell, ids = made[kind](sizes).writer(), torch.zeros(1, dtype=torch.long)

    @torch.inference_mode()
    def write() -> None:
        nonlocal ids
        for _ in range(WRITTEN):
            ids = torch.multinomial(F.softmax(tell(ids) / TEMPERATURE, -1), 1)[0]

    return write, WRITTEN


def main(kind: str, mode: str = "", sizes: str = "{}") -> None:
    if kind == "facts":
        say(version=torch.__version__)
        return
    torch.manual_seed(1)
    once, characters = (training if mode == "train" else writing)(kind, json.loads(sizes))
    quickest(WARM_UP, once)
    serve(lambda seconds: characters / quickest(seconds, once))


if __name__ == "__main__":
    main(*sys.argv[1:])
