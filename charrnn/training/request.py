"""A user's request for a training run, checked before a long text is read."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Protocol

from charrnn.checkpoint.model_file import resume_path
from charrnn.config import (
    TELL_CHARACTERS,
    Kind,
    ModelConfig,
    TextConfig,
    TrainConfig,
    has_memory,
    is_made,
    without_attention,
)
from charrnn.errors import ConfigError
from charrnn.ranks.ranks import ALONE, Ranks
from charrnn.system.file_errors import refuse_overwriting
from charrnn.tasks.task import Assignment
from charrnn.training.planning.writing import BUDGETS

MODEL_SETTINGS = {f.name for f in fields(ModelConfig)} - {
    "vocab_size",
    "ends",
    "labels",
    "given",
    "kind",
    "targets",
}
TRAIN_SETTINGS = {f.name for f in fields(TrainConfig)}
MOST_KEPT = 10_000  # models to keep beside the best
_MODELS = Path("checkpoints")
_OF_SHARDS = {"shards": "--shards", "sync_every": "--sync-every"}


class Named(Protocol):
    """What has a name."""

    @property
    def name(self) -> str:
        """A name for files."""


@dataclass(frozen=True)
class Target:
    """The model file of a run, and how to treat earlier runs of that file."""

    out: Path | None = None  # None: named after the task
    resume: bool = False
    force: bool = False
    keep_models: int = 0


@dataclass(frozen=True)
class Request:
    """The arguments of `charrnn.api.train`."""

    assignment: Assignment
    text: TextConfig = TextConfig()  # noqa: RUF009 (frozen)
    target: Target = Target()
    init_from: str | Path | None = None
    from_scratch: bool = False  # not from the base model, even where that helps
    threads: int | None = None
    ranks: Ranks = ALONE
    # Of ModelConfig (except vocab_size, ends and labels) and TrainConfig; None: chosen to suit the corpus.
    settings: dict[str, Any] = field(default_factory=dict)

    def checked(self) -> dict[str, Any]:
        """The given settings.

        Raises:
            ConfigError: one is out of range or contradicts another.
            TypeError: there is no such setting.
        """
        target = self.target
        if unknown := self.settings.keys() - MODEL_SETTINGS - (TRAIN_SETTINGS - {"val_text"}):
            raise TypeError(f"train() has no settings named {', '.join(sorted(unknown))}")
        given = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in self.settings.items()
            if value is not None
        }
        if len(budgets := sorted(given.keys() & BUDGETS)) > 1:
            raise ConfigError(
                f"the budget is given as {' and as '.join(budgets)}",
                "give one of --minutes, --epochs and --steps",
            )
        if target.resume and self.init_from is not None:
            raise ConfigError("--resume and --init-from contradict each other", "give one of them")
        if self.from_scratch and self.init_from is not None:
            raise ConfigError("--from-scratch and --init-from contradict each other", "give one of them")
        self.assignment.check(given)
        # The text of an interrupted run is known when its file has been read.
        if "shuffle_fields" in given and not (self.text.records or target.resume):
            raise ConfigError(
                "--shuffle-fields is for fields of records, and this is one text",
                "give --lines, --split or --field, too",
            )
        if not 0 <= target.keep_models <= MOST_KEPT:
            raise ConfigError(
                f"keep-models is {target.keep_models}", f"give a whole number from 0 to {MOST_KEPT:,}"
            )
        kind, cell = self.assignment.kind, str(given.get("cell", ""))
        if "attention" in given and (kind != "rewriter" or has_memory(cell)):
            raise without_attention(kind, cell)
        example(kind, given)
        TrainConfig(**({} if budgets else {"steps": 1}) | only(given, TRAIN_SETTINGS))
        shards: Any = given.get("shards", self.ranks.shards or 1)
        apart = given.get("sync_every", 1) != 1
        if is_made(cell) and (shards > 1 or apart):
            said = [option for name, option in _OF_SHARDS.items() if name in given]
            raise ConfigError(
                f"--cell {cell} learns from whole batches, and shards are parts of one",
                f"leave out {' and '.join(said)}" if said else "start it without mpirun",
            )
        if apart and shards == 1 and not target.resume:
            raise ConfigError(
                "--sync-every says how long the shards of a batch learn apart, and there is only one",
                "give --shards 8, too, or start it with mpirun",
            )
        if not target.resume:
            refuse_too_many(self.ranks.size, shards)
        return given

    def path(self) -> Path:
        """The model file that the run writes.

        Raises:
            ConfigError: it is a folder, or one of the files to read.
            CorpusError: a file to read does not exist.
        """
        out = model_path(self.assignment, self.target.out)
        if os.path.isdir(out):
            instead = model_path(self.assignment, None, out)
            raise ConfigError(f"{out} is a folder", f"name the model file: -o {instead}")
        reading = self.assignment.files()
        for path in (out, resume_path(out)):
            refuse_overwriting(path, reading)
        return out


def refuse_too_many(ranks: int, shards: int) -> None:
    """ConfigError: a rank would have nothing to do."""
    if ranks > shards:
        raise ConfigError(
            f"there are {ranks} ranks for {shards} shard{'s' * (shards > 1)} of a batch",
            f"mpirun -n {shards}, or --shards {ranks} for a new run",
        )


def example(kind: Kind, given: dict[str, Any]) -> ModelConfig:
    """A network of this kind with the given settings, for the smallest texts."""
    targets = () if kind in TELL_CHARACTERS else (1,)
    return ModelConfig(1, **only(given, MODEL_SETTINGS), kind=kind, targets=targets)


def model_path(assignment: Named, out: Path | None, folder: Path = _MODELS) -> Path:
    """The model file of a run: `out` or, without it, a file in `folder` named after the task."""
    return folder / f"{assignment.name}.safetensors" if out is None else out


def only(settings: dict[str, Any], names: set[str]) -> dict[str, Any]:
    """The settings of these names."""
    return {name: value for name, value in settings.items() if name in names}
