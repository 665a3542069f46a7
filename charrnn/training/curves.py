"""Training and validation loss over the epochs: the points, round ticks for axes, and SVG.

Plain Python, so that the command line can use it without importing NumPy.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from charrnn.errors import printable

WIDTH, HEIGHT = 720, 420  # pixels
LEFT, RIGHT, TOP, BOTTOM = 64, 144, 80, 52  # margins
LABEL_GAP = 16  # pixels between the baselines of two labels
TRAINING, VALIDATION, BEST = "#d9730d", "#0b6e99", "#2f7d4f"  # distinct for the colour-blind, too
TEXT, FAINT, GRID = "#37352f", "#787774", "#ececea"
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, Helvetica, Arial, sans-serif"

Point = tuple[float, float]  # epoch, loss in nats a character


@dataclass(frozen=True, slots=True)
class Curves:
    """The losses of a history, by epoch, without those that are missing."""

    training: tuple[Point, ...]  # measured during training, with dropout
    validation: tuple[Point, ...]

    @classmethod
    def of(cls, history: Iterable[Mapping[str, Any]]) -> Curves:
        """From the rows of a model file's history, with "epoch", "train_loss" and "val_loss"."""
        rows = list(history)

        def column(name: str) -> tuple[Point, ...]:
            found = ((row["epoch"], row[name]) for row in rows if row[name] is not None)
            # These comparisons leave out NaN. Values beyond the limits come from no training, but from edited
            # files.
            return tuple((float(x), float(y)) for x, y in found if 0 <= x <= 1e9 and abs(y) <= 1e6)

        return cls(column("train_loss"), column("val_loss"))

    @property
    def best(self) -> Point | None:
        """The first point with the lowest validation loss."""
        return min(self.validation, key=lambda point: point[1], default=None)

    def bounds(self) -> tuple[float, float, float]:
        """The last epoch, the lowest loss and the highest, widened where they would coincide."""
        points = [*self.training, *self.validation]
        losses = [loss for _, loss in points]
        low, high = min(losses), max(losses)
        if high - low < 1e-3:
            low, high = low - 0.05, high + 0.05
        return max(max(epoch for epoch, _ in points), 1e-6), low, high

    def __bool__(self) -> bool:
        return bool(self.training or self.validation)


@dataclass(frozen=True, slots=True)
class Labels:
    """The labels of a picture; they may contain any characters."""

    title: str
    subtitle: str
    training: str  # the names of the two curves
    validation: str


@dataclass(frozen=True, slots=True)
class Plot:
    """Curves with their labels, which notebooks draw."""

    curves: Curves
    labels: Labels

    def _repr_html_(self) -> str:
        return svg(self.curves, self.labels) if self.curves else "<p>no loss was measured yet</p>"


Line = tuple[tuple[Point, ...], str, str]  # points, colour, name


def lines(curves: Curves, labels: Labels) -> list[Line]:
    """The curves that have points."""
    both = (curves.training, TRAINING, labels.training), (curves.validation, VALIDATION, labels.validation)
    return [line for line in both if line[0]]


def step_size(span: float, parts: int) -> float:
    """The smallest of 1, 2, 5, 10, ... times a power of ten that cuts `span` into at most `parts` parts.

    A span of 1.3 in at most 5 parts: steps of 0.5, since those of 0.2 would be 7.
    """
    power = 10.0 ** math.floor(math.log10(span / parts))
    return next(power * n for n in (1, 2, 5, 10, 20) if span / (power * n) <= parts * (1 + 1e-9))


def ticks(low: float, high: float, parts: int) -> list[tuple[float, str]]:
    """At most `parts` + 1 round numbers from `low` to `high`, each with its label."""
    step = step_size(high - low, parts)
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [(n * step, f"{n * step:,.{digits}f}") for n in range(first, last + 1)]


