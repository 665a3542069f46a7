"""Which learner the settings ask for."""

from __future__ import annotations

from charrnn.config import TrainConfig
from charrnn.nn.learning.apart import LocalLearner
from charrnn.nn.learning.learner import AnyModel, Learner
from charrnn.nn.learning.sharded import ShardedLearner


def learner_of(model: AnyModel, train: TrainConfig, B: int, beside: str | None = None) -> Learner[AnyModel]:
    """What learns with these settings from batches of B columns; `beside` as Learner takes it."""
    if train.shards == 1:
        return Learner(model, train, B, beside)
    return (ShardedLearner if train.sync_every == 1 else LocalLearner)(model, train, B, beside)
