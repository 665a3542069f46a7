"""Where the heads of a memory look, for a terminal and as a picture: steps go across, rows of memory down."""

from __future__ import annotations

import html as markup
from collections.abc import Iterator, Sequence
from typing import Any

from charrnn.cli.views.chart import Span
from charrnn.cli.wording import json_figures, visible
from charrnn.diagnosis.findings import Looks

Row = list[Span]  # of characters, each with its style

WIDTH, HEIGHT = 72, 24  # characters of a picture, at most
SHADES = " ░▒▓█"
LEAST = 0.1  # a weight that is shown
_LABEL = 8  # columns for the name of a row
_CELL, _TOP = 12, 40  # pixels


def of_looks(found: Looks) -> Iterator[Row]:
    """The rows for a terminal."""
    steps = min(len(found.read), WIDTH)
    rest = f", the first {steps} of {len(found.read)} steps" if steps < len(found.read) else ""
    for name, weights in (("the head that writes", found.writing), ("the head that reads", found.reading)):
        yield [(f"where {name} looks: rows of memory down{rest}", "")]
        first, last = _seen(weights[:steps])
        together = -(-(last + 1 - first) // HEIGHT)
        for low in range(first, last + 1, together):
            high = min(low + together, last + 1)
            row = "".join(_shade(max(step[low:high])) for step in weights[:steps])
            yield [(f"{low:>{_LABEL - 2}}  ", "dim"), (row, "cyan")]
        yield [("", "")]
    for name, characters in (("read", found.read), ("told", found.told)):
        if any(characters):
            shown = "".join(_narrow(character) for character in characters[:steps])
            yield [(f"{name:>{_LABEL - 2}}  ", "dim"), (shown, "")]


def _shade(weight: float) -> str:
    return SHADES[min(len(SHADES) - 1, int(weight * len(SHADES)))]


def _narrow(character: str) -> str:
    """One column for each character."""
    shown = visible(character)
    return "·" if not character else "¶" if character == "\n" else shown if len(shown) == 1 else "?"


def _seen(weights: Sequence[Sequence[float]]) -> tuple[int, int]:
    """The first and the last row at which a head looks."""
    rows = [i for i in range(len(weights[0])) if max(step[i] for step in weights) >= LEAST]
    return (rows[0], rows[-1]) if rows else (0, len(weights[0]) - 1)


def svg(found: Looks, name: str) -> Iterator[str]:
    """A self-contained picture. Pointing at a cell shows its weight."""
    steps, rows = len(found.read), len(found.reading[0])
    left, drawn, y = 4 * _CELL, [], float(_TOP)
    for title, weights in (("head that writes", found.writing), ("head that reads", found.reading)):
        drawn.append(_text(left, y - 16, f"{title}: rows of memory down, steps across", "start"))
        drawn.append(_text(left - 6, y + _CELL - 2, "0", "end"))
        drawn.append(_text(left - 6, y + rows * _CELL - 2, str(rows - 1), "end"))
        for t, step in enumerate(weights):
            for i, weight in enumerate(step):
                if weight >= 0.01:
                    box = f'x="{left + t * _CELL}" y="{y + i * _CELL:g}" width="{_CELL}" height="{_CELL}"'
                    said = markup.escape(f"step {t}, row {i}: {weight:.2f}")
                    drawn.append(
                        f'<rect class="w" {box} fill-opacity="{weight:.2f}"><title>{said}</title></rect>\n'
                    )
        y += rows * _CELL + 16
        for characters in (found.read, found.told):
            for t, character in enumerate(characters):
                if character:
                    drawn.append(_text(left + (t + 0.5) * _CELL, y, visible(character), "middle"))
            y += 16
        y += _TOP
    label = f'role="img" aria-label="{markup.escape(f"Where the heads of {name} look")}"'
    size = f'width="{left + (steps + 2) * _CELL}" height="{y:g}"'
    yield f'<svg xmlns="http://www.w3.org/2000/svg" {label} {size}>\n'
    yield "<style>\ntext { font: 11px ui-monospace, monospace; fill: #212529; white-space: pre; }\n"
    yield ".page { fill: #ffffff; }\nrect.w { fill: #364fc7; }\n"
    yield "@media (prefers-color-scheme: dark) { .page { fill: #16181b; } text { fill: #e9ecef; }\n"
    yield "rect.w { fill: #91a7ff; } }\n</style>\n"
    yield '<rect class="page" width="100%" height="100%"/>\n'
    yield from drawn
    yield "</svg>\n"


def figures(found: Looks) -> dict[str, Any]:
    """The figures for JSON."""
    weights = json_figures({"reading": found.reading, "writing": found.writing})
    return {"read": list(found.read), "told": list(found.told), **weights}


def _text(x: float, y: float, body: str, anchor: str) -> str:
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}">{markup.escape(body)}</text>\n'