def power_ticks(low: float, high: float, parts: int) -> list[tuple[float, str]]:
    """The same of logarithms: round numbers between the powers `low` and `high` of ten, with their labels.

    -1.2 to 0.5 in at most 8 parts: 1e-1, 2e-1, 5e-1, 1 and 2, at their logarithms.
    """
    first, last = math.floor(low), math.ceil(high)
    for digits in (range(1, 10), (1, 2, 5), (1, 3), (1,)):
        every = [(n + math.log10(digit), digit, n) for n in range(first, last + 1) for digit in digits]
        found = [
            (value, f"{digit}e{n}" if n else f"{digit}") for value, digit, n in every if low <= value <= high
        ]
        if len(found) <= parts + 1:
            return found
    step = -(-len(found) // parts)
    return [(value, label) for value, label in found if round(value) % step == 0]


def svg(curves: Curves, labels: Labels) -> str:
    """The curves as a self-contained picture, with axes, a name at each line, and the best point marked.

    The curves have at least one point.
    """
    end, low, high = curves.bounds()
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    room = 0.06 * (high - low)

    def x_of(epoch: float) -> float:
        return LEFT + (right - LEFT) * epoch / end

    def y_of(loss: float) -> float:
        return bottom - (bottom - TOP) * (loss - low + room) / (high - low + 2 * room)

    rows = [(y_of(value), label) for value, label in ticks(low - room, high + room, 8)]
    columns = [(x_of(value), label) for value, label in ticks(0.0, end, 8)]
    parts = [
        *head(labels.title, labels.subtitle, _described(curves)),
        *axes(rows, columns, "epoch", "loss, nats a character"),
    ]
    drawn = lines(curves, labels)
    for points, colour, _ in drawn:
        places = [(x_of(epoch), y_of(loss)) for epoch, loss in points]
        parts.append(curve(places, colour))
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="{colour}"/>' for x, y in places]
    heights = apart([y_of(points[-1][1]) for points, _, _ in drawn], LABEL_GAP)
    for (points, colour, name), y in zip(drawn, heights, strict=True):
        parts.append(text(x_of(points[-1][0]) + 10, y + 4, name, colour))
    if curves.best is not None:
        epoch, loss = curves.best
        x, y = x_of(epoch), y_of(loss)
        # The label is above the drawing, where it covers no curve.
        parts.append(f'<path d="M{x:.1f} {TOP}V{bottom}" stroke="{BEST}" stroke-dasharray="2 3"/>')
        parts.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="#ffffff" stroke="{BEST}" stroke-width="2.5"/>'
        )
        moment = f"best {loss:.4f} at epoch {epoch:,.1f}"
        parts.append(text(x, TOP - 6, moment, BEST, anchor=_side(x, right), weight="600"))
    return "\n".join([*parts, "</svg>", ""])


def head(title: str, subtitle: str, description: str) -> list[str]:
    """The beginning of a picture."""
    return [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" '
        f'height="{HEIGHT}" role="img" font-family="{FONT}" font-size="12">',
        f"<title>{_escaped(title)}</title>",
        f"<desc>{_escaped(description)}</desc>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        text(LEFT, 24, title, TEXT, size=14, weight="600"),
        text(LEFT, 42, subtitle, FAINT),
    ]


def axes(
    rows: Iterable[tuple[float, str]], columns: Iterable[tuple[float, str]], x_name: str, y_name: str
) -> list[str]:
    """A line for each row, at its height; a label for each column, at its x; and the names of the axes."""
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    parts = []
    for y, label in rows:
        parts.append(f'<path d="M{LEFT} {y:.1f}H{right}" stroke="{GRID}"/>')
        parts.append(text(LEFT - 8, y + 4, label, FAINT, anchor="end"))
    parts += [text(x, bottom + 18, label, FAINT, anchor="middle") for x, label in columns]
    parts.append(f'<path d="M{LEFT} {bottom}H{right}" stroke="{FAINT}"/>')
    parts.append(text((LEFT + right) / 2, HEIGHT - 12, x_name, FAINT, anchor="middle"))
    parts.append(
        f'<text transform="translate(16 {(TOP + bottom) / 2:.1f}) rotate(-90)" fill="{FAINT}" '
        f'text-anchor="middle">{_escaped(y_name)}</text>'
    )
    return parts


def curve(places: Iterable[tuple[float, float]], colour: str) -> str:
    """A line through these places, in pixels."""
    return (
        f'<polyline points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in places)}" fill="none" '
        f'stroke="{colour}" stroke-width="2" stroke-linejoin="round" stroke-linecap="round"/>'
    )


def _side(x: float, right: float) -> str:
    """The text anchor that keeps a label at x inside the picture."""
    if x < LEFT + 80:
        return "start"
    return "end" if x > right - 20 else "middle"


def _described(curves: Curves) -> str:
    if curves.best is None:
        return "Training loss by epoch."
    epoch, loss = curves.best
    return f"Loss by epoch. The best validation loss, {loss:.4f} nats a character, was at epoch {epoch:,.1f}."


def text(
    x: float, y: float, words: str, colour: str, *, anchor: str = "start", size: int = 12, weight: str = "400"
) -> str:
    """Words at a place, in pixels."""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}" text-anchor="{anchor}" font-size="{size}" '
        f'font-weight="{weight}">{_escaped(words)}</text>'
    )


def _escaped(words: str) -> str:
    """The text as XML can hold it: escaped, without control characters."""
    return html.escape(printable(words).encode("utf-8", "replace").decode())


def apart(heights: Sequence[float], gap: float) -> list[float]:
    """The heights, moved apart to `gap` where they are closer, as little as possible, in the same order."""
    order = sorted(range(len(heights)), key=heights.__getitem__)
    groups: list[tuple[float, int]] = []  # sum and number of heights, less their place times the gap
    for place, n in enumerate(order):
        total, count = heights[n] - place * gap, 1
        while groups and groups[-1][0] / groups[-1][1] > total / count:
            before = groups.pop()
            total, count = before[0] + total, before[1] + count
        groups.append((total, count))
    first = [total / count for total, count in groups for _ in range(count)]
    moved = {n: first[place] + place * gap for place, n in enumerate(order)}
    return [moved[n] for n in range(len(heights))]
