"""Heat maps of a text: for a terminal, as a web page, as a picture. Strings in, strings out.

Each character has a number: its surprise in bits or, on another scale, the value of a unit after reading it.
A character's level is the number of the scale's bounds that this reaches. Every level but the `plain` one has
a background and a foreground that is legible on it in dark and light surroundings. Control characters are
escaped, as \\x1b; a newline in colour shows as ↵. A record's end, if it is END, shows as ∎ and begins a new
row.
"""

from __future__ import annotations

import html as markup
import re
import unicodedata
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise, repeat
from typing import NamedTuple

from charrnn.errors import CharrnnError
from charrnn.vocabulary import END

# (file name, text, the number of each character), and what else is said of each where one points at it
Piece = tuple[str, str, list[float]] | tuple[str, str, list[float], list[str]]
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
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


@dataclass(frozen=True)
class Scale:
    """What the numbers are, and how they are shown."""

    bounds: Sequence[float]
    colors: Sequence[tuple[str, str] | None]  # (background, foreground) of each level; None: the plain one
    marks: str  # of each level, where there are no colours
    legend: Sequence[str]  # of each level
    name: str  # stands before the legend
    about: str  # of what each character is, below or above the text
    title: Callable[[str, float], str]  # what is said of a character
    mean: Callable[[float, int], str]  # the same of all of them, from their sum and how many there are
    policy: str = ""  # of the page's content security

    def level(self, number: float) -> int:
        """0, 1, ..; NaN has the last one."""
        return bisect_right(self.bounds, number) if number == number else len(self.bounds)

    @property
    def plain(self) -> int:
        """The level without a colour."""
        return self.colors.index(None)

    @property
    def painted(self) -> list[tuple[int, tuple[str, str]]]:
        """The levels with a colour."""
        return [(n, color) for n, color in enumerate(self.colors) if color is not None]


def _character(character: str) -> str:
    return "the end" if character == END else f"{printable(character)} (U+{ord(character):04X})"


def _surprise_title(character: str, bits: float) -> str:
    odds = f"1 in {2**bits:.3g}" if bits < 1000 else "next to impossible"
    return f"{_character(character)}: {bits:.2f} bits, {odds}"


def _mean_surprise(bits: float, characters: int) -> str:
    return f"{bits / characters if characters else 0.0:.3f} bits a character"


SURPRISE = Scale(
    BOUNDS,
    (None, *COLORS),
    MARKS,
    (f"<{BOUNDS[0]:g}", *(f"{low:g}-{high:g}" for low, high in pairwise(BOUNDS)), f">{BOUNDS[-1]:g}"),
    "bits",
    "How surprising the text is",
    _surprise_title,
    _mean_surprise,
)

# Of the values of a unit, from -1 to 1: darker the further they are from 0, blue below and red above.
VALUE_BOUNDS = (-0.9, -0.6, -0.3, -0.1, 0.1, 0.3, 0.6, 0.9)
VALUE_COLORS = (
    ("#1c4f8c", "#ffffff"),
    ("#5b9bd5", "#212529"),
    ("#9cc5ea", "#212529"),
    ("#d3e6f7", "#212529"),
    None,
    ("#fde0d2", "#212529"),
    ("#f9b59b", "#212529"),
    ("#ee8166", "#212529"),
    ("#a31f24", "#ffffff"),
)
VALUE_MARKS = " ▁▂▃▄▅▆▇█"  # the higher, the higher


def values_of(unit: str, measure: str) -> Scale:
    """The scale of the values of a unit, such as 1:37, of which `measure` is shown, such as tanh(c)."""
    bounds = [f"{bound:g}".replace("0.", ".") for bound in VALUE_BOUNDS]

    def title(character: str, value: float) -> str:
        return f"{_character(character)}: {value:+.3f}"

    def mean(total: float, characters: int) -> str:
        return f"mean {total / characters if characters else 0.0:+.3f}"

    legend = [f"<{bounds[0]}", *(f"{low} to {high}" for low, high in pairwise(bounds)), f">{bounds[-1]}"]
    about = f"Unit {unit}: {measure} after each character"
    return Scale(
        VALUE_BOUNDS, VALUE_COLORS, VALUE_MARKS, legend, f"{unit} {measure}", about, title, mean, _POLICY
    )


def shown(character: str, *, plain: bool) -> str:
    """The visible form of a character, without the line break of a newline, which shows where not `plain`."""
    if character == END:
        return "∎"
    if character == "\n":
        return "" if plain else "↵"
    return printable(character)


def width(text: str) -> int:
    """Columns of a terminal that the text takes."""
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text
    )


class Tally:
    """The total of what has been shown, for the summary below it."""

    def __init__(self, scale: Scale) -> None:
        self._scale = scale
        self.total, self.characters = 0.0, 0

    def count(self, pieces: Iterable[Piece]) -> Iterator[Piece]:
        """The same pieces, counted."""
        for piece in pieces:
            self.total += sum(piece[2])
            self.characters += len(piece[1])
            yield piece

    def __str__(self) -> str:
        characters = f"{self.characters:,} character{'s' * (self.characters != 1)}"
        return f"{self._scale.mean(self.total, self.characters)}, {characters}"


