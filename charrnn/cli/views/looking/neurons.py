"""What `charrnn neurons` shows of units: lines for people, figures for JSON."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import TYPE_CHECKING, Any

from charrnn.cli.wording import count, json_number, json_text, visible
from charrnn.config import ModelConfig

if TYPE_CHECKING:
    from charrnn.neurons.ranking import RankedUnit, Ranking

_AREA = f"{'unit':<10}{'area':>7}{'inside':>9}{'outside':>9}{'selectivity':>13}   furthest from rest after"
_SELECTIVITY = f"{'unit':<10}{'selectivity':>11}{'rest':>9}{'peak':>9}   after"


def measure(config: ModelConfig) -> str:
    """What of a unit is shown."""
    from charrnn.neurons.units import measure

    return measure(config.recurrence)


def chosen(ranking: Ranking, most: int | None) -> list[RankedUnit]:
    """The first units or, where nothing was looked for, the first of each layer."""
    if ranking.feature:
        return ranking.units[:most]
    layers = groupby(ranking.units, key=lambda found: found.unit.layer)
    return [found for _, group in layers for found in list(group)[:most]]


def table(ranking: Ranking, units: list[RankedUnit], config: ModelConfig) -> Iterator[str]:
    """The lines of a table."""
    shown = f"{measure(config)} after each of {count(ranking.characters)} characters"
    if ranking.feature:
        yield f"{visible(ranking.feature)}: {ranking.share:.1%} of the characters"
        yield f"{shown}; the area under the ROC curve, of units that go up or down inside"
        yield ""
        yield _AREA
        for found in units:
            assert found.auc is not None
            area = max(found.auc, 1 - found.auc)
            yield (
                f"{found.unit!s:<10}{area:7.3f}{found.inside:+9.2f}{found.outside:+9.2f}"
                f"{found.selectivity:13.3f}   {_text(found.after)}"
            )
        return
    yield f"{shown}; selectivity is the sparseness of how far a unit is from rest"
    for layer, group in groupby(units, key=lambda found: found.unit.layer):
        several = list(group)
        yield ""
        yield f"layer {layer}: {len(several)} of {count(config.hidden_size)} units"
        yield _SELECTIVITY
        for found in several:
            yield (
                f"{found.unit!s:<10}{found.selectivity:11.3f}{found.rest:+9.2f}{found.peak:+9.2f}"
                f"   {_text(found.after)}"
            )


def _text(text: str) -> str:
    """The text, its end so that a space there shows."""
    return f"'{visible(text)}'"


def figures(found: RankedUnit, raw_bytes: bool) -> dict[str, Any]:
    """A unit's figures for JSON."""
    values = {
        "unit": str(found.unit), "layer": found.unit.layer, "number": found.unit.number,
        "selectivity": found.selectivity, "rest": found.rest, "peak": found.peak,
    }  # fmt: skip
    if found.auc is not None:
        values |= {"auc": found.auc, "inside": found.inside, "outside": found.outside}
    return {name: json_number(value) for name, value in values.items()} | {
        "after": json_text(found.after, raw_bytes)
    }
