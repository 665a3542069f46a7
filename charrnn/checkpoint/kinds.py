"""The kinds of models: what they do, and which command is for each."""

from __future__ import annotations

from charrnn.checkpoint.model_file import Checkpoint
from charrnn.config import Kind
from charrnn.errors import CheckpointError

# What a model of each kind is called, and the command that uses it.
NAMES: dict[Kind, str] = {
    "writer": "a model that writes",
    "classifier": "a classifier",
    "restorer": "a model that restores",
    "tagger": "a tagger",
    "rewriter": "a model that rewrites",
}
COMMANDS: dict[Kind, str] = {
    "writer": "sample",
    "classifier": "classify",
    "restorer": "restore",
    "tagger": "tag",
    "rewriter": "rewrite",
}
TASKS = {COMMANDS[kind]: kind for kind in COMMANDS if kind != "writer"}  # of `train --task`


def require(model: Checkpoint, *kinds: Kind) -> Checkpoint:
    """The model, which is of one of these kinds. CheckpointError: it is not."""
    kind = model.config.kind
    if kind not in kinds:
        wanted = " or ".join(NAMES[other] for other in kinds)
        raise CheckpointError(
            f"the model is {NAMES[kind]}, and this takes {wanted}", f"charrnn {COMMANDS[kind]} is for it"
        )
    return model