def painted(pieces: Iterable[Piece], paint: Paint, scale: Scale = SURPRISE) -> Iterator[str]:
    """The text in a terminal's colours, in pieces, with a legend below."""
    tally = Tally(scale)
    column = 0
    for text, numbers, heading in _headed(tally.count(pieces)):
        out = [("\n" if column else "") + heading] if heading else []
        levels = list(map(scale.level, numbers))
        for level, group in groupby(zip(text, levels, strict=True), key=lambda pair: pair[1]):
            plain = level == scale.plain
            for part in _lines("".join(c for c, _ in group)):
                body = "".join(shown(c, plain=plain) for c in part)
                out.append(body if plain else paint(body, level))
                if part.endswith(ROW_ENDS):
                    out.append("\n")
        column = 0 if text.endswith(ROW_ENDS) else 1
        yield "".join(out)
    names = (name if n == scale.plain else paint(f" {name} ", n) for n, name in enumerate(scale.legend))
    yield f"{chr(10) * column}\n{scale.name}: {' '.join(names)}  {tally}\n"


def marked(pieces: Iterable[Piece], scale: Scale = SURPRISE) -> Iterator[str]:
    """The text without colours: a row of bars below each line, and a legend at the end."""
    tally = Tally(scale)
    top, bottom, column = "", "", 0
    for text, numbers, heading in _headed(tally.count(pieces)):
        if heading:
            if top:
                yield _marked_row(top, bottom)
                top, bottom, column = "", "", 0
            yield heading
        for character, number in zip(text, numbers, strict=True):
            level = scale.level(number)
            body = shown(character, plain=level == scale.plain)
            cells = width(body)
            if column + cells > MARKED_COLUMNS:
                yield _marked_row(top, bottom)
                top, bottom, column = "", "", 0
            top, bottom, column = top + body, bottom + scale.marks[level] * cells, column + cells
            if character in ROW_ENDS:
                yield _marked_row(top, bottom)
                top, bottom, column = "", "", 0
    if top:
        yield _marked_row(top, bottom)
    legend = "  ".join(f"{scale.marks[n]} {name}".strip() for n, name in enumerate(scale.legend))
    yield f"\n{scale.name}: {legend}\n{tally}\n"


def _marked_row(top: str, bottom: str) -> str:
    return f"{top}\n{bottom.rstrip()}\n"  # always two rows: text and marks alternate


def _lines(text: str) -> list[str]:
    """The lines with their ends, "\\n" or END; no other character ends a line."""
    return re.findall(f"[^\n{END}]*[\n{END}]|[^\n{END}]+", text)


def _headed(pieces: Iterable[Piece]) -> Iterator[tuple[str, list[float], str]]:
    """(text, numbers, heading); the heading is "" except where a file begins that is not the first."""
    before = None
    for name, text, numbers, *_ in pieces:
        yield text, numbers, f"\n==> {name} <==\n" if before not in (None, name) else ""
        before = name


def _titled(piece: Piece, scale: Scale) -> Iterator[tuple[str, float, str]]:
    """Each character with its number, and what is said of it, as markup."""
    _, text, numbers, *notes = piece
    for character, number, note in zip(text, numbers, notes[0] if notes else repeat(""), strict=False):
        title = scale.title(character, number)
        yield character, number, markup.escape(f"{title}; {note}" if note else title)


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
"""
_STYLE = """<style>
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


def html(pieces: Iterable[Piece], scale: Scale = SURPRISE) -> Iterator[str]:
    """A self-contained web page. Pointing at a character shows its number."""
    tally = Tally(scale)
    policy = f'<meta http-equiv="Content-Security-Policy" content="{scale.policy}">\n' if scale.policy else ""
    rules = (f".h{n} {{ background: {b}; color: {f}; }}\n" for n, (b, f) in scale.painted)
    yield f"{_PAGE}{policy}<title>{markup.escape(scale.about)}</title>\n{_STYLE}{''.join(rules)}{_DARK}"
    names = (f'<i class="h{n}">&nbsp;{_unbroken(name)}&nbsp;</i>' for n, name in enumerate(scale.legend))
    what = "Bits of surprise" if scale is SURPRISE else scale.about
    yield f"<p>{markup.escape(what)}: {' '.join(names)}</p>\n"
    before = None
    for piece in tally.count(pieces):
        if piece[0] != before:
            yield "</pre>\n" if before is not None else ""
            yield f"<h2>{markup.escape(printable(piece[0]))}</h2>\n<pre>\n"
            before = piece[0]
        yield "".join(_html_character(*titled, scale) for titled in _titled(piece, scale))
    yield "</pre>\n" if before is not None else ""
    yield f"<p>{tally}</p>\n</body>\n</html>\n"


