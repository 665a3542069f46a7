"""Pictures for notebooks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from charrnn.api.models import as_read, checkpoint_of
from charrnn.api.scoring import score
from charrnn.checkpoint.model_file import Checkpoint
from charrnn.config import KINDS

if TYPE_CHECKING:
    from charrnn.scoring.heatmap import Heat
    from charrnn.training.curves import Plot


def heat(model: Checkpoint | str | Path, text: str, *, unit: str | None = None) -> Heat:
    """A text for a notebook, coloured by its surprise or, with `unit`, by that unit; see `watch_unit`."""
    from charrnn.scoring import heatmap

    checkpoint = checkpoint_of(model)
    text = as_read(checkpoint, text)
    if unit is None:
        bits = score(checkpoint, text).astype(np.float64) / np.log(2)
        return heatmap.Heat(text, bits.tolist(), [], heatmap.SURPRISE)
    from charrnn.neurons.activations import Network, Piece
    from charrnn.neurons.units import measure, unit_of
    from charrnn.neurons.watching import watch

    network, chosen = Network(checkpoint, None), unit_of(unit, checkpoint.config)
    found = list(watch(network, [Piece("", text, begins=True)] if text else [], chosen, expects=True))
    values = [value for _, _, values, _ in found for value in values]
    notes = [note for *_, notes in found for note in notes]
    return heatmap.Heat(text, values, notes, heatmap.values_of(unit, measure(checkpoint.config.recurrence)))


def curves(model: Checkpoint | str | Path) -> Plot:
    """The losses of a model's training by epoch, which a notebook draws."""
    from charrnn.training.curves import Curves, Labels, Plot

    checkpoint = checkpoint_of(model, *KINDS)
    config, name = checkpoint.config, "" if isinstance(model, Checkpoint) else Path(model).stem
    return Plot(Curves.of(checkpoint.history), Labels(name, config.layers, "training", "validation"))
