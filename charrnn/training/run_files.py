"""The two files that a run writes: its best model so far, and beside it what `--resume` needs.

A disk that is full for a while ends no run: what cannot be written stays in memory and is tried again.
The files never contradict each other, because the resume file is only written when the model file holds
the best model that it speaks of; a run that is killed goes on from files that fit together.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from charrnn.checkpoint.model_file import SUFFIX, Checkpoint, load, resume_path, save, save_resume
from charrnn.errors import CheckpointError
from charrnn.events import Saved
from charrnn.nn.parameters import Array
from charrnn.system import atomic


class Outputs:
    """The files of the run that writes the model file `model`, and the models evaluated last in a folder."""

    def __init__(self, model: Path, keeps: int = 0) -> None:
        self.model, self.resume = model, resume_path(model)
        self.folder, self.keeps = kept_models_folder(model), keeps
        self.evaluated = math.inf  # loss of this run's model that the file holds
        self._best: Checkpoint | None = None  # of this process
        self._waiting = False  # whether that could not be written yet

    def clean(self) -> None:
        """Remove what a killed run has left half written."""
        for path in (self.model, self.resume):
            atomic.clean(path)

    @property
    def worth_keeping(self) -> bool:
        """Whether there is an evaluated model of this run, in the file or still in memory."""
        return self.evaluated < math.inf or self._waiting

    def keep(self, checkpoint: Checkpoint) -> None:
        """The best model so far, evaluated. It stays in memory: the folder of its file may vanish."""
        self._best, self._waiting = checkpoint, True

    def flush(self) -> Saved | None:
        """Write the best model, if it is not in its file.

        Raises:
            SaveError: it cannot be written.
        """
        best = self._best
        if best is None or not (self._waiting or not os.path.lexists(self.model)):
            return None
        save(best, self.model)
        assert best.best_val_loss is not None
        self.evaluated, self._waiting = best.best_val_loss, False
        return Saved(best.history[-1]["step"], self.model, self.evaluated, "model")

    def keep_another(self, checkpoint: Checkpoint) -> Path:
        """Write a model that was just evaluated into the folder, and remove what is older than the last few.

        Raises:
            SaveError: it cannot be written.
        """
        step = checkpoint.history[-1]["step"]
        path = self.folder / f"step-{step}-loss-{checkpoint.best_val_loss:.4f}{SUFFIX}"
        save(checkpoint, path)
        with contextlib.suppress(OSError):  # one too many harms nobody
            for old in sorted(self.folder.glob(f"step-*-loss-*{SUFFIX}"), key=_age)[: -self.keeps]:
                old.unlink()
        return path

    def complete(self, history: list[dict[str, Any]]) -> None:
        """Let the model file, which was written when the model was best, know what came after."""
        with contextlib.suppress(CheckpointError):  # then it knows less, and is as good
            best = self._best or (load(self.model) if self.evaluated < math.inf else None)
            if best is not None and len(best.history) < len(history):
                save(replace(best, history=list(history)), self.model)

    def save_resume(self, tensors: Mapping[str, Array], record: Mapping[str, Any], version: int) -> None:
        """Write what the run needs to go on, after the model that it speaks of; see checkpoint.save_resume.

        Raises:
            SaveError: one of them cannot be written.
        """
        self.flush()
        save_resume(self.resume, tensors, record, version)

    def remove_resume(self) -> None:
        """The run is over. A resume file that cannot be removed harms nobody: to resume it ends at once."""
        with contextlib.suppress(OSError):
            self.resume.unlink()


def kept_models_folder(model: Path) -> Path:
    """Where the models that were evaluated last are kept: m.models/ beside m.safetensors."""
    return model.with_name(model.name.removesuffix(SUFFIX) + ".models")


def _age(path: Path) -> tuple[int, int]:
    """When it was written, and where clocks are coarse its step: an earlier run may have come further."""
    word = path.name.split("-")[1]
    return path.stat().st_mtime_ns, int(word) if word.isdigit() else 0
