"""The files of a run: its best model so far, and beside it the resume file.

A full disk does not end a run: a model that cannot be written stays in memory until it can. The resume
file is written only after the best model that it refers to, so that a killed run always resumes from files
that fit together.
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
    """The model file `model` of a run, its resume file, and a folder of the last `keeps` models."""

    def __init__(self, model: Path, keeps: int = 0) -> None:
        self.model, self.resume = model, resume_path(model)
        self.folder, self.keeps = kept_models_folder(model), keeps
        self.evaluated = math.inf  # validation loss of this run's model in the file; inf: there is none
        # The best model of this process. It stays in memory after `flush`, since its file may vanish.
        self.best: Checkpoint | None = None

    def clean(self) -> None:
        """Remove the temporary files of a killed run."""
        for path in (self.model, self.resume):
            atomic.clean(path)

    @property
    def worth_keeping(self) -> bool:
        """Whether there is an evaluated model of this run, in the file or still in memory."""
        return self.evaluated < math.inf or self.best is not None

    def flush(self) -> list[Saved]:
        """Write the best model, unless the file holds it.

        Raises:
            SaveError: it cannot be written.
        """
        best = self.best
        if best is None or (best.best_val_loss == self.evaluated and os.path.lexists(self.model)):
            return []
        save(best, self.model)
        self.evaluated = best.history[-1]["val_loss"]
        return [Saved(best.history[-1]["step"], self.model, self.evaluated, "model")]

    def keep_another(self, checkpoint: Checkpoint) -> list[Saved]:
        """Write a model into the folder, and remove all but the last few there.

        Raises:
            SaveError: it cannot be written.
        """
        step, loss = checkpoint.history[-1]["step"], checkpoint.history[-1]["val_loss"]
        path = self.folder / f"step-{step}-loss-{loss:.4f}{SUFFIX}"
        save(checkpoint, path)
        with contextlib.suppress(OSError):  # an extra model does no harm
            for old in sorted(self.folder.glob(f"step-*-loss-*{SUFFIX}"), key=_age)[: -self.keeps]:
                old.unlink()
        return [Saved(step, path, loss, "kept")]

    def complete(self, history: list[dict[str, Any]]) -> None:
        """Update the history in the model file, which was written when the model was best."""
        with contextlib.suppress(CheckpointError):  # then the history stays shorter, which does no harm
            best = self.best or (load(self.model) if self.evaluated < math.inf else None)
            if best is not None and len(best.history) < len(history):
                save(replace(best, history=list(history)), self.model)

    def save_resume(self, tensors: Mapping[str, Array], record: Mapping[str, Any], version: int) -> None:
        """Write the resume file, after `flush`; see model_file.save_resume."""
        save_resume(self.resume, tensors, record, version)

    def remove_resume(self) -> None:
        """Remove the resume file of a finished run. If that fails, resuming ends at once."""
        with contextlib.suppress(OSError):
            self.resume.unlink()


def kept_models_folder(model: Path) -> Path:
    """The folder of the last evaluated models: m.models/ beside m.safetensors."""
    return model.with_name(model.name.removesuffix(SUFFIX) + ".models")


def _age(path: Path) -> tuple[int, int]:
    """(time of writing, step): the step decides where clocks are coarse; an earlier run's may be higher."""
    word = path.name.split("-")[1]
    return path.stat().st_mtime_ns, int(word) if word.isdigit() else 0
