"""What suits a corpus and the time there is: the network, how it learns and for how long.

Three rules, each with its evidence in docs/quality.md, and a few sizes:

1. The network is the largest of SIZES that reads READ_PER_PARAMETER characters for each of its parameters
   within the budget: a larger one would end half-trained, a smaller one has learned all it can before.
2. Steps are large and weights decay fast, which keeps the network from being too sure of what it has not
   seen. Dropout does the rest: it grows with how often the text is read, and a little with the network's
   size beside the text's.
3. A text that would be read more than MOST_EPOCHS times ends the run sooner: more would only be learned by
   heart.

They hold for short texts, too: a list of a hundred names gets a small network, much dropout and few passes,
so that what it writes is like the list, and not from it.

A budget in minutes becomes characters through the speed of each size, measured on this machine. With
epochs or steps nothing is measured, so that the same command plans the same on every machine.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from charrnn.config import ModelConfig, TrainConfig

# Below this, a tenth of the text says nothing about the rest: all of it is learned, and the loss over it
# stands in for the validation loss.
SMALLEST_VALIDATED = 500
SHORT = 2_000  # characters that any machine reads as often as is planned: its speed decides nothing
# A larger validation text only takes longer to read; see `_val_fraction`.
LARGEST_VALIDATION = 200_000
LARGEST_WINDOW = 2**25  # logits in a window of T * B characters: 128 MB

SIZES = (128, 192, 256, 384, 512, 768, 1024)  # of the hidden state, in two layers
SMALL_SIZES = ((2_500, 64), (10_000, 96))  # of texts of at most so many characters
READ_PER_PARAMETER = 3.3
MOST_EPOCHS = 30.0
TRAINING_SHARE = 0.9  # of a budget in minutes; the rest is evaluated and saved
MOST_DROPOUT = 0.75
FEW_EPOCHS = 8.0  # in which a text is hardly learned by heart
PEAK_RATE = 0.0105  # of an LSTM of SIZES[0]
DEFAULTS = TrainConfig(steps=1)
WINDOW = DEFAULTS.seq_len

WORDS = {
    "hidden_size": "hidden size {:g}",
    "num_layers": "{:g} layer",
    "dropout": "dropout {:g}",
    "epochs": "{:g} epochs",
    "minutes": "{:g} minutes",
}

Speed = Callable[[ModelConfig, int, int], float]  # characters a second of a network for B and T


@dataclass(frozen=True, slots=True)
class Plan:
    """Settings by name, of ModelConfig (but vocab_size) and TrainConfig, and what was chosen and why."""

    settings: dict[str, Any]
    reason: str  # one line; empty when everything was given


def needs_speed(characters: int, given: dict[str, Any]) -> bool:
    """Whether a plan depends on the machine's speed."""
    by_the_clock = "minutes" in given or (
        not given.keys() & {"epochs", "steps"} and "minutes" in _budget(characters)
    )
    decided = given.keys() >= {"hidden_size", "dropout", "weight_decay"}
    return by_the_clock and characters > SHORT and not decided


def by_speed(characters: int, given: dict[str, Any]) -> set[str]:
    """The settings that a plan chooses by the machine's speed."""
    if not needs_speed(characters, given):
        return set()
    return {"hidden_size", "embedding_size", "dropout", "weight_decay", "learning_rate"} - given.keys()


