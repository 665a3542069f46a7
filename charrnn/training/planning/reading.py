"""Default settings for networks that read whole texts; see writing.py for those that write.

Nothing is measured: the network depends on the texts alone, and minutes only end the run.
"""

from __future__ import annotations

from typing import Any

from charrnn.config import Kind
from charrnn.training.planning.writing import BUDGETS, Plan, reason

# By kind: (characters of the texts at most, settings).
SIZES: dict[str, tuple[tuple[float, dict[str, Any]], ...]] = {
    "classifier": (
        (50_000, {"hidden_size": 64, "num_layers": 1, "dropout": 0.5, "epochs": 40.0}),
        # Of surnames, 84.4 % were right with the last weights and 4e-3, and 84.6 with averaged ones.
        (
            2_000_000,
            {
                "hidden_size": 128,
                "num_layers": 1,
                "dropout": 0.5,
                "epochs": 20.0,
                "learning_rate": 8e-3,
                "average": 0.2,
            },
        ),
        (
            float("inf"),
            {"hidden_size": 128, "num_layers": 1, "dropout": 0.1, "batch_size": 64, "minutes": 5.0},
        ),
    ),
    "restorer": (
        (200_000, {"hidden_size": 96, "num_layers": 2, "dropout": 0.3, "seq_len": 128, "epochs": 20.0}),
        (float("inf"), {"hidden_size": 192, "num_layers": 2, "dropout": 0.1, "seq_len": 128, "minutes": 5.0}),
    ),
    # Words without spaces, 660,000 characters: 98.4 % of tags right after 4 epochs with one layer of 128.
    "tagger": (
        (200_000, {"hidden_size": 96, "num_layers": 1, "dropout": 0.3, "epochs": 20.0}),
        (
            3_000_000,
            {"hidden_size": 128, "num_layers": 1, "dropout": 0.1, "epochs": 6.0, "learning_rate": 8e-3},
        ),
        (float("inf"), {"hidden_size": 192, "num_layers": 2, "dropout": 0.1, "minutes": 5.0}),
    ),
    "filler": (
        (200_000, {"hidden_size": 128, "num_layers": 2, "dropout": 0.3, "epochs": 30.0}),
        (3_000_000, {"hidden_size": 192, "num_layers": 2, "dropout": 0.1, "minutes": 3.0}),
        (float("inf"), {"hidden_size": 256, "num_layers": 2, "dropout": 0.0, "minutes": 10.0}),
    ),
    # Sums of 290,000 characters: 100 % right after 6 epochs. Wide layers read their weights for every step of
    # the target, so that more rows at a time cost little.
    "rewriter": (
        (50_000, {"hidden_size": 96, "num_layers": 1, "dropout": 0.3, "epochs": 40.0}),
        (
            500_000,
            {"hidden_size": 128, "num_layers": 1, "dropout": 0.1, "epochs": 8.0, "learning_rate": 8e-3},
        ),
        (
            float("inf"),
            {"hidden_size": 192, "num_layers": 1, "dropout": 0.2, "batch_size": 64, "minutes": 10.0},
        ),
    ),
}
# Texts, or characters of texts that are cut into pieces, below which none are held out.
SMALLEST_VALIDATED, SMALLEST_CUT = 20, 5_000
# Megabytes of counted grams beside a classifier. Of lines in 60 languages, 2.1 told
# 98.6 %, 4.2 98.9 and 17 99.1.
COUNTS = 4.0
MOST_VALIDATED = 10_000  # texts of which something is told as a whole; more would only take longer


def plan(kind: Kind, characters: int, texts: int, given: dict[str, Any]) -> Plan:
    """The settings for so many characters in so many texts; those `given` take precedence."""
    chosen = dict(next(settings for limit, settings in SIZES[kind] if characters <= limit))
    if given.keys() & BUDGETS:
        for budget in BUDGETS:
            chosen.pop(budget, None)
    # Running text is cut into pieces, so that a single one is enough.
    enough = characters >= SMALLEST_CUT if kind in ("restorer", "filler") else texts >= SMALLEST_VALIDATED
    told = kind in ("classifier", "rewriter")
    share = min(0.1, MOST_VALIDATED / max(texts, 1)) if told else 0.1
    settings: dict[str, Any] = {
        "val_fraction": share if enough else 0.0,
        "batch_size": 16 if texts < 2_000 else 32,
        "weight_decay": 0.1,
        "learning_rate": 4e-3,
        **chosen,
        **given,
    }
    if kind == "classifier" and "counts" not in given and (settings["val_fraction"] or given.get("val_text")):
        settings["counts"] = COUNTS
    if "embedding_size" not in given:
        settings["embedding_size"] = min(settings["hidden_size"], 64)
    return Plan(settings, reason(settings, given, characters, f"{texts:,} texts"))
