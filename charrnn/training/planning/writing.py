"""Default settings for networks that write: the size of the network, its regularisation, the training time.

Three rules, each with its evidence in docs/quality.md:

1. The network is the largest of SIZES that reads READ_PER_PARAMETER characters for each of its parameters
   within the budget: a larger one would end half-trained, a smaller one would stop improving before.
2. A high learning rate and strong weight decay keep the network from overconfidence. Dropout grows with the
   number of epochs, and a little with the ratio of the network's size to the text's.
3. After MOST_EPOCHS epochs the run ends: more would only memorise the text.

A run from the base model reads less, with a lower rate and less dropout: it starts from what it should keep.

The rules hold for short texts, too: a list of a hundred names gets a small network, much dropout and few
epochs, so that samples resemble the list without copying it.

A budget in minutes is converted to characters by the speed of each size, measured on this machine. With
epochs or steps nothing is measured, so that the same command gives the same plan on every machine.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from charrnn.config import ModelConfig, TrainConfig, has_memory, is_made
from charrnn.counts.gate import LEAST_FITTED
from charrnn.counts.learning.building import default_bytes
from charrnn.errors import ConfigError

# Characters below which a tenth of the text is too little to validate on: training uses all of it, and the
# loss over it replaces the validation loss.
SMALLEST_VALIDATED = 500
SHORT = 2_000  # characters; on shorter texts every machine is fast enough for the plan
LARGEST_VALIDATION = 200_000  # characters; more would only take longer
LARGEST_WINDOW = 2**25  # logits of a window, T * B * V: 128 MB

SIZES = (128, 192, 256, 384, 512, 768, 1024)  # hidden sizes, of two layers
SMALL_SIZES = ((2_500, 64), (10_000, 96))  # (characters of a text at most, hidden size)
READ_PER_PARAMETER = 3.3
MOST_EPOCHS = 30.0
TRAINING_SHARE = 0.9  # of a budget in minutes; the rest is for evaluating and saving
MOST_DROPOUT = 0.75
FEW_EPOCHS = 8.0  # too few to memorise a text
PEAK_RATE = 0.0105  # the learning rate of an LSTM of SIZES[0]
# From the base model, at few and at many epochs; see "Start" in docs/quality.md.
BASE_RATES, BASE_EPOCHS = (2e-3, 5e-4), 10.0
MOST_BASE_DROPOUT = 0.2
DEFAULTS = TrainConfig(steps=1)
# Of a reservoir: (characters of a text at most, units, epochs); a rate for Newton's steps.
RESERVOIRS = ((20_000, 250, 4.0), (200_000, 1000, 2.0), (math.inf, 2000, 1.0))
RESERVOIR_BATCH, RESERVOIR_RATE, RESERVOIR_EPOCHS = 64, 0.2, 4.0
NOT_OF_A_RESERVOIR = {"embedding_size": 0, "norm": False, "residual": False, "dropout": 0.0, "between": ()}
WINDOW = DEFAULTS.seq_len

BUDGETS = {"minutes", "epochs", "steps"}
WORDS = {
    "hidden_size": "hidden size {:g}",
    "num_layers": "{:g} layer",
    "dropout": "dropout {:g}",
    "epochs": "{:g} epochs",
    "minutes": "{:g} minutes",
}

Speed = Callable[[ModelConfig, int, int], float]  # (network, B, T) -> characters a second


@dataclass(frozen=True, slots=True)
class Plan:
    """Settings of ModelConfig (except vocab_size) and TrainConfig, and the reason for those chosen."""

    settings: dict[str, Any]
    reason: str  # one line; "" when everything was given


def by_speed(characters: int, given: dict[str, Any]) -> set[str]:
    """The settings that a plan chooses by the machine's speed; empty if it is not needed."""
    if is_made(given.get("cell", "")) or has_memory(given.get("cell", "")):
        return set()
    budget = given if given.keys() & BUDGETS else _budget(characters)
    decided = given.keys() >= {"hidden_size", "dropout", "weight_decay"}
    if "minutes" not in budget or characters <= SHORT or decided:
        return set()
    return {"hidden_size", "embedding_size", "dropout", "weight_decay", "learning_rate"} - given.keys()


