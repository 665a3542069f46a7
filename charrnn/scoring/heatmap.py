"""Heat maps of a text's surprise: for a terminal, as a web page, as a picture. Strings in, strings out.

A character's level is the number of BOUNDS that its bits reach. From level 1 on it has a background, pale to
dark, and a foreground that is legible on it in dark and light surroundings. Control characters are escaped,
as \\x1b; a surprising newline shows as ↵. A record's end, if it is END, shows as ∎ and begins a new row.
"""

from __future__ import annotations

import html as markup
import re
import unicodedata
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby, pairwise

from charrnn.errors import CharrnnError
from charrnn.vocabulary import END

Piece = tuple[str, str, list[float]]  # (file name, text, bits of each character)
Paint = Callable[[str, int], str]  # (text, level) -> the text in colour

BOUNDS = (1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0)  # bits
COLORS = (  # (background, foreground) of levels 1 .. 7: darkness alone tells them apart
    ("#fff3bf", "#212529"),
    ("#ffe066", "#212529"),
    ("#ffc078", "#212529"),
    ("#ff922b", "#212529"),
    ("#f76707", "#212529"),
    ("#c92a2a", "#ffffff"),
    ("#7a0c44", "#ffffff"),
)
MARKS = " ▁▂▃▄▅▆█"  # of levels 0 .. 7, where there are no colours
MARKED_COLUMNS = 78
ROW_ENDS = ("\n", END)
SVG_COLUMNS = 100
SVG_LONGEST = 100_000  # characters that a viewer still opens
_CELL, _ROW, _BASE = 8.4, 20, 14.5  # of the picture: a character's width, a row's height, and its baseline


def level(bits: float) -> int:
    """0 .. 7; NaN has 7."""
    return bisect_right(BOUNDS, bits) if bits == bits else len(BOUNDS)


def shown(character: str, surprise: int) -> str:
    """The visible form of a character, without the line break of a newline."""
    if character == END:
        return "∎"
    if character == "\n":
        return "↵" if surprise else ""
    return _printable(character)


def width(text: str) -> int:
    """Columns of a terminal that the text takes."""
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text
    )


class Tally:
    """The total of what has been shown, for the summary below it."""

    def __init__(self) -> None:
        self.bits, self.characters = 0.0, 0

    def count(self, pieces: Iterable[Piece]) -> Iterator[Piece]:
        """The same pieces, counted."""
        for piece in pieces:
            self.bits += sum(piece[2])
            self.characters += len(piece[1])
            yield piece

    def __str__(self) -> str:
        bpc = self.bits / self.characters if self.characters else 0.0
        return f"{bpc:.3f} bits a character, {self.characters:,} character{'s' * (self.characters != 1)}"


def painted(pieces: Iterable[Piece], paint: Paint) -> Iterator[str]:
    """The text in a terminal's colours, in pieces, with a legend below."""
    tally = Tally()
    column = 0
    for text, bits, heading in _headed(tally.count(pieces)):
        out = [("\n" if column else "") + heading] if heading else []
        levels = list(map(level, bits))
        for surprise, group in groupby(zip(text, levels, strict=True), key=lambda pair: pair[1]):
            for part in _lines("".join(c for c, _ in group)):
                body = "".join(shown(c, surprise) for c in part)
                out.append(paint(body, surprise) if surprise else body)
                if part.endswith(ROW_ENDS):
                    out.append("\n")
        column = 0 if text.endswith(ROW_ENDS) else 1
        yield "".join(out)
    legend = " ".join(paint(f" {name} ", n) if n else name for n, name in enumerate(_legend()))
    yield f"{chr(10) * column}\nbits: {legend}  {tally}\n"


def marked(pieces: Iterable[Piece]) -> Iterator[str]:
    """The text without colours: a row of bars below each line, and a legend at the end."""
    tally = Tally()
    top, bottom, column = "", "", 0
    for text, bits, heading in _headed(tally.count(pieces)):
        if heading:
            if top:
                yield _marked_row(top, bottom)
                top, bottom, column = "", "", 0
            yield heading
        for character, cost in zip(text, bits, strict=True):
            surprise = level(cost)
            body = shown(character, surprise)
            cells = width(body)
            if column + cells > MARKED_COLUMNS:
                yield _marked_row(top, bottom)
                top, bottom, column = "", "", 0
            top, bottom, column = top + body, bottom + MARKS[surprise] * cells, column + cells
            if character in ROW_ENDS:
                yield _marked_row(top, bottom)
                top, bottom, column = "", "", 0
    if top:
        yield _marked_row(top, bottom)
    legend = "  ".join(f"{MARKS[n]} {name}".strip() for n, name in enumerate(_legend()))
    yield f"\nbits: {legend}\n{tally}\n"


def _marked_row(top: str, bottom: str) -> str:
    return f"{top}\n{bottom.rstrip()}\n"  # always two rows: text and marks alternate


def _lines(text: str) -> list[str]:
    """The lines with their ends, "\\n" or END; no other character ends a line."""
    return re.findall(f"[^\n{END}]*[\n{END}]|[^\n{END}]+", text)


def _headed(pieces: Iterable[Piece]) -> Iterator[tuple[str, list[float], str]]:
    """(text, bits, heading); the heading is "" except where a file begins that is not the first."""
    before = None
    for name, text, bits in pieces:
        yield text, bits, f"\n==> {name} <==\n" if before not in (None, name) else ""
        before = name


