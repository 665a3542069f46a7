"""Numbers and untrusted text, formatted for people and for JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from charrnn.config import Kind, TextConfig
from charrnn.errors import decimal

_BARS = "▁▂▃▄▅▆▇█"
_JOINERS = "\u200c\u200d"  # needed by emoji and some scripts, and harmless on a terminal


def visible(text: str) -> str:
    """`text` with control characters, including terminal escapes, written as \\n, \\x1b, ..."""
    return "".join(c if c.isprintable() or c in _JOINERS else ascii(c)[1:-1] for c in text)


_ESCAPES = str.maketrans({"\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"})


def row_end(text: str, config: TextConfig, nul: bool = False) -> str:
    """`text` as the last column of a row, and the row's end: a newline, or a NUL.

    In records that may hold line ends, these are escaped as in JSON, but not before a NUL.
    """
    if nul:
        return text + "\0"
    return (text if config.split is None else text.translate(_ESCAPES)) + "\n"


def count(number: int) -> str:
    """1234567 -> 1,234,567"""
    return f"{number:,}"


def duration(seconds: float) -> str:
    """3.21 -> 3.2 s; 75 -> 1 min 15 s; 4000 -> 1 h 7 min"""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min"


def loss(nats: float, kind: Kind = "writer") -> str:
    """1.4321 -> 1.4321 nats/char (2.066 bits); of networks that read: 1.4321 nats/text"""
    if kind == "writer":
        return f"{decimal(nats)} nats/char ({decimal(nats / math.log(2), 3)} bits)"
    return f"{decimal(nats)} nats/{'text' if kind == 'classifier' else 'char'}"


def column(kind: Kind) -> tuple[str, str]:
    """What stands in a column of labels, and what is counted there."""
    known: dict[Kind, tuple[str, str]] = {"tagger": ("tags", "characters"), "rewriter": ("targets", "tokens")}
    return known.get(kind, ("labels", "texts"))


def sparkline(values: Sequence[float], width: int) -> str:
    """The finite values as at most `width` bars, the lowest ▁ and the highest █.

    Each bar is the mean of its equal share: 4, 2, 1, 1 in two bars is 3, 1, drawn █▁.
    """
    finite = [v for v in values if math.isfinite(v)]
    largest = max(map(abs, finite), default=0.0) or 1.0
    finite = [v / largest for v in finite]  # so that no sum or quotient overflows
    bars = min(len(finite), width)
    edges = [len(finite) * i // bars for i in range(bars + 1)] if bars > 0 else []
    means = [sum(finite[a:b]) / (b - a) for a, b in pairwise(edges)]
    if not means:
        return ""
    low, high = min(means), max(means)
    scale = (len(_BARS) - 1) / (high - low) if high > low else 0.0
    return "".join(_BARS[round((v - low) * scale)] for v in means)


def json_line(value: Any) -> str:
    """`value` as JSON on one line, with all unprintable characters escaped.

    JSON itself does not escape Latin-1's control characters or those that change the text's direction.
    """
    text = json.dumps(value, ensure_ascii=False)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)


def json_number(value: Any) -> Any:
    """`value`, or None for NaN and infinity, which JSON cannot represent."""
    return value if not isinstance(value, float) or math.isfinite(value) else None


def json_figures(figures: Any) -> Any:
    """Figures in dictionaries and lists, each as `json_number` gives it."""
    if isinstance(figures, dict):
        return {name: json_figures(value) for name, value in figures.items()}
    return list(map(json_figures, figures)) if isinstance(figures, list) else json_number(figures)


def json_text(text: str, raw_bytes: bool) -> str:
    """`text` for JSON: raw bytes decoded as UTF-8, and invalid bytes as U+FFFD."""
    if text.isascii():
        return text
    data = text.encode("latin-1") if raw_bytes else text.encode("utf-8", "surrogateescape")
    return data.decode("utf-8", "replace")
