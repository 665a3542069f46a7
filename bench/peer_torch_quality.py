"""PyTorch's best recipe as a measured process: it learns a text under a clock; `quality.py` starts it.

python bench/peer_torch_quality.py --train FILE --validation FILE --seconds 180 --dropout 0.2 ...

Layer norm and a skip connection around each LSTM, orthogonal recurrent weights, a forget bias of 1, AdamW
with a cosine, clipping; the best model on the validation text is kept. It prints JSON lines, as
`charrnn train --json` does: "eval" while it trains, "end" when its clock is over, and "done" with the loss of
the best model. That is measured after the clock, as charrnn does: in one pass from a zero state.

The clock begins with the process, so that PyTorch's import is in it, as everything is in charrnn's.
"""

from __future__ import annotations

import time

BEGUN = time.perf_counter()

import argparse  # noqa: E402
import math  # noqa: E402
from collections.abc import Callable  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402, N812
from peer_torch import LM, RECURRENT  # noqa: E402
from serve import say  # noqa: E402
from torch import Tensor, nn  # noqa: E402

REPORT_SECONDS = 1.0
STREAMS = 60  # of the validation text, side by side while training; one would take too much of the clock
SHORTEST_STREAM = 500  # characters
OVERLAP = 400  # characters before a stream that its state is warmed up on
CHUNK = 200  # characters of each stream in a call
CLEARLY_WORSE, PATIENCE = 1.01, 5  # of charrnn's early stop


def initialise(model: LM, cell: str, H: int) -> None:
    """What the constructor leaves out: a forget bias of 1, no other bias, a smaller embedding."""
    with torch.no_grad():
        for name, p in model.rnns.named_parameters():
            if "bias" in name:
                p.zero_()
                if cell == "lstm" and "bias_ih" in name:
                    p[H : 2 * H] = 1.0
        model.embedding.weight.mul_(0.5)


def rate(progress: float) -> float:
    """Of the peak: 3 % of warm-up, then a cosine to 1 %."""
    if progress < 0.03:
        return progress / 0.03
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min((progress - 0.03) / 0.97, 1.0)))


@torch.no_grad()
def summed_loss(model: LM, ids: Tensor, starts: list[int], width: int, overlap: int) -> float:
    """Nats over ids[s : s + width] for each s of `starts`, side by side, each after `overlap` characters."""
    model.eval()
    states: list[Any] = [None] * len(model.rnns)
    at, total = torch.tensor(starts), 0.0
    for first in range(-overlap, width, CHUNK):
        places = torch.arange(first, min(first + CHUNK, width))
        targets = places[:, None] + at
        logits, states = model(ids[targets - 1], states)
        losses = F.cross_entropy(logits.float().flatten(0, 1), ids[targets].flatten(), reduction="none")
        total += float(losses.view(targets.shape)[places >= 0].double().sum())
    model.train()
    return total


