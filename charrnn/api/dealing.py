"""Lines that several ranks read, each some of them; what is found out about them comes in their order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import TYPE_CHECKING, Any

from charrnn.ranks.ranks import ALONE, Ranks

if TYPE_CHECKING:
    from charrnn.text.files.lines import Lines

Threads = int | Ranks | None  # for functions that ranks may share, each with threads of its own
Process = Callable[[Iterable["Lines"]], Iterator[list[Any]]]


def workers_of(threads: Threads) -> tuple[int | None, Ranks]:
    """The threads of this process, and the ranks of which it is the leader."""
    return (threads, ALONE) if threads is None or isinstance(threads, int) else (threads.threads, threads)


def dealt(
    ranks: Ranks, process: Process, begin: Callable[..., Process], arguments: tuple[Any, ...],
    lines: Iterator[Lines], end: str,
) -> Iterator[list[Any]]:  # fmt: skip
    """What `process` makes of lines, which end in `end`; other ranks make it with `begin(*arguments)`.

    A line that comes in pieces is read by the leader.
    """
    if ranks.size == 1:
        yield from process(lines)
        return
    with ranks.asking(_begin, [(begin, arguments)] * ranks.size):
        pass
    for some in lines:
        if some.piece:
            yield from process(chain([some], _rest(some, lines)))
            continue
        parts = list(_cut(some, ranks.size, end))
        with ranks.asking(_process, [(part,) for part in parts]):
            found = ranks.gather(_made(process, parts[0]))
        yield from filter(None, found)


def _rest(first: Lines, lines: Iterator[Lines]) -> Iterator[Lines]:
    """The other pieces of a line."""
    last = first.last
    while not last:
        piece = next(lines)
        last = piece.last
        yield piece


def _cut(lines: Lines, parts: int, end: str) -> Iterator[Lines]:
    """As many parts of about the same length, some of which may be empty; all of whole lines."""
    text, number, low = lines.text, lines.number, 0
    for part in range(1, parts + 1):
        about = len(text) * part // parts
        high = max(low, text.rfind(end, 0, about) + len(end)) if part < parts else len(text)
        yield lines._replace(text=text[low:high], number=number)
        number += text.count(end, low, high)
        low = high


def _made(process: Process, lines: Lines) -> list[Any]:
    return list(chain.from_iterable(process([lines]))) if lines.text else []


# --- what the leader asks other ranks for -------------------------------------------------------


def _begin(ranks: Ranks, held: Any, begin: Callable[..., Process], arguments: tuple[Any, ...]) -> Process:
    return begin(*arguments)


def _process(ranks: Ranks, held: Process, lines: Lines) -> Process:
    ranks.gather(_made(held, lines))
    return held