def plan(characters: int, vocab_size: int, given: dict[str, Any], speed: Speed | None = None) -> Plan:
    """All settings for a corpus of so many characters, those `given` first.

    `speed` is asked only where `needs_speed` says so. Settings left at their own defaults are absent.
    """
    val_fraction = _val_fraction(characters)
    text = characters * (1.0 - val_fraction)
    chosen: dict[str, Any] = {
        "val_fraction": val_fraction,
        "val_split": "scattered",
        "batch_size": _batch_size(characters, vocab_size, given),
    }
    if not given.keys() & {"minutes", "epochs", "steps"}:
        chosen |= _budget(characters)
    known = {**chosen, **given}
    read, size = _size(text, vocab_size, known, speed if needs_speed(characters, given) else None)
    settings = {**chosen, **size, **given}
    if "embedding_size" not in given:
        settings["embedding_size"] = settings["hidden_size"]  # the first skip connection needs it
    network = _network(vocab_size, settings)
    epochs = read / text
    if "minutes" in settings:
        settings.setdefault("most_epochs", MOST_EPOCHS)
        epochs = min(epochs, MOST_EPOCHS)
    settings.setdefault("dropout", _dropout(epochs, network.num_parameters / text))
    settings.setdefault("weight_decay", 0.2 if epochs < FEW_EPOCHS else 0.3)
    settings.setdefault("learning_rate", _peak_rate(network))
    times = f"read at most {epochs:,.0f} times" if read == math.inf else _times(epochs)
    return Plan(settings, _reason(settings, given, characters, times))


def _val_fraction(characters: int) -> float:
    if characters < SMALLEST_VALIDATED:
        return 0.0
    return min(0.1, LARGEST_VALIDATION / characters)


def _budget(characters: int) -> dict[str, float]:
    """How long a text is trained on when nobody says: short ones by epochs, long ones by the clock."""
    for limit, budget in (
        (50_000, {"epochs": 40.0}),
        (500_000, {"epochs": 30.0}),
        (3_000_000, {"minutes": 3.0}),
        (30_000_000, {"minutes": 10.0}),
    ):
        if characters <= limit:
            return budget
    return {"minutes": 30.0}


def _batch_size(characters: int, vocab_size: int, given: dict[str, Any]) -> int:
    """A short text needs many small steps; a window's logits must fit into memory."""
    batch = 8 if characters <= 20_000 else 16 if characters <= 3_000_000 else DEFAULTS.batch_size
    window = given.get("seq_len", WINDOW)
    while batch > 1 and batch * window * vocab_size > LARGEST_WINDOW:
        batch //= 2
    return batch


def _size(
    text: float, vocab_size: int, known: dict[str, Any], speed: Speed | None
) -> tuple[float, dict[str, Any]]:
    """The characters that will be read, and the hidden size where it is not known.

    Without a speed, minutes have room for any number.
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
        return read(known["hidden_size"]), {}
    smallest = next((H for limit, H in SMALL_SIZES if text <= limit), SIZES[0])
    best, characters = smallest, read(smallest)
    for H in [size for size in SIZES if smallest < size]:
        needed = READ_PER_PARAMETER * _network(vocab_size, {**known, "hidden_size": H}).num_parameters
        possible = read(H)
        if min(possible, MOST_EPOCHS * text) < needed:
            break
        best, characters = H, possible
    return characters, {"hidden_size": best}


def _network(vocab_size: int, settings: dict[str, Any]) -> ModelConfig:
    names = ("cell", "hidden_size", "num_layers", "embedding_size", "norm", "residual")
    values = {name: settings[name] for name in names if name in settings}
    values.setdefault("embedding_size", values["hidden_size"])
    return ModelConfig(vocab_size, **values)


def _dropout(epochs: float, parameters_per_character: float) -> float:
    """0.1 at 13 epochs with as many parameters as characters, 0.1 more for each doubling of epochs."""
    rate = 0.1 + 0.1 * math.log2(max(epochs, 1e-3) / 13.0) + 0.07 * math.log2(parameters_per_character)
    return round(20.0 * min(max(rate, 0.0), MOST_DROPOUT)) / 20.0


def _peak_rate(network: ModelConfig) -> float:
    """0.0105 at a hidden size of 128, 0.007 at 256: wider networks want smaller steps; some cells, too."""
    rate: float = PEAK_RATE * (SIZES[0] / max(network.hidden_size, SIZES[0])) ** 0.585
    return round(rate * network.recurrence.rate, 4)


def _reason(settings: dict[str, Any], given: dict[str, Any], characters: int, times: str) -> str:
    own = [
        words.format(settings[name])
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
