"""What suits a corpus: the network, how it learns and for how long, where the user says nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

# Below this, a tenth of the text says nothing about the rest: all of it is learned, and the loss over it
# stands in for the validation loss.
SMALLEST_VALIDATED = 2_000
# A larger validation text only takes longer to read; see `val_fraction` in `plan`.
LARGEST_VALIDATION = 200_000
LARGEST_WINDOW = 2**25  # logits in a window of T * B characters: 128 MB


@dataclass(frozen=True, slots=True)
class _Recipe:
    characters: int  # at the most
    hidden_size: int
    num_layers: int
    dropout: float
    weight_decay: float
    batch_size: int
    budget: dict[str, float]


# A small text is learned by heart quickly: much dropout, and a number of epochs, after which more only
# harms. From about a million characters on, time decides, and the net grows with the text.
_RECIPES = (
    _Recipe(2_000, 64, 1, 0.0, 0.0, 16, {"epochs": 300}),
    _Recipe(20_000, 128, 2, 0.4, 0.05, 8, {"epochs": 40}),
    _Recipe(100_000, 192, 2, 0.5, 0.05, 16, {"epochs": 25}),
    _Recipe(500_000, 192, 2, 0.4, 0.03, 32, {"epochs": 30}),
    _Recipe(3_000_000, 256, 2, 0.2, 0.03, 32, {"minutes": 3}),
    _Recipe(30_000_000, 512, 2, 0.1, 0.01, 50, {"minutes": 10}),
    _Recipe(10**18, 512, 3, 0.0, 0.01, 64, {"minutes": 30}),
)


def plan(characters: int, vocab_size: int, given: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """All settings for a corpus of so many characters, those `given` first, and a line that says why.

    The keys are the fields of ModelConfig (but vocab_size) and TrainConfig; those left at their own
    defaults are absent.
    """
    recipe = next(r for r in _RECIPES if characters <= r.characters)
    chosen: dict[str, Any] = {
        "hidden_size": recipe.hidden_size,
        "num_layers": recipe.num_layers,
        "dropout": recipe.dropout,
        "weight_decay": recipe.weight_decay,
        "batch_size": recipe.batch_size,
        "val_fraction": _val_fraction(characters),
    }
    if not given.keys() & {"minutes", "epochs", "steps"}:
        chosen |= recipe.budget
    settings = {**chosen, **given}
    if "embedding_size" not in given:
        settings["embedding_size"] = settings["hidden_size"]  # the first skip connection needs it
    batch, window = settings["batch_size"], settings.get("seq_len", 64)
    while "batch_size" not in given and batch > 1 and batch * window * vocab_size > LARGEST_WINDOW:
        batch //= 2
    settings["batch_size"] = batch
    named = ("hidden_size", "num_layers", "dropout", "epochs", "minutes")
    own = [
        f"{name.replace('_', ' ')} {chosen[name]:g}" for name in named if name in chosen.keys() - given.keys()
    ]
    return settings, f"{', '.join(own)}: for a text of {characters:,} characters" if own else ""


def _val_fraction(characters: int) -> float:
    if characters < SMALLEST_VALIDATED:
        return 0.0
    return min(0.1, LARGEST_VALIDATION / characters)
