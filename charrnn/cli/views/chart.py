"""Curves in characters: braille cells of 2 x 4 dots. Pure; charrnn.cli.views.terminal gives it colours."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from charrnn.training.curves import step_size, ticks

_BLANK = 0x2800
_DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))  # by column, then row from the top
LABEL_WIDTH = 7  # of what stands left of the drawing: "  1.25 "
_EARLY = 0.1  # of a curve: its first steep fall may leave the picture at the top

Point = tuple[float, float]  # x from 0 to 1, y
Run = tuple[str, str]  # characters and the style they have in common; "": plain


@dataclass(frozen=True, slots=True)
class Line:
    """One curve: its points from left to right, and how they look."""

    points: Sequence[Point]
    style: str


def draw(
    lines: Sequence[Line], mark: Point | None, mark_style: str, width: int, height: int
) -> list[list[Run]]:
    """`height` rows, each of `width` characters after its label, as runs of one style.

    A later line lies over an earlier one; `mark` is a ● over all. The scale follows the points in steps of
    round numbers, so that it seldom moves.
    """
    low, high = scale([line.points for line in lines], height)
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
    for value, label in ticks(low, high, max(1, height // 2)):
        short = label if len(label) < LABEL_WIDTH else f"{value:.1e}".replace("e+", "e")
        labels[_place(0.0, value, low, high, width, height)[1] // 4] = short
    return [
        [(f"{label:>{LABEL_WIDTH - 1}} ", "dim"), *_runs(row, row_styles)]
        for label, row, row_styles in zip(labels, cells, styles, strict=True)
    ]


def scale(curves: Sequence[Sequence[Point]], height: int) -> tuple[float, float]:
    """The lowest and the highest value shown: multiples of a round step around what the curves hold."""
    values = []
    for points in curves:
        finite = [y for _, y in points if math.isfinite(y)]
        values += finite[int(_EARLY * len(finite)) :]
    if not values:
        return 0.0, 1.0
    low, high = min(values), max(values)
    step = step_size(max(high - low, 0.02), max(1, height // 2))
    first = math.floor(low / step + 1e-9)
    return first * step, max(math.ceil(high / step - 1e-9), first + 1) * step


def _raster(
    points: Sequence[Point], low: float, high: float, width: int, height: int
) -> list[tuple[int, int]]:
    """The dots of a curve, (column, row) in a grid of 2 width x 4 height; what lies outside is left out."""
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
    """The dot at (x, y); x is held inside, y may lie outside by a picture's height."""
    column = round(min(max(x, 0.0), 1.0) * (2 * width - 1))
    row = (high - y) / (high - low) * (4 * height - 1)
    return column, round(min(max(row, -4.0 * height), 8.0 * height))


def _runs(cells: Sequence[str], styles: Sequence[str]) -> list[Run]:
    runs: list[Run] = []
    for cell, style in zip(cells, styles, strict=True):
        if runs and (runs[-1][1] == style or cell == " "):
            runs[-1] = (runs[-1][0] + cell, runs[-1][1])
        else:
            runs.append((cell, style))
    return runs
