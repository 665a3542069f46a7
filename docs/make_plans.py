"""Writes the table of plans into docs/quality.md: what `charrnn train` chooses for which text and time.

    python docs/make_plans.py

The speeds are those of an imagined machine that does 300 GFLOP a second whatever the size of a network, so
that the table is the same everywhere; a real run measures its own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from charrnn.config import ModelConfig, TrainConfig
from charrnn.training.planning.writing import plan

PAGE = Path(__file__).parent / "quality.md"
BEGIN, END = "<!-- plans -->", "<!-- /plans -->"
FLOPS = 3e11
LENGTHS = (11, 1_100, 20_000, 200_000, 1_100_000, 20_000_000, 2_000_000_000)
BUDGETS: tuple[dict[str, float], ...] = ({}, {"minutes": 1}, {"minutes": 3}, {"minutes": 10}, {"minutes": 60})


def table() -> str:
    """The plans as Markdown."""
    heads = ("characters", "asked for", "network", "batch", "dropout", "peak rate", "ends after")
    rows = [_row(characters, given) for characters in LENGTHS for given in BUDGETS]
    return "\n".join([_line(*heads), _line(*["---"] * len(heads)), *rows])


def _row(characters: int, given: dict[str, Any]) -> str:
    s = plan(characters, 65, given, _speed).settings
    asked = f"{given['minutes']:g} min" if given else "nothing"
    ends = f"{s['minutes']:g} min" if "minutes" in s else f"{s['epochs']:g} epochs"
    if "minutes" in s and "most_epochs" in s:
        ends += f", or {s['most_epochs']:g} epochs"
    network = f"LSTM {s.get('num_layers', ModelConfig(2).num_layers)} x {s['hidden_size']}"
    rate = s.get("learning_rate", TrainConfig(steps=1).learning_rate)
    return _line(
        f"{characters:,}", asked, network, s["batch_size"], f"{s.get('dropout', 0):g}", f"{rate:g}", ends
    )


def _speed(network: ModelConfig, batch_size: int, seq_len: int) -> float:
    return FLOPS / (6 * network.num_parameters)


def _line(*cells: object) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def page(text: str) -> str:
    """The page with the table of today in the place of its own."""
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n\n{table()}\n\n{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
