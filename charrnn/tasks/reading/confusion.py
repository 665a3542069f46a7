"""How well classes are told: how many are right, which are confused, and what the probabilities are worth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from charrnn.labels import Column
from charrnn.nn.parameters import Array
from charrnn.tasks.evaluation import Evaluation

BINS = 15  # of probabilities, of the same width


@dataclass(frozen=True, eq=False)
class Confusion:
    """What was told of the texts of each class of a column, and the calibration of the probabilities."""

    column: Column
    counts: npt.NDArray[np.float64]  # (N, N): texts of the class of the row that were taken for the column's
    # Naeini et al. 2015: the mean distance of the probability of what is told from the share that is right.
    calibration_error: float

    @classmethod
    def of(cls, column: Column, probabilities: Array, counts: Array) -> Confusion:
        """From the probabilities (R, N) and how often each text has each class (R, N)."""
        told, sure = probabilities.argmax(axis=1), probabilities.max(axis=1)
        N = len(column.labels)
        found, texts = np.zeros((N, N)), counts.sum(axis=1, dtype=np.float64)
        np.add.at(found.T, told, counts)
        right = counts[np.arange(len(told)), told]
        bins = np.minimum((sure * BINS).astype(np.int64), BINS - 1)
        gaps = np.bincount(bins, texts * sure - right, BINS)
        return cls(column, found, float(np.abs(gaps).sum() / max(texts.sum(), 1.0)))

    @property
    def texts(self) -> Array:
        """How many texts have each class, (N,)."""
        return np.asarray(self.counts.sum(axis=1))

    @property
    def accuracy(self) -> float:
        """The share of texts whose class was told."""
        return float(np.trace(self.counts) / max(self.counts.sum(), 1.0))

    @property
    def recall(self) -> Array:
        """The share of each class's texts whose class was told, (N,); NaN: there are none."""
        return _ratio(np.diag(self.counts), self.texts)

    @property
    def precision(self) -> Array:
        """The share that is right where each class was told, (N,); NaN: it never was."""
        return _ratio(np.diag(self.counts), self.counts.sum(axis=0))

    @property
    def f1(self) -> Array:
        """2 / (1 / recall + 1 / precision), (N,); NaN: no text has the class, and none is told it."""
        return _ratio(2 * np.diag(self.counts), self.texts + self.counts.sum(axis=0))

    @property
    def macro_f1(self) -> float:
        """The mean of the F1 of all classes that texts have or that were told."""
        f1 = self.f1
        return float(f1[~np.isnan(f1)].mean()) if not np.isnan(f1).all() else float("nan")

    def figures(self) -> dict[str, Any]:
        """The figures by name, as plain data."""
        each = zip(self.texts, self.recall, self.precision, self.f1, strict=True)
        return {
            "accuracy": self.accuracy,
            "macro_f1": self.macro_f1,
            "calibration_error": self.calibration_error,
            "labels": {
                label: dict(zip(("texts", "recall", "precision", "f1"), map(float, own), strict=True))
                for label, own in zip(self.column.labels, each, strict=True)
            },
            "confusion": self.counts.tolist(),
        }


@dataclass(frozen=True, slots=True)
class ClassEvaluation(Evaluation):
    """The loss of a classifier, in nats a text, and what it tells of each column."""

    texts: int
    columns: tuple[Confusion, ...]

    def figures(self) -> dict[str, Any]:
        """The figures by name, as plain data: those of the only column beside the others."""
        each = {confusion.column.name: confusion.figures() for confusion in self.columns}
        own = {"loss": self.loss, "texts": self.texts, "characters": self.characters}
        return own | (next(iter(each.values())) if len(each) == 1 else {"columns": each})


def _ratio(parts: Array, wholes: Array) -> Array:
    found: Array = np.divide(parts, wholes, out=np.full(len(parts), np.nan), where=wholes > 0)
    return found