def quick_loss(model: LM, ids: Tensor, start: int) -> float:
    """About the loss over ids[start:], nats a character: in streams, each warmed up on what precedes it."""
    count = len(ids) - start
    streams = max(1, min(STREAMS, count // SHORTEST_STREAM))
    width, overlap = count // streams, min(OVERLAP, start - 1)
    starts = [start + k * width for k in range(streams)]
    return summed_loss(model, ids, starts, width, overlap) / (width * streams)


def exact_loss(model: LM, ids: Tensor, start: int) -> float:
    """The loss over ids[start:], nats a character, in one pass from a zero state."""
    count = len(ids) - start
    return summed_loss(model, ids, [start], count, 0) / count


class Training:
    """The steps of a run: `ids[:count]` in B streams, windows of T, states carried over."""

    def __init__(self, model: LM, ids: Tensor, count: int, a: argparse.Namespace) -> None:
        while a.batch > 1 and count // a.batch < 2 * a.seq:
            a.batch //= 2
        self.model, self.a = model, a
        B = a.batch
        self.n = (count - 1) // B
        self.x = ids[: self.n * B].view(B, self.n).t().contiguous()  # (n, B): every column a stream
        self.y = ids[1 : self.n * B + 1].view(B, self.n).t().contiguous()
        self.parameters = list(model.parameters())
        decays = [[p for p in self.parameters if (p.dim() > 1) is matrix] for matrix in (True, False)]
        groups = [
            {"params": group, "weight_decay": a.weight_decay if matrix else 0.0}
            for group, matrix in zip(decays, (True, False), strict=True)
        ]
        self.adam = torch.optim.AdamW(groups, lr=a.lr, betas=(0.9, 0.99), fused=True)
        self.autocast = torch.autocast("cpu", dtype=torch.bfloat16, enabled=a.bf16)
        self.at, self.states = 0, self._fresh()

    def _fresh(self) -> list[Any]:
        a = self.a
        layers = a.layers if len(self.model.rnns) == 1 else 1
        zero = torch.zeros(layers, a.batch, a.hidden)
        return [(zero, zero) if a.cell == "lstm" else zero for _ in self.model.rnns]

    def step(self, learning_rate: float) -> float:
        """One window; its loss."""
        for group in self.adam.param_groups:
            group["lr"] = learning_rate
        T = min(self.a.seq, self.n)
        if self.at + T > self.n:  # elsewhere than in the epoch before
            self.at = int(torch.randint(min(T, self.n - T + 1), ()))
            self.states = self._fresh()
        window = slice(self.at, self.at + T)
        self.adam.zero_grad(set_to_none=True)
        with self.autocast:
            logits, states = self.model(self.x[window], self.states)
        loss = F.cross_entropy(logits.float().flatten(0, 1), self.y[window].flatten())
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, self.a.clip, foreach=True)
        self.adam.step()
        self.states, self.at = [_detached(state) for state in states], self.at + T
        return loss.item()


def _detached(state: Any) -> Any:
    return tuple(map(_detached, state)) if isinstance(state, tuple) else state.detach().float()


def learn(a: argparse.Namespace) -> None:
    """The whole run."""
    text, held_out = (Path(path).read_text(encoding="utf-8") for path in (a.train, a.validation))
    ids_of = {c: i for i, c in enumerate(sorted(set(text + held_out)))}
    ids, count = torch.tensor([ids_of[c] for c in text + held_out]), len(text)
    model = LM(len(ids_of), a)
    initialise(model, a.cell, a.hidden)
    training = Training(model, ids, count, a)
    steps = a.steps
    if a.passes is not None:
        most = max(1, round(a.passes * count / (a.batch * a.seq)))
        steps = most if steps is None else min(steps, most)

    def seconds() -> float:
        return time.perf_counter() - BEGUN

    evaluating = 0.0  # seconds that an evaluation took

    def progress(step: int) -> float:
        parts = [0.0]
        if a.seconds is not None:
            parts.append(seconds() / max(a.seconds - evaluating, 0.5 * a.seconds))
        if steps is not None:
            parts.append(step / steps)
        return max(parts)

    best, best_weights, worse = math.inf, dict[str, Tensor](), 0
    losses: list[float] = []
    step, evaluated, reported = 0, 0, seconds()
    while True:
        done = progress(step)
        losses.append(training.step(a.lr * rate(min(done, 1.0))))
        step += 1
        if seconds() - reported > REPORT_SECONDS:
            reported = seconds()
            say(event="step", step=step, train_loss=losses[-1])
        done = progress(step)
        if done * a.evaluations < evaluated + 1 and done < 1:
            continue
        evaluated, before = int(done * a.evaluations), seconds()
        loss = quick_loss(model, ids, count)
        evaluating = seconds() - before
        mean = sum(losses) / len(losses)
        say(event="eval", step=step, train_loss=mean, val_loss=loss)
        losses.clear()
        worse = worse + 1 if loss > CLEARLY_WORSE * best else 0
        if loss < best:
            best, best_weights = loss, {k: v.clone() for k, v in model.state_dict().items()}
        if done >= 1 or worse >= PATIENCE:
            break
    say(event="end", step=step)
    model.load_state_dict(best_weights)
    parameters = sum(p.numel() for p in model.parameters())
    say(event="done", step=step, parameters=parameters, best_val_loss=exact_loss(model, ids, count))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in ("train", "validation"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--cell", choices=list(RECURRENT), default="lstm")
    numbers: dict[str, tuple[Callable[[str], Any], Any]] = {
        "layers": (int, 2), "hidden": (int, 256), "batch": (int, 32), "seq": (int, 64), "lr": (float, 6e-3),
        "dropout": (float, 0.1), "weight-decay": (float, 0.01), "clip": (float, 1.0), "seed": (int, 1),
        "evaluations": (int, 12), "seconds": (float, None), "steps": (int, None), "passes": (float, None),
    }  # fmt: skip
    for name, (kind, default) in numbers.items():
        parser.add_argument(f"--{name}", type=kind, default=default)
    for name in ("norm", "residual"):
        parser.add_argument(f"--{name}", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--bf16", action=argparse.BooleanOptionalAction, default=False)
    a = parser.parse_args()
    if a.seconds is None and a.steps is None and a.passes is None:
        parser.error("give --seconds, --steps or --passes")
    torch.manual_seed(a.seed)
    learn(a)


if __name__ == "__main__":
    main()