def _legend() -> list[str]:
    names = [f"<{BOUNDS[0]:g}"]
    names += [f"{low:g}-{high:g}" for low, high in pairwise(BOUNDS)]
    return [*names, f">{BOUNDS[-1]:g}"]


def _title(character: str, bits: float) -> str:
    odds = f"1 in {2**bits:.3g}" if bits < 1000 else "next to impossible"
    name = "the end" if character == END else f"{_printable(character)} (U+{ord(character):04X})"
    return markup.escape(f"{name}: {bits:.2f} bits, {odds}")


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>How surprising the text is</title>
<style>
:root { color-scheme: light dark; }
body { margin: 2rem; font: 1rem/1.5 system-ui, sans-serif; background: #ffffff; color: #212529; }
pre { font: 1rem/1.6 ui-monospace, monospace; white-space: pre-wrap; overflow-wrap: anywhere; }
i { font-style: normal; }
"""
_DARK = """@media (prefers-color-scheme: dark) { body { background: #16181b; color: #e9ecef; } }
</style>
</head>
<body>
"""


def html(pieces: Iterable[Piece]) -> Iterator[str]:
    """A self-contained web page. Pointing at a character shows its bits."""
    tally = Tally()
    rules = (f".h{n} {{ background: {b}; color: {f}; }}\n" for n, (b, f) in enumerate(COLORS, 1))
    yield _PAGE + "".join(rules) + _DARK
    names = (f'<i class="h{n}">&nbsp;{markup.escape(name)}&nbsp;</i>' for n, name in enumerate(_legend()))
    yield f"<p>Bits of surprise: {' '.join(names)}</p>\n"
    before = None
    for name, text, bits in tally.count(pieces):
        if name != before:
            yield "</pre>\n" if before is not None else ""
            yield f"<h2>{markup.escape(_printable(name))}</h2>\n<pre>\n"
            before = name
        yield "".join(_html_character(c, cost) for c, cost in zip(text, bits, strict=True))
    yield "</pre>\n" if before is not None else ""
    yield f"<p>{tally}</p>\n</body>\n</html>\n"


def _html_character(character: str, bits: float) -> str:
    surprise = level(bits)
    kind = f' class="h{surprise}"' if surprise else ""
    body = markup.escape(shown(character, surprise))
    item = f'<i{kind} title="{_title(character, bits)}">{body}</i>' if body else ""
    return item + "\n" if character in ROW_ENDS else item


def svg(pieces: Iterable[Piece]) -> Iterator[str]:
    """A self-contained picture. Pointing at a character shows its bits.

    Raises:
        CharrnnError: the text is longer than SVG_LONGEST.
    """
    tally = Tally()
    drawn: list[str] = []
    row, column, before = 1, 0, None
    for name, text, bits in tally.count(pieces):
        if tally.characters > SVG_LONGEST:
            raise CharrnnError(
                f"the text has more than {SVG_LONGEST:,} characters, too many for a picture",
                "give less of it, or use --html",
            )
        if before not in (None, name):
            row, column = row + (2 if column else 1), 0
        before = name
        for character, cost in zip(text, bits, strict=True):
            surprise = level(cost)
            body = shown(character, surprise)
            cells = width(body)
            if column + cells > SVG_COLUMNS:
                row, column = row + 1, 0
            if body and (surprise or not body.isspace()):
                drawn.append(_svg_cells(body, cells, row, column, surprise, _title(character, cost)))
            column += cells
            if character in ROW_ENDS:
                row, column = row + 1, 0
    legend, at = [], 0
    for n, name in enumerate(_legend()):
        legend.append(_svg_cells(name, len(name), 0, at, n, f"{markup.escape(name)} bits"))
        at += len(name) + 2
    rows = row + 3
    size = f'width="{(SVG_COLUMNS + 2) * _CELL:g}" height="{rows * _ROW}"'
    label = 'role="img" aria-label="How surprising the text is"'
    yield f'<svg xmlns="http://www.w3.org/2000/svg" {label} {size}>\n'
    yield "<style>\ntext { font: 14px ui-monospace, monospace; fill: #212529; white-space: pre; }\n"
    yield ".page { fill: #ffffff; }\n"
    yield "@media (prefers-color-scheme: dark) { .page { fill: #16181b; } text { fill: #e9ecef; } }\n"
    for n, (background, foreground) in enumerate(COLORS, 1):
        yield f"rect.h{n} {{ fill: {background}; }} text.h{n} {{ fill: {foreground}; }}\n"
    yield '</style>\n<rect class="page" width="100%" height="100%"/>\n'
    yield from legend
    yield from drawn
    yield _svg_cells(str(tally), len(str(tally)), rows - 2, 0, 0, "all of it")
    yield "</svg>\n"


def _svg_cells(body: str, cells: int, row: int, column: int, surprise: int, title: str) -> str:
    x, y = round((column + 1) * _CELL, 1), row * _ROW + _ROW // 2
    kind = f' class="h{surprise}"' if surprise else ""
    box = f'<rect{kind} x="{x}" y="{y}" width="{cells * _CELL:.1f}" height="{_ROW}"/>' if surprise else ""
    fitted = f' textLength="{cells * _CELL:.1f}" lengthAdjust="spacingAndGlyphs"' if cells else ""
    text = f'<text{kind} x="{x}" y="{y + _BASE:g}"{fitted}>{markup.escape(body)}</text>'
    return f"<g><title>{title}</title>{box}{text}</g>\n"


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
