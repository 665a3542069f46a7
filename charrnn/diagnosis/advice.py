"""One sentence of advice: what a diagnosis means, and what to change."""

from __future__ import annotations

import math
from collections.abc import Iterator

from charrnn.config import ModelConfig, TrainConfig
from charrnn.diagnosis.findings import Clipping, Diagnosis, growth, reach

EXPLODED = 10.0  # times the gradient one step back
OFTEN = 0.5  # of the steps: clipping acts as a lower rate
MANY_IDLE = 0.1  # of a layer's units
MOSTLY = 0.8  # of a gate's activations; one that is open lets gradients pass
STRONG = 0.1  # of the gradient one step back, at the end of a window of training


def of_network(found: Diagnosis, model: ModelConfig, train: TrainConfig) -> str:
    """The most pressing thing about a network; there is always a sentence."""
    return next(_pressing(found, model, train))


def _pressing(found: Diagnosis, model: ModelConfig, train: TrainConfig) -> Iterator[str]:
    vanilla = model.cell == "rnn"
    other = "--cell lstm or gru" if vanilla else "--norm" if not model.norm else "a lower --lr"
    clipping = found.clipping
    for k, layer in enumerate(found.layers):
        for part, gradients in layer.gradients.items():
            times, lag = growth(gradients)
            if times >= EXPLODED:
                size = f"{times:,.0f}" if math.isfinite(times) else "infinitely many"
                yield (
                    f"gradients explode: that of {part} in layer {k + 1} is {size} times as large "
                    f"{_characters(lag)} back as one back; {other} or a lower --clip "
                    f"(now {clipping.clip:g}) tames them"
                )
    if clipping.overflowed:
        yield (
            f"gradients overflow in {clipping.overflowed} of {clipping.steps} steps: train with a lower --lr"
        )
    if clipping.share > OFTEN:
        yield _clipped(clipping.share, clipping)
    for k, layer in enumerate(found.layers):
        if len(layer.idle) >= MANY_IDLE * layer.units:
            cure = "a smaller --hidden-size would do as well"
            if model.recurrence.name == "rnn_relu":
                cure = "a lower --lr or --nonlinearity tanh keeps more of them alive"
            yield f"{len(layer.idle):,} of {layer.units:,} units in layer {k + 1} never move: {cure}"
    for k, layer in enumerate(found.layers):
        for gate, (low, high) in layer.gates.items():
            activation = model.recurrence.gates[gate]
            stuck = low if activation == "sigmoid" else 0.0 if activation == "relu" else low + high
            if stuck >= MOSTLY:
                how = "shut" if activation == "sigmoid" else "at its limits"
                yield (
                    f"gate {gate} in layer {k + 1} is {how} {stuck:.0%} of the time, when hardly any "
                    f"gradient passes it: a lower --lr or more --weight-decay (now {train.weight_decay:g}) "
                    "keeps it open"
                )
    yield _memory(found, train, vanilla=vanilla)


def _memory(found: Diagnosis, train: TrainConfig, *, vanilla: bool) -> str:
    """How far back gradients go, and whether that suits the windows of training."""
    every = [gradients for layer in found.layers for gradients in layer.gradients.values()]
    far, T = max(map(reach, every)), train.seq_len
    end = min(T, found.lags)
    left = max(g[end - 1] / g[0] if g[0] > 0 else 0.0 for g in every)
    if left >= STRONG and found.lags >= T:
        return (
            f"gradients are still {left:.0%} as large after the {T} characters of a window of training "
            f"as after one: a longer --seq-len, such as {2 * T}, may learn more"
        )
    if far < min(T, found.lags) and vanilla:
        return (
            f"gradients vanish: beyond {_characters(far)} they are below 1 % of those of one step back; "
            "--cell lstm or gru looks back further"
        )
    if _window(2 * far) < T <= found.lags:
        return (
            f"gradients reach {_characters(far)} back, from where on they are below 1 % of those of one step "
            f"back: --seq-len {_window(2 * far)} (now {T}) holds that and updates more often, but more "
            "training may lengthen it"
        )
    return "gradients neither vanish nor explode where training looks: nothing has to change"


def of_run(clipping: Clipping, late_share: float, late_median: float) -> str:
    """The most pressing thing about a run."""
    if clipping.overflowed:
        return (
            f"gradients overflowed in {clipping.overflowed:,} of {clipping.steps:,} reported steps: "
            "train with a lower --lr"
        )
    if late_share > OFTEN:
        return _clipped(late_share, clipping, late_median)
    if not clipping.clipped:
        return f"no reported step was clipped: --clip {clipping.clip:g} is out of the way"
    return (
        f"clipping catches {clipping.share:.1%} of the reported steps, lately {late_share:.1%}: it holds "
        "back single large ones, as it should"
    )


def _clipped(share: float, clipping: Clipping, median: float | None = None) -> str:
    typical = clipping.median if median is None else median
    return (
        f"clipping shortens {share:.0%} of the steps, whose norm is typically {typical:.2g}, to "
        f"{clipping.clip:g}, so it acts as a lower rate: --clip {_round_up(typical):g} bounds the large ones "
        "alone, or choose a lower --lr yourself"
    )


def _round_up(value: float) -> float:
    """Twice the value, rounded up to 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(2 * value))
    return next(power * n for n in (1, 2, 5, 10) if power * n >= 2 * value * (1 - 1e-9))


def _window(lag: int) -> int:
    """The power of two that holds so many characters, 8 at least."""
    return max(8, 1 << max(0, lag - 1).bit_length())


def _characters(count: int) -> str:
    return f"{count:,} character{'s' * (count != 1)}"
