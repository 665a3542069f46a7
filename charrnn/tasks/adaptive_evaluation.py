"""Adaptive evaluation: counts go on counting the evaluated text while it is read, see charrnn.counts.growing.

Every character is predicted before it is counted, so the loss is honest; but it is that of a model which
learns, and not comparable with that of one which does not. The text is read in order, in one stream: the
state is zero where a document starts, and what was counted stays.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from charrnn.config import DynamicConfig
from charrnn.counts.growing import GrowingCounts
from charrnn.inference.mixed_model import AnyNetwork, GrowingModel
from charrnn.tasks.dynamic_evaluation import dynamic_loss
from charrnn.tasks.evaluation import LOGITS, WINDOW
from charrnn.text.documents import Documents


def adaptive_loss(
    model: AnyNetwork,
    documents: Documents,
    counts: GrowingCounts,
    dynamic: DynamicConfig | None = None,
    report: Callable[[int], None] = lambda done: None,
) -> float:
    """The mean loss over every character, in nats, of the model beside counts; with `dynamic`, both learn.

    It does not depend on the number of threads.
    """
    growing = GrowingModel(model, counts)
    if dynamic is not None:
        return dynamic_loss(growing, documents, dynamic, report)
    total, N, state = 0.0, len(documents), growing.zero_state()
    T = max(1, min(WINDOW, LOGITS // documents.vocab_size))
    for low in range(0, N, T):
        positions = np.arange(low, min(low + T, N))[:, None]  # (T, 1)
        x, y, reset = documents.look_up(positions)
        losses, state = growing.losses(x, y, state, reset, documents.labels_at(positions))
        total += float(np.sum(losses, dtype=np.float64))
        report(low + len(positions))
    return total / N if N else math.nan
