"""Lines or other records for networks that read whole texts, in the batches in which they came."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from charrnn.text.files.lines import Lines


class Batch(NamedTuple):
    """Consecutive lines of a file, without their ends."""

    texts: list[str]
    file: str
    number: int  # of the first line in its file, from 1 on
    cut: bool = False  # the only text is the beginning of a longer line


def whole(lines: Iterable[Lines], end: str, most: int) -> Iterator[Batch]:
    """Whole lines, which end in `end`; of one that came in pieces, `most` characters at most."""
    shown, length = "", 0
    for text, file, number, piece, last in lines:
        if not piece:
            yield Batch(text[:-1].split(end), file, number)
            continue
        text = text.removesuffix(end) if last else text
        shown += text[: most - len(shown)]
        length += len(text)
        if last:
            yield Batch([shown], file, number, cut=length > most)
            shown, length = "", 0
