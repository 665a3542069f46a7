"""Numbers and foreign text as people read them."""

from __future__ import annotations

import json
import math

import pytest

from charrnn.cli import wording


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Århus 你好", "Århus 你好"),
        ("a\nb\t", "a\\nb\\t"),
        ("\x1b[31mred\x07", "\\x1b[31mred\\x07"),
        ("\u202egnp.exe", "\\u202egnp.exe"),  # would turn the line's direction round
        ("👩\u200d🚀", "👩\u200d🚀"),
    ],
)
def test_control_characters_become_visible_and_letters_stay(text: str, shown: str) -> None:
    assert wording.visible(text) == shown


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (3.21, "3.2 s"),
        (9.97, "10 s"),
        (59.6, "1 min 0 s"),
        (75, "1 min 15 s"),
        (3599.7, "1 h 0 min"),
        (4000, "1 h 7 min"),
    ],
)
def test_durations_carry_over(seconds: float, said: str) -> None:
    assert wording.duration(seconds) == said


def test_a_loss_that_has_exploded_is_short() -> None:
    assert wording.loss(1.4321) == "1.4321 nats/char (2.066 bits)"
    assert wording.loss(2.3112831134e25) == "2.31e+25 nats/char (3.33e+25 bits)"


def test_a_sparkline_spans_lowest_to_highest_and_squeezes_by_means() -> None:
    assert wording.sparkline([4, 2, 1, 1], 2) == "█▁"
    assert wording.sparkline(range(8), 8) == "▁▂▃▄▅▆▇█"
    assert len(wording.sparkline(range(1000), 40)) == 40
    assert wording.sparkline([1.0, math.nan, 2.0], 9) == "▁█"
    assert wording.sparkline([3.0, 3.0], 9) == "▁▁"
    assert wording.sparkline([], 9) == wording.sparkline([1.0], 0) == ""


def test_json_gets_no_nan() -> None:
    assert [wording.json_number(v) for v in (1.5, 2, math.nan, math.inf)] == [1.5, 2, None, None]


@pytest.mark.parametrize("values", [[1e308, 1e308, -1e308], [5e-324, 0.0], [-1e308] * 90, [0.0], [1e308]])
def test_a_sparkline_of_extreme_losses_is_drawn(values: list[float]) -> None:
    for width in (1, 2, 40):
        assert len(wording.sparkline(values, width)) == min(width, len(values))


def test_a_sparkline_is_as_high_as_its_values() -> None:
    assert wording.sparkline([4, 2, 1, 1], 2) == "█▁"
    assert wording.sparkline([1e-9, 2e-9, 3e-9], 3) == "▁▅█"


@pytest.mark.parametrize(
    "value", ["\x1b[31m", "\x9b2J", "\u202e", "\x7f", "\u2028", "\U000e0001", "日\U0001f600"]
)
def test_a_line_of_json_shows_nothing_that_a_terminal_obeys(value: str) -> None:
    line = wording.json_line({value: [value]})
    assert line.isprintable()
    assert json.loads(line) == {value: [value]}
    if value.isprintable():
        assert value in line
