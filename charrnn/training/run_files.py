"""The two files that a run writes: its best model so far, and beside it the resume file.

A full disk does not end a run: a model that cannot be written stays in memory, and is tried again. The resume
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
        self.evaluated = math.inf  # validation loss of the model of this run in the file
        self._best: Checkpoint | None = None  # of this process, not of the run it resumed
        self._waiting = False  # whether it is still to be written

    def clean(self) -> None:
        """Remove the temporary files that a killed run has left."""
        for path in (self.model, self.resume):
            atomic.clean(path)

    @property
    def worth_keeping(self) -> bool:
        """Whether there is an evaluated model of this run, in the file or still in memory."""
        return self.evaluated < math.inf or self._waiting

    def keep(self, checkpoint: Checkpoint) -> None:
        """Take the best model so far, evaluated. It stays in memory, since its file may vanish."""
        self._best, self._waiting = checkpoint, True

    def flush(self) -> list[Saved]:
        """Write the best model, unless the file holds it.

        Raises:
            SaveError: it cannot be written.
        """
        best = self._best
        if best is None or not (self._waiting or not os.path.lexists(self.model)):
            return []
        save(best, self.model)
        assert best.best_val_loss is not None
        self.evaluated, self._waiting = best.best_val_loss, False
        return [Saved(best.history[-1]["step"], self.model, self.evaluated, "model")]

    def keep_another(self, checkpoint: Checkpoint) -> list[Saved]:
        """Write a model into the folder, and remove all but the last few there.

        Raises:
            SaveError: it cannot be written.
        """
        step, loss = checkpoint.history[-1]["step"], checkpoint.history[-1]["val_loss"]
        path = self.folder / f"step-{step}-loss-{loss:.4f}{SUFFIX}"
        save(checkpoint, path)
        with contextlib.suppress(OSError):  # one too many does no harm
            for old in sorted(self.folder.glob(f"step-*-loss-*{SUFFIX}"), key=_age)[: -self.keeps]:
                old.unlink()
        return [Saved(step, path, loss, "kept")]

    def complete(self, history: list[dict[str, Any]]) -> None:
        """Update the history in the model file, which was written when the model was best."""
        with contextlib.suppress(CheckpointError):  # then its history is shorter, which does no harm
            best = self._best or (load(self.model) if self.evaluated < math.inf else None)
            if best is not None and len(best.history) < len(history):
                save(replace(best, history=list(history)), self.model)

    def save_resume(self, tensors: Mapping[str, Array], record: Mapping[str, Any], version: int) -> None:
        """Write the resume file, after `flush`; see model_file.save_resume."""
        save_resume(self.resume, tensors, record, version)

    def remove_resume(self) -> None:
        """Remove the resume file of a finished run. Left behind it does no harm: resuming ends at once."""
        with contextlib.suppress(OSError):
            self.resume.unlink()


def kept_models_folder(model: Path) -> Path:
    """The folder of the last evaluated models: m.models/ beside m.safetensors."""
    return model.with_name(model.name.removesuffix(SUFFIX) + ".models")


def _age(path: Path) -> tuple[int, int]:
    """(time of writing, step): the step decides where clocks are coarse; an earlier run's may be higher."""
    word = path.name.split("-")[1]
    return path.stat().st_mtime_ns, int(word) if word.isdigit() else 0
