"""A picture of attention: for each part of a target a row, in which what it attended to is dark."""

from __future__ import annotations

import html as markup
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from charrnn.cli.wording import visible

_CELL, _GAP = 20, 24  # pixels: of a cell, and between two pictures
_LETTER = 8.4  # pixels: the width of a character


class Picture(NamedTuple):
    """One target and its source."""

    source: str
    tokens: tuple[str, ...]
    weights: list[list[float]]  # a row for each token


def svg(pictures: Iterable[Picture]) -> Iterator[str]:
    """A self-contained picture: sources across, targets down. Pointing at a cell shows its weight."""
    drawn: list[str] = []
    width, y = 0.0, _GAP
    for picture in pictures:
        left = _CELL + max((len(visible(token)) for token in picture.tokens), default=0) * _LETTER
        for n, character in enumerate(picture.source):
            drawn.append(_text(left + (n + 0.5) * _CELL, y + 14, visible(character), "middle"))
        y += _CELL
        for token, row in zip(picture.tokens, picture.weights, strict=True):
            drawn.append(_text(left - 6, y + 14, visible(token), "end"))
            for n, weight in enumerate(row):
                pair = f"{visible(picture.source[n])} > {visible(token)}: {weight:.2f}"
                box = f'x="{left + n * _CELL:g}" y="{y}" width="{_CELL}" height="{_CELL}"'
                title = f"<title>{markup.escape(pair)}</title>"
                drawn.append(f'<rect class="w" {box} fill-opacity="{weight:.3f}">{title}</rect>\n')
            y += _CELL
        width, y = max(width, left + len(picture.source) * _CELL), y + _GAP
    label = 'role="img" aria-label="Which characters each part of a target attended to"'
    size = f'width="{width + _GAP:g}" height="{y}"'
    yield f'<svg xmlns="http://www.w3.org/2000/svg" {label} {size}>\n'
    yield "<style>\ntext { font: 14px ui-monospace, monospace; fill: #212529; white-space: pre; }\n"
    yield ".page { fill: #ffffff; }\nrect.w { fill: #364fc7; stroke: #adb5bd; stroke-opacity: 0.4; }\n"
    yield "@media (prefers-color-scheme: dark) { .page { fill: #16181b; } text { fill: #e9ecef; }\n"
    yield "rect.w { fill: #91a7ff; } }\n</style>\n"
    yield '<rect class="page" width="100%" height="100%"/>\n'
    yield from drawn
    yield "</svg>\n"


def _text(x: float, y: float, body: str, anchor: str) -> str:
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}">{markup.escape(body)}</text>\n'
