"""What a classifier tells of texts whose classes are known, as a table for people."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from charrnn.cli import wording
from charrnn.errors import decimal

if TYPE_CHECKING:
    from charrnn.tasks.reading.confusion import ClassEvaluation, Confusion

MOST_CROSSED = 24  # classes that stand in the head of a table, too
MOST_WIDE = 100  # characters of such a table
FIGURES = 24  # characters beside the names, at the most
MOST_CONFUSED = 3  # classes that are named as those for which a class is taken
LABEL_WIDTH = 20


def lines(found: ClassEvaluation) -> Iterator[str]:
    """The loss, and for each column the figures and the table."""
    yield f"loss {decimal(found.loss)} nats/text, {wording.count(found.texts)} texts"
    for confusion in found.columns:
        name = f"{wording.visible(confusion.column.name)}: " if confusion.column.name else ""
        yield (
            f"{name}{confusion.accuracy:.1%} right, macro-F1 {confusion.macro_f1:.3f}, "
            f"calibration error {confusion.calibration_error:.1%}"
        )
        yield ""
        yield from table(confusion)


def table(confusion: Confusion) -> Iterator[str]:
    """A line a class: how many texts it has, which share of them is right, F1, and what they are taken for.

    Of a few classes, how many of each were taken for each; of more, the most frequent mistakes.
    """
    labels = [wording.visible(label) for label in confusion.column.labels]
    shown = [label if len(label) <= LABEL_WIDTH else label[: LABEL_WIDTH - 1] + "…" for label in labels]
    figures = [
        [f"{wording.count(int(texts))}", _share(recall), _decimal(f1)]
        for texts, recall, f1 in zip(confusion.texts, confusion.recall, confusion.f1, strict=True)
    ]
    N, cells = len(labels), [[int(n) for n in row] for row in confusion.counts]
    width = max(len(str(n)) for row in (*cells, [N]) for n in row) + 1
    names = max(map(len, shown))
    crossed = N <= MOST_CROSSED and names + FIGURES + N * width <= MOST_WIDE
    number = len(str(N)) + 1 if crossed else 0
    heads = ["texts", "right", "F1"]
    widths = [max(map(len, column)) for column in zip(heads, *figures, strict=True)]

    def row(n: str, label: str, own: list[str], rest: str) -> str:
        parts = [f"{part:>{w}}" for part, w in zip(own, widths, strict=True)]
        return f"{n:>{number}}{' ' * crossed}{label:<{names}}  {'  '.join(parts)}  {rest}".rstrip()

    taken = [f"{n + 1:>{width}}" for n in range(N)]
    yield row("", "", heads, "".join(taken) if crossed else "taken for")
    for n, (label, own, counts) in enumerate(zip(shown, figures, cells, strict=True)):
        if crossed:
            rest = "".join(f"{count or '.':>{width}}" for count in counts)
        else:
            wrong = sorted((k for k in range(N) if k != n and counts[k]), key=lambda k: -counts[k])
            rest = ", ".join(f"{shown[k]} {counts[k]}" for k in wrong[:MOST_CONFUSED])
            rest += ", ..." * (len(wrong) > MOST_CONFUSED)
        yield row(str(n + 1) if crossed else "", label, own, rest)


def _share(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.0%}"


def _decimal(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.2f}"
