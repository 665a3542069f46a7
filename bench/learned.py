"""What was learnt: a run as plain data, and many runs as tables."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from report import NOTHING, Table

MOMENTS = (0.125, 0.25, 0.5, 0.75, 1.0)  # of the budget, in the tables of loss over time
Point = tuple[
    float, int, float, float
]  # seconds since the command started, step, training and validation loss


@dataclass
class Run:
    """One command: a recipe that learnt a text within a budget."""

    text: dict[str, Any]  # "name", "lines", "characters", "sha256"
    side: str  # as in recipes.Side
    recipe: str
    options: list[str]
    budget: dict[str, float]  # "minutes" or "steps"
    seed: int
    points: list[Point] = field(default_factory=list)  # one for each evaluation
    loss: float | None = None  # of the best model, over all validation characters; None: it failed
    error: str = ""  # why
    seconds: float = 0.0  # the whole command
    steps: int = 0
    parameters: int = 0
    chosen: dict[str, Any] = field(default_factory=dict)  # the network and the settings that it used
    load: float = 0.0  # processes on average in the last minute of the run

    @property
    def key(self) -> str:
        """What makes two runs the same."""
        parts = [self.text["sha256"], self.text["lines"], self.side, self.recipe, self.options,
                 self.budget, self.seed]  # fmt: skip
        return json.dumps(parts, sort_keys=True)

    @property
    def what(self) -> str:
        """tinyshakespeare, 3 minutes"""
        ((unit, amount),) = self.budget.items()
        lines = " (lines)" if self.text["lines"] else ""
        return f"{self.text['name']}{lines}, {amount:,g} {unit if amount != 1 else unit[:-1]}"

    @property
    def outcome(self) -> str:
        return (
            f"{self.loss:.4f} in {self.seconds:.0f} s" if self.loss is not None else f"failed: {self.error}"
        )

    def until(self, share: float) -> float | None:
        """The best validation loss that was measured in this share of the budget."""
        if "minutes" in self.budget:
            limit = 60.0 * self.budget["minutes"] * share
            there = [point[3] for point in self.points if point[0] <= limit or share >= 1]
        else:
            there = [point[3] for point in self.points if point[1] <= self.budget["steps"] * share]
        return min(there, default=None)


def final(runs: Sequence[Run]) -> Table:
    """The loss of each recipe on each text: the median over the seeds, and from where to where they lie."""
    names = _unique(run.recipe for run in runs)
    sides = {run.recipe: run.side for run in runs}
    ours = [name for name in names if sides[name] == "charrnn"]
    theirs = [name for name in names if sides[name] != "charrnn"]
    header = ["nats a character", *names] + (["best : best"] if ours and theirs else [])
    rows = []
    for what in _unique(run.what for run in runs):
        losses = {name: _losses(runs, what, name) for name in names}
        cells = [_spread(losses[name]) for name in names]
        if ours and theirs:
            best = [
                min((median(losses[name]) for name in group if losses[name]), default=None)
                for group in (ours, theirs)
            ]
            cells.append(NOTHING if None in best else f"{best[0] - best[1]:+.3f}")  # type: ignore[operator]
        rows.append((what, *cells))
    return Table(tuple(header), tuple(rows), _note(runs))


def over_time(runs: Sequence[Run]) -> list[Table]:
    """For each text the best loss so far at some moments: medians over the seeds."""
    tables = []
    for what in _unique(run.what for run in runs if run.points):
        names = _unique(run.recipe for run in runs if run.what == what and run.points)
        ((unit, amount),) = next(run.budget for run in runs if run.what == what).items()
        rows = []
        for share in MOMENTS:
            found = {name: _each(runs, what, name, lambda run, s=share: run.until(s)) for name in names}
            when = f"{60 * amount * share:,.0f} s" if unit == "minutes" else f"{amount * share:,.0f} steps"
            rows.append((when, *(_number(median(v) if v else None) for v in found.values())))
        tables.append(Table((what, *names), tuple(rows)))
    return tables


def failed(runs: Sequence[Run]) -> list[str]:
    """A line for each run that came to nothing."""
    return [f"{run.what}, seed {run.seed}: {run.recipe}: {run.error}" for run in runs if run.loss is None]


def _note(runs: Sequence[Run]) -> str:
    seeds = sorted({run.seed for run in runs})
    notes = []
    if len(seeds) > 1:
        notes.append(f"Medians over the seeds {', '.join(map(str, seeds))}, with the lowest and the highest.")
    for side in _unique(run.side for run in runs):
        over = [
            run.seconds - 60 * run.budget["minutes"]
            for run in runs
            if run.side == side and run.loss is not None and "minutes" in run.budget
        ]
        if over and max(over) > 0:
            notes.append(f"{side}'s commands took up to {max(over):.1f} s more than their minutes.")
    return " ".join(notes)


def _losses(runs: Sequence[Run], what: str, recipe: str) -> list[float]:
    return _each(runs, what, recipe, lambda run: run.loss)


def _each(runs: Sequence[Run], what: str, recipe: str, value: Callable[[Run], float | None]) -> list[float]:
    """The values of a recipe's runs on a text, but for those that have none."""
    values = (value(run) for run in runs if (run.what, run.recipe) == (what, recipe))
    return [v for v in values if v is not None]


def _unique(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(values))


def _spread(losses: list[float]) -> str:
    """1.412, or 1.412 (1.410 to 1.421)"""
    if len(losses) < 2:
        return _number(median(losses) if losses else None)
    return f"{median(losses):.3f} ({min(losses):.3f} to {max(losses):.3f})"


def _number(loss: float | None) -> str:
    return NOTHING if loss is None else f"{loss:.3f}"
