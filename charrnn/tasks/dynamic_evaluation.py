"""Dynamic evaluation: the network continues to learn from the evaluated text while it reads it.

Krause, Kahembwe, Murray & Renals, "Dynamic Evaluation of Neural Sequence Models" (ICML 2018). A text repeats
itself: its names, its words, its layout. Every character is predicted before anything is learnt from it, so
the loss is honest; but it is the loss of an adapting network, not comparable with that of a fixed one.

The text is read in segments, in order, the state carried along (zero where a document starts). After a
segment the weights p take a step along its gradient g, and one back towards the trained weights p0:

    p = p + decay (p0 - p) - rate g / (rms + epsilon)

This is the paper's RMS rule with its global decay, with one difference. The paper takes rms, the root mean
square of each weight's gradients, from the training text, which a model file does not contain; here it is
that of the gradients so far. A weight that was hardly ever needed would leap when it is, so epsilon is not
tiny but a share of the rms over all weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from charrnn.config import DynamicConfig
from charrnn.errors import CharrnnError
from charrnn.inference.mixed_model import InOrder
from charrnn.kernels import updates
from charrnn.kernels.machine.aligned import aligned
from charrnn.kernels.updates import BLOCK
from charrnn.nn.operands import Share
from charrnn.tasks.evaluation import Evaluation
from charrnn.text.documents import Documents

EPSILON = 0.1  # of the rms over all weights


@dataclass(frozen=True, slots=True)
class DynamicEvaluation(Evaluation):
    """The loss of the trained network over a text, and that of the adapting network."""

    dynamic_loss: float  # nats a character

    @property
    def dynamic_bpc(self) -> float:
        """Bits per character of the adapting network."""
        return self.dynamic_loss / math.log(2)


def dynamic_loss(
    model: InOrder,
    documents: Documents,
    config: DynamicConfig,
    report: Callable[[int], None] = lambda done: None,
) -> float:
    """The mean loss over every character, in nats, of a network that learns from each segment it has read.

    It does not depend on the number of threads. The model gets its trained weights back at the end.

    Raises:
        CharrnnError: the loss is no longer finite.
    """
    total, done = 0.0, 0
    for loss, count in segment_losses(model, documents, config):
        total += loss * count
        done += count
        report(done)
    return total / len(documents) if len(documents) else math.nan


def segment_losses(
    model: InOrder, documents: Documents, config: DynamicConfig
) -> Iterator[tuple[float, int]]:
    """For each segment, the mean loss before anything is learnt from it, and the number of characters."""
    parameters, gradients, workers = model.parameters.flat, model.gradients.flat, model.workers
    trained, squares = parameters.copy(), aligned(parameters.shape, parameters.dtype)  # of gradients, summed
    partial, total = np.zeros(-(-len(parameters) // BLOCK)), 0.0  # the sum of `squares`, by block and of all
    state = model.zero_state(1)

    def sum_squares(share: Share) -> None:
        updates.squared_norms(partial, gradients, *share.of(len(partial)))

    def move(share: Share) -> None:
        part = slice(*share.of(len(parameters)))
        updates.adapt(
            parameters[part], trained[part], gradients[part], squares[part],
            count, config.rate, config.decay, epsilon,
        )  # fmt: skip

    try:
        for count, first in enumerate(range(0, len(documents), config.segment), 1):
            positions = np.arange(first, min(first + config.segment, len(documents)))[:, None]  # (T, 1)
            x, y, reset = documents.look_up(positions)
            labels = documents.labels_at(positions)
            loss, state = model.gradient(x, y, state, reset, labels=labels)
            if not math.isfinite(loss):
                raise CharrnnError(
                    f"the network went astray while it adapted, at character {first:,}",
                    f"try a --rate below {config.rate:g}",
                )
            yield loss, len(positions)
            workers.run(sum_squares)
            total += float(np.sum(partial))
            epsilon = max(EPSILON * math.sqrt(total / (count * model.config.num_parameters)), 1e-12)
            workers.run(move)
    finally:
        parameters[:] = trained
