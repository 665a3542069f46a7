"""Curves of sizes that differ by orders of magnitude, as SVG: each step up is a power of ten."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from charrnn.training import curves
from charrnn.training.curves import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH

COLOURS = ("#0b6e99", "#d9730d", "#2f7d4f", "#ad1a72", "#6940a5", "#787774")  # from the first curve on
LEAST_SPAN = 0.5  # powers of ten: there is a round number in it


class Curve(NamedTuple):
    """Its points from left to right, and its name."""

    points: Sequence[tuple[float, float]]
    name: str


class Words(NamedTuple):
    """What stands around the curves; it may hold any characters."""

    title: str
    subtitle: str
    across: str
    up: str


def svg(drawn: Sequence[Curve], words: Words, level: tuple[float, str] | None = None) -> str:
    """The points that are above 0 and finite, with axes, and a name at the end of each curve.

    A `level` is a dashed line across at a height, with its name.
    """
    kept = [
        Curve([(x, math.log10(y)) for x, y in line.points if 0 < y < math.inf], line.name) for line in drawn
    ]
    kept = [line for line in kept if line.points]
    logs = [y for line in kept for _, y in line.points] + ([math.log10(level[0])] if level else [])
    low, high = (min(logs), max(logs)) if logs else (0.0, 1.0)
    if high - low < LEAST_SPAN:
        low, high = (low + high - LEAST_SPAN) / 2, (low + high + LEAST_SPAN) / 2
    first = min((line.points[0][0] for line in kept), default=0.0)
    last = max((line.points[-1][0] for line in kept), default=1.0)
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    room = 0.04 * (high - low)

    def x_of(x: float) -> float:
        return LEFT + (right - LEFT) * (x - first) / max(last - first, 1e-9)

    def y_of(y: float) -> float:
        return bottom - (bottom - TOP) * (y - low + room) / (high - low + 2 * room)

    rows = [(y_of(value), label) for value, label in curves.power_ticks(low - room, high + room, 8)]
    columns = [(x_of(value), label) for value, label in curves.ticks(first, max(last, first + 1), 8)]
    names = ", ".join(line.name for line in kept)
    parts = [
        *curves.head(words.title, words.subtitle, f"{words.up}, by {words.across}: {names}."),
        *curves.axes(rows, columns, words.across, words.up),
    ]
    coloured = [(line, COLOURS[n % len(COLOURS)]) for n, line in enumerate(kept)]
    parts += [curves.curve([(x_of(x), y_of(y)) for x, y in line.points], colour) for line, colour in coloured]
    heights = curves.apart([y_of(line.points[-1][1]) for line in kept], curves.LABEL_GAP)
    for (line, colour), y in zip(coloured, heights, strict=True):
        parts.append(curves.text(x_of(line.points[-1][0]) + 10, y + 4, line.name, colour))
    if level is not None:
        y = y_of(math.log10(level[0]))
        parts.append(f'<path d="M{LEFT} {y:.1f}H{right}" stroke="{curves.FAINT}" stroke-dasharray="4 4"/>')
        parts.append(curves.text(LEFT + 6, y - 5, level[1], curves.FAINT))
    return "\n".join([*parts, "</svg>", ""])
