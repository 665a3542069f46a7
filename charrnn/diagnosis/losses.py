"""Advice after a run, from its losses: whether it overfitted or underfitted, if that is clear."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from charrnn.config import TrainConfig
from charrnn.errors import decimal

CLEARLY_WORSE = 1.01  # times the best validation loss; less is noise
NARROW = 0.1  # nats between training and validation loss, below which the network underfits
FEW_PASSES = 10.0  # epochs; after more of them the network is probably too small
MUCH_DROPOUT = 0.5
# Signs that the validation text is of another kind than the training text. At an early evaluation the network
# cannot have overfitted, and the training loss, a mean since the start, is above the network's current one.
EARLY = 8.0  # epochs
HARDER = 0.4  # nats by which the validation loss is above the training loss at an early evaluation
EASIER = 0.5  # times the training loss: the validation loss is below that


def advise(history: Sequence[Mapping[str, Any]], train: TrainConfig, dropout: float) -> str:
    """One sentence about a run that spent its budget, or "" if nothing is clear.

    `history` has a row for each evaluation, in order, with "epoch", "train_loss" and "val_loss", the loss
    over held-out text, and beside counts "network_loss", that of the network alone. The training loss, which
    knows no counts, is a mean over steps, with dropout: it is larger than the loss of the evaluated network
    over the same text.
    """
    rows = _measured(history)
    if not rows:
        return ""
    if doubt := doubts(history, train, dropout):
        return doubt
    best, last = min(rows, key=lambda row: float(row["val_loss"])), rows[-1]
    if last["val_loss"] > CLEARLY_WORSE * best["val_loss"] and last["train_loss"] < best["train_loss"]:
        cure = "more --dropout" if dropout < MUCH_DROPOUT else "a smaller --hidden-size"
        return (
            f"it overfitted: after epoch {best['epoch']:,.1f} the validation loss rose from "
            f"{decimal(best['val_loss'])} to {decimal(last['val_loss'])} while the training loss fell; "
            f"the best model is kept. More text or {cure}{_now(dropout)} would help, more time would not"
        )
    new = _without_counts(last, train)
    if new is None:
        return ""
    if new - (last["train_loss"] - inflation(dropout)) < NARROW:
        cures = [_longer(train)]
        if last["epoch"] > FEW_PASSES:
            cures.append("a larger --hidden-size")
        if dropout > 0:
            cures.append(f"less --dropout{_now(dropout)}")
        return (
            f"it could learn more: it predicts the text that it was trained on ({decimal(last['train_loss'])}"
            f"{' with dropout' if dropout else ''}) hardly better than text that is new to it "
            f"({decimal(new)}{', without counts' if train.counts else ''}). Try {' or '.join(cures)}"
        )
    return ""


def doubts(history: Sequence[Mapping[str, Any]], train: TrainConfig, dropout: float) -> str:
    """One sentence if the validation text seems to be of another kind than the training text, else ""."""
    rows = _measured(history)
    if not rows:
        return ""
    first, last = rows[0], rows[-1]
    new = _without_counts(last, train)
    if first["epoch"] <= EARLY and first["val_loss"] > first["train_loss"] + HARDER:
        what = (
            f"unlike the training text: from the start its loss ({decimal(first['val_loss'])}) was far above "
            f"that of training ({decimal(first['train_loss'])})"
        )
    elif new is not None and new < EASIER * (last["train_loss"] - inflation(dropout)):
        what = (
            f"much easier than the training text ({decimal(new)} against "
            f"{decimal(last['train_loss'])}): padding, a table, or text that training has, too"
        )
    else:
        return ""
    cure = "give another --val" if train.val_text else "--val FILE names a better one"
    if train.val_split == "end":
        cure = "--val-split scattered takes it from all of the text"
    return f"the validation text is {what}. The model was chosen by it; {cure}"


def after_early_stop(history: Sequence[Mapping[str, Any]], train: TrainConfig, dropout: float) -> str:
    """One sentence about a run that ended because its validation loss no longer fell."""
    doubt = doubts(history, train, dropout)
    return doubt or f"more text or more --dropout{_now(dropout)} would help, more time would not"


def _measured(history: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    both = ((row, (row["train_loss"], row["val_loss"])) for row in history)
    return [row for row, losses in both if None not in losses and math.isfinite(sum(losses))]


def _without_counts(row: Mapping[str, Any], train: TrainConfig) -> float | None:
    """The loss of the network alone over text that is new to it; None: not known."""
    own = row.get("network_loss")
    return own if own is not None or train.counts else row["val_loss"]


def inflation(dropout: float) -> float:
    """Roughly what dropout adds to the training loss, in nats a character: 0.175 at 0.5 (LSTM 2 x 192)."""
    return 0.35 * dropout


def _longer(train: TrainConfig) -> str:
    """Twice the budget, as an option."""
    for name in ("minutes", "epochs", "steps"):
        if (amount := getattr(train, name)) is not None:
            return f"--{name} {2 * amount:.10g}"
    return "more time"


def _now(dropout: float) -> str:
    return f" (now {dropout:g})" if dropout else ""