def _unbroken(name: str) -> str:
    return markup.escape(name).replace(" ", "&nbsp;")


def _html_character(character: str, number: float, title: str, scale: Scale) -> str:
    level = scale.level(number)
    plain = level == scale.plain
    kind = "" if plain else f' class="h{level}"'
    body = markup.escape(shown(character, plain=plain))
    item = f'<i{kind} title="{title}">{body}</i>' if body else ""
    return item + "\n" if character in ROW_ENDS else item


class Heat(NamedTuple):
    """A text with a number for each character, which notebooks show in colours."""

    text: str
    numbers: list[float]
    notes: list[str]  # what else is said of each character; or nothing
    scale: Scale

    def _repr_html_(self) -> str:
        piece = ("", self.text, self.numbers, self.notes) if self.notes else ("", self.text, self.numbers)
        tally = Tally(self.scale)
        (counted,) = tally.count([piece])
        text = "".join(_inline(*titled, self.scale) for titled in _titled(counted, self.scale))
        pre = "white-space: pre-wrap; overflow-wrap: anywhere; line-height: 1.6"
        return f'<pre style="{pre}">{text}</pre>\n<p>{markup.escape(self.scale.name)}: {tally}</p>'


def _inline(character: str, number: float, title: str, scale: Scale) -> str:
    """A character with its style, since a notebook has no style of its own for it."""
    level = scale.level(number)
    color = scale.colors[level]
    style = "" if color is None else f' style="background: {color[0]}; color: {color[1]}"'
    body = markup.escape(shown(character, plain=color is None))
    item = f'<span{style} title="{title}">{body}</span>' if body else ""
    return item + "\n" if character in ROW_ENDS else item


def svg(pieces: Iterable[Piece], scale: Scale = SURPRISE) -> Iterator[str]:
    """A self-contained picture. Pointing at a character shows its number.

    Raises:
        CharrnnError: the text is longer than SVG_LONGEST.
    """
    tally = Tally(scale)
    drawn: list[str] = []
    row, column, before = 1, 0, None
    for piece in tally.count(pieces):
        if tally.characters > SVG_LONGEST:
            raise CharrnnError(
                f"the text has more than {SVG_LONGEST:,} characters, too many for a picture",
                "give less of it, or use --html",
            )
        if before not in (None, piece[0]):
            row, column = row + (2 if column else 1), 0
        before = piece[0]
        for character, number, title in _titled(piece, scale):
            level = scale.level(number)
            plain = level == scale.plain
            body = shown(character, plain=plain)
            cells = width(body)
            if column + cells > SVG_COLUMNS:
                row, column = row + 1, 0
            if body and not (plain and body.isspace()):
                drawn.append(_svg_cells(body, row, column, None if plain else level, title))
            column += cells
            if character in ROW_ENDS:
                row, column = row + 1, 0
    legend, at = [], 0
    for n, name in enumerate(scale.legend):
        title = f"{markup.escape(name)} {scale.name}"
        legend.append(_svg_cells(name, 0, at, None if n == scale.plain else n, title))
        at += len(name) + 2
    rows = row + 3
    size = f'width="{(SVG_COLUMNS + 2) * _CELL:g}" height="{rows * _ROW}"'
    label = f'role="img" aria-label="{markup.escape(scale.about)}"'
    yield f'<svg xmlns="http://www.w3.org/2000/svg" {label} {size}>\n'
    yield "<style>\ntext { font: 14px ui-monospace, monospace; fill: #212529; white-space: pre; }\n"
    yield ".page { fill: #ffffff; }\n"
    yield "@media (prefers-color-scheme: dark) { .page { fill: #16181b; } text { fill: #e9ecef; } }\n"
    for n, (background, foreground) in scale.painted:
        yield f"rect.h{n} {{ fill: {background}; }} text.h{n} {{ fill: {foreground}; }}\n"
    yield '</style>\n<rect class="page" width="100%" height="100%"/>\n'
    yield from legend
    yield from drawn
    yield _svg_cells(str(tally), rows - 2, 0, None, "all of it")
    yield "</svg>\n"


def _svg_cells(body: str, row: int, column: int, level: int | None, title: str) -> str:
    x, y, cells = round((column + 1) * _CELL, 1), row * _ROW + _ROW // 2, width(body)
    kind = "" if level is None else f' class="h{level}"'
    box = f'<rect{kind} x="{x}" y="{y}" width="{cells * _CELL:.1f}" height="{_ROW}"/>' if kind else ""
    fitted = f' textLength="{cells * _CELL:.1f}" lengthAdjust="spacingAndGlyphs"' if cells else ""
    text = f'<text{kind} x="{x}" y="{y + _BASE:g}"{fitted}>{markup.escape(body)}</text>'
    return f"<g><title>{title}</title>{box}{text}</g>\n"


def printable(text: str) -> str:
    """The text with all that would act instead of show escaped."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
