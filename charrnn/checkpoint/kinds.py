"""What models of each kind are called; a command that gets another kind than its own refuses it."""

from __future__ import annotations

from charrnn.checkpoint.model_file import Checkpoint
from charrnn.config import COMMANDS, Kind
from charrnn.errors import CheckpointError

NAMES: dict[Kind, str] = {
    "writer": "a model that writes",
    "classifier": "a classifier",
    "restorer": "a model that restores",
    "tagger": "a tagger",
    "rewriter": "a model that rewrites",
    "filler": "a model that fills gaps",
}


def require(model: Checkpoint, *kinds: Kind) -> Checkpoint:
    """The model, which is of one of these kinds. CheckpointError: it is not."""
    kind = model.config.kind
    if kind not in kinds:
        wanted = " or ".join(NAMES[other] for other in kinds)
        raise CheckpointError(
            f"the model is {NAMES[kind]}, and this takes {wanted}", f"charrnn {COMMANDS[kind]} is for it"
        )
    return model