def plan(
    characters: int,
    vocab_size: int,
    given: dict[str, Any],
    speed: Speed | None = None,
    *,
    from_base: bool = False,
) -> Plan:
    """The settings for a corpus of this length; those `given` take precedence.

    `speed` is called only for settings `by_speed`. Settings that keep their defaults are absent. `from_base`:
    the run starts from the base model, whose network is given.
    """
    if is_made(given.get("cell", "")):
        return _of_reservoir(characters, vocab_size, given)
    most_epochs = BASE_EPOCHS if from_base else MOST_EPOCHS
    validated = characters >= SMALLEST_VALIDATED
    val_fraction = min(0.1, LARGEST_VALIDATION / characters) if validated else 0.0
    text = characters * (1.0 - val_fraction)
    chosen: dict[str, Any] = {
        "val_fraction": val_fraction,
        "val_split": "scattered",
        "batch_size": _batch_size(characters, vocab_size, given),
        "counts": _counts(characters, from_base=from_base),
    }
    if not given.keys() & BUDGETS:
        chosen |= _budget(characters)
        if from_base and "epochs" in chosen:
            chosen["epochs"] = BASE_EPOCHS
    settings = {**chosen, **given}
    read, H = _size(text, vocab_size, settings, speed if by_speed(characters, given) else None)
    settings["hidden_size"] = H
    if "embedding_size" not in given:
        settings["embedding_size"] = settings["hidden_size"]  # equal, as the first skip connection needs
    network = _network(vocab_size, settings)
    epochs = read / text
    if "minutes" in settings:
        settings.setdefault("most_epochs", most_epochs)
        epochs = min(epochs, most_epochs)
    dropout = _dropout(epochs, network.num_parameters / text)
    settings.setdefault("dropout", min(dropout, MOST_BASE_DROPOUT) if from_base else dropout)
    settings.setdefault("weight_decay", 0.2 if epochs < FEW_EPOCHS else 0.3)
    settings.setdefault("learning_rate", _base_rate(epochs) if from_base else _peak_rate(network))
    times = f"read at most {epochs:,.0f} times" if read == math.inf else _times(epochs)
    return Plan(settings, reason(settings, given, characters, times))


def _of_reservoir(characters: int, vocab_size: int, given: dict[str, Any]) -> Plan:
    """The settings for a reservoir: its read-out learns fast, whatever the machine.

    Of Shakespeare's 1,000,000 characters, one epoch with 2,000 units is 26 seconds of one core.
    """
    for name, value in NOT_OF_A_RESERVOIR.items():
        if given.get(name, value) not in (value, ()):
            raise ConfigError(
                f"--{name.replace('_', '-')} is for layers that learn, and a reservoir does not",
                "leave it out, or give another --cell",
            )
    validated = characters >= SMALLEST_VALIDATED
    H, epochs = next(chosen for limit, *chosen in RESERVOIRS if characters <= limit)
    chosen: dict[str, Any] = {
        "val_fraction": min(0.1, LARGEST_VALIDATION / characters) if validated else 0.0,
        "val_split": "scattered",
        "counts": _counts(characters, from_base=False),
        "hidden_size": H,
        "num_layers": 1,
        "batch_size": _batch_size(characters, vocab_size, given, RESERVOIR_BATCH),
        "learning_rate": RESERVOIR_RATE,
        "weight_decay": 0.0,
        "precision": "float32",
        "reservoir": given.get("seed", DEFAULTS.seed),
    }
    if not given.keys() & BUDGETS:
        chosen["epochs"] = epochs
    settings = {**chosen, **given}
    if "minutes" in settings:
        settings.setdefault("most_epochs", RESERVOIR_EPOCHS)
    times = _times(settings["epochs"]) if "epochs" in settings else "as often as there is time"
    return Plan(settings, reason(settings, given, characters, times))


def _budget(characters: int) -> dict[str, float]:
    """The default budget: epochs for short texts, minutes for long ones."""
    for limit, budget in (
        (50_000, {"epochs": 40.0}),
        (500_000, {"epochs": 30.0}),
        (3_000_000, {"minutes": 3.0}),
        (30_000_000, {"minutes": 10.0}),
    ):
        if characters <= limit:
            return budget
    return {"minutes": 30.0}


