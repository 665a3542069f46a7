"""Charts in braille characters of 2 x 4 dots, as plain data; charrnn.cli.views.terminal colours them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from charrnn.training.curves import power_ticks, step_size, ticks

_BLANK = 0x2800
_DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))  # by column, then row from the top
LABEL_WIDTH = 7  # of the labels left of the chart: "  1.25 "
# The share of a curve's points, at its start, that the scale ignores: the loss falls steeply there.
EARLY = 0.1

Point = tuple[float, float]  # x from 0 to 1, y
Span = tuple[str, str]  # characters and their common style; "": plain


@dataclass(frozen=True, slots=True)
class Line:
    """One curve: its points from left to right, and their style."""

    points: Sequence[Point]
    style: str


def draw(
    lines: Sequence[Line],
    mark: Point | None,
    mark_style: str,
    width: int,
    height: int,
    *,
    powers: bool = False,
) -> list[list[Span]]:
    """`height` rows, each a label and `width` characters, as spans of one style.

    Later lines are drawn over earlier ones, and `mark`, a ●, over all. The scale follows the points in round
    steps, so that it rarely changes. With `powers`, each y is a power of ten, and all points are in view.
    """
    low, high = scale([line.points for line in lines], height, early=0.0 if powers else EARLY)
    dots = [[0] * width for _ in range(height)]
    styles = [[""] * width for _ in range(height)]
    for line in lines:
        for column, row in _raster(line.points, low, high, width, height):
            cell = dots[row // 4]
            cell[column // 2] |= _DOTS[column % 2][row % 4]
            styles[row // 4][column // 2] = line.style
    cells = [[chr(_BLANK + bits) if bits else " " for bits in row] for row in dots]
    if mark is not None and low <= mark[1] <= high:
        column, row = _place(*mark, low, high, width, height)
        cells[row // 4][column // 2] = "●"
        styles[row // 4][column // 2] = mark_style
    labels = [""] * height
    for value, label in (power_ticks if powers else ticks)(low, high, max(1, height // 2)):
        short = label if len(label) < LABEL_WIDTH else f"{value:.1e}".replace("e+", "e")
        labels[_place(0.0, value, low, high, width, height)[1] // 4] = short
    return [
        [(f"{label:>{LABEL_WIDTH - 1}} ", "dim"), *_spans(row, row_styles)]
        for label, row, row_styles in zip(labels, cells, styles, strict=True)
    ]


def scale(curves: Sequence[Sequence[Point]], height: int, *, early: float = EARLY) -> tuple[float, float]:
    """The lowest and the highest value shown: multiples of a round step that enclose the curves."""
    values = []
    for points in curves:
        finite = [y for _, y in points if math.isfinite(y)]
        values += finite[int(early * len(finite)) :]
    if not values:
        return 0.0, 1.0
    low, high = min(values), max(values)
    step = step_size(max(high - low, 0.02), max(1, height // 2))
    first = math.floor(low / step + 1e-9)
    return first * step, max(math.ceil(high / step - 1e-9), first + 1) * step


def _raster(
    points: Sequence[Point], low: float, high: float, width: int, height: int
) -> list[tuple[int, int]]:
    """The dots of a curve, (column, row) in a grid of 2 width x 4 height, without those outside it."""
    finite = [point for point in points if math.isfinite(point[1])]
    places = [_place(x, y, low, high, width, height) for x, y in finite]
    dots = set(places[:1])
    for (x0, y0), (x1, y1) in pairwise(places):
        steps = max(abs(x1 - x0), abs(y1 - y0), 1)
        dots |= {
            (round(x0 + (x1 - x0) * n / steps), round(y0 + (y1 - y0) * n / steps)) for n in range(steps + 1)
        }
    return sorted(dot for dot in dots if 0 <= dot[1] < 4 * height)


def _place(x: float, y: float, low: float, high: float, width: int, height: int) -> tuple[int, int]:
    """The dot at (x, y); x is clipped to the grid, y to one more chart height above and below."""
    column = round(min(max(x, 0.0), 1.0) * (2 * width - 1))
    row = (high - y) / (high - low) * (4 * height - 1)
    return column, round(min(max(row, -4.0 * height), 8.0 * height))


def _spans(cells: Sequence[str], styles: Sequence[str]) -> list[Span]:
    spans: list[Span] = []
    for cell, style in zip(cells, styles, strict=True):
        if spans and (spans[-1][1] == style or cell == " "):
            spans[-1] = (spans[-1][0] + cell, spans[-1][1])
        else:
            spans.append((cell, style))
    return spans