def _counts(characters: int, *, from_base: bool) -> float:
    """Megabytes of counts beside the network.

    The gate that comes with the program was fitted beside networks that started from nothing, and relies too
    much on counts beside one from the base model: 20,000 characters of Shakespeare came to 1.510, without
    counts to 1.479.
    """
    return 0.0 if from_base and characters < LEAST_FITTED else default_bytes(characters) / 1e6


def _batch_size(characters: int, vocab_size: int, given: dict[str, Any], batch: int = 0) -> int:
    """Small for a short text, which needs many steps; a window's logits must fit into memory.

    A `batch` is the size where memory suffices.
    """
    batch = batch or (8 if characters <= 20_000 else 16 if characters <= 3_000_000 else DEFAULTS.batch_size)
    window = given.get("seq_len", WINDOW)
    while batch > 1 and batch * window * vocab_size > LARGEST_WINDOW:
        batch //= 2
    return batch


def _size(text: float, vocab_size: int, known: dict[str, Any], speed: Speed | None) -> tuple[float, int]:
    """The number of characters that will be read, and the hidden size.

    Without a speed, minutes suffice for any number.
    """

    def read(H: int) -> float:
        if "epochs" in known:
            return float(known["epochs"] * text)
        if "steps" in known:
            return float(known["steps"] * known["batch_size"] * known.get("seq_len", WINDOW))
        if speed is None:
            return math.inf
        network = _network(vocab_size, {**known, "hidden_size": H})
        seconds = 60.0 * float(known["minutes"]) * TRAINING_SHARE
        return seconds * speed(network, known["batch_size"], known.get("seq_len", WINDOW))

    if "hidden_size" in known:
        return read(known["hidden_size"]), known["hidden_size"]
    smallest = next((H for limit, H in SMALL_SIZES if text <= limit), SIZES[0])
    best, characters = smallest, read(smallest)
    for H in [size for size in SIZES if smallest < size]:
        needed = READ_PER_PARAMETER * _network(vocab_size, {**known, "hidden_size": H}).num_parameters
        possible = read(H)
        if min(possible, MOST_EPOCHS * text) < needed:
            break
        best, characters = H, possible
    return characters, best


def _network(vocab_size: int, settings: dict[str, Any]) -> ModelConfig:
    names = ("cell", "hidden_size", "num_layers", "embedding_size", "norm", "residual", "between", "span")
    values = {name: settings[name] for name in names if name in settings}
    values.setdefault("embedding_size", values["hidden_size"])
    return ModelConfig(vocab_size, **values)


def _dropout(epochs: float, parameters_per_character: float) -> float:
    """0.1 at 13 epochs with as many parameters as characters, 0.1 more for each doubling of epochs."""
    rate = 0.1 + 0.1 * math.log2(max(epochs, 1e-3) / 13.0) + 0.07 * math.log2(parameters_per_character)
    return round(20.0 * min(max(rate, 0.0), MOST_DROPOUT)) / 20.0


def _peak_rate(network: ModelConfig) -> float:
    """0.0105 at a hidden size of 128, 0.007 at 256: wider networks need smaller steps, as do some cells."""
    rate: float = PEAK_RATE * (SIZES[0] / max(network.hidden_size, SIZES[0])) ** 0.585
    return round(rate * network.recurrence.learning_rate_scale, 4)


def _base_rate(epochs: float) -> float:
    """The second of BASE_RATES at BASE_EPOCHS, and the first at a sixteenth of them."""
    most, least = BASE_RATES
    return round(min(max(least * math.sqrt(BASE_EPOCHS / max(epochs, 1e-3)), least), most), 5)


def reason(settings: dict[str, Any], given: dict[str, Any], characters: int, times: str) -> str:
    """The chosen settings, and for what, on one line; empty if there are none."""
    own = [
        words.format(settings[name]).removesuffix("s" if settings[name] == 1 else "")
        for name, words in WORDS.items()
        if name in settings.keys() - given.keys()
    ]
    return f"{', '.join(own)}: for {characters:,} characters, {times}" if own else ""


def _times(epochs: float) -> str:
    if epochs < 0.01:
        return "of which less than 1 % is read"
    if epochs < 0.95:
        return f"of which about {100 * epochs:.0f} % is read"
    return "read about once" if epochs < 1.5 else f"read about {epochs:,.0f} times"
