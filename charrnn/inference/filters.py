"""Filters: changes to the next character's logits or probabilities before one character is chosen.

`Filters` is the one table. A line is a setting, and a filter if it has a function to `apply`. SampleConfig
and its checks, the options of the command line, both engines and docs/control.md are derived from it.

The names of a function's parameters say what it reads, and thereby when it is applied:

    logits       (V,) changed in place, before forbidden characters are masked
    p            (V,) changed in place, after the temperature, in the order of the table
    heap, keys   (V,) ids and floats, scratch space
    recent       (W,) the text's last characters, -1 before its start
    breakers     (V,) whether a character ends a repeat
    memory       the filter's number for this text, which `begin` returns at its start
    probability  of the chosen character, before the filters; `follow` returns the next memory
    any other    the setting of that name, an integer where it is annotated as int

Functions are plain loops: the same source runs as Python on lists, which Python indexes faster than arrays,
and compiled on arrays. A filter of p sets the characters that it drops to zero, does not renormalise the
rest, and keeps at least one. Of equal probabilities, the one with the lower id counts as the greater.

Neither NumPy nor Numba is imported: `--help` needs the table.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple

# The most characters by which a repeat counts as too long, so that its penalty cannot overflow.
MOST_BEYOND = 64


def argmax(x: Any) -> int:
    """The id of the greatest of x (V,), the lowest of several. NaN is never greatest, unless all are NaN."""
    best = 0
    for i in range(1, len(x)):
        if x[i] > x[best] or (x[best] != x[best] and x[i] == x[i]):
            best = i
    return best


def greatest(x: Any) -> float:
    """The greatest of x (V,); -inf where all are NaN."""
    found = -math.inf
    for i in range(len(x)):
        if x[i] > found:
            found = float(x[i])
    return found


def total(p: Any) -> float:
    """The sum of p (V,), from the first to the last: Python's own `sum` rounds otherwise."""
    found = 0.0
    for i in range(len(p)):
        found += p[i]
    return found


def _precedes(p: Any, a: int, b: int) -> bool:
    return p[a] > p[b] or (p[a] == p[b] and a < b)


def _sift_down(heap: Any, p: Any, root: int, size: int) -> None:
    """Restore the heap, the most probable at the top, if only `root` may be out of place."""
    moved = heap[root]
    child = 2 * root + 1
    while child < size:
        if child + 1 < size and _precedes(p, heap[child + 1], heap[child]):
            child += 1
        if not _precedes(p, heap[child], moved):
            break
        heap[root] = heap[child]
        root = child
        child = 2 * root + 1
    heap[root] = moved


def keep_top_k(p: Any, top_k: int, heap: Any) -> None:
    """Keep the K most probable (Fan et al. 2018)."""
    if top_k < len(p):
        _keep_first(p, p, top_k, math.inf, heap)


def _keep_first(p: Any, keys: Any, most: int, wanted: float, heap: Any) -> None:
    """Keep the characters with the greatest keys (V,), the fewest whose p sums to `wanted`; 1 to `most`."""
    size = len(p)
    for i in range(size):
        heap[i] = i
    # A heap of all ids: sorting them all would cost more than popping the few that stay.
    for root in range(size // 2 - 1, -1, -1):
        _sift_down(heap, keys, root, size)
    kept = 0.0
    while size > len(p) - most and (kept < wanted or size == len(p)):
        kept += p[heap[0]]
        size -= 1
        heap[0] = heap[size]
        _sift_down(heap, keys, 0, size)
    for i in range(size):
        p[heap[i]] = 0.0


def keep_top_p(p: Any, top_p: float, heap: Any) -> None:
    """Keep the fewest of the most probable that have P of the probability (Holtzman et al. 2020).

    Of p = [0.1, 0.5, 0.0, 0.3] the sum is 0.9: at P 0.5, 0.45 is wanted and [0, 0.5, 0, 0] is kept; at 0.8,
    0.72 is wanted, 0.5 is too little, and [0, 0.5, 0, 0.3] is kept.
    """
    _keep_first(p, p, len(p), top_p * total(p), heap)


def keep_min_p(p: Any, min_p: float) -> None:
    """Keep those at least P times as probable as the best (Nguyen et al. 2024).

    Of [0.5, 0.3, 0.1] at P 0.4, what is below 0.4 * 0.5 = 0.2 goes: [0.5, 0.3, 0]. Of [0.9, 0.06, 0.04],
    where the network is sure, only 0.9 is kept.
    """
    least = min_p * greatest(p)
    for i in range(len(p)):
        if p[i] < least:
            p[i] = 0.0


def keep_typical(p: Any, typical: float, heap: Any, keys: Any) -> None:
    """Keep the fewest whose surprise is nearest to the expected one that have P of the probability (locally
    typical sampling, Meister et al. 2023).

    The order is by |-log p - H|, H the entropy. Of [0.5, 0.3, 0.2], H is 1.03 nats and the distances are
    0.34, 0.17 and 0.58: at P 0.3 it is 0.3 alone that is kept, and the most probable goes.
    """
    whole = total(p)
    entropy = 0.0
    for i in range(len(p)):
        if p[i] > 0.0:
            keys[i] = math.log(p[i] / whole)
            entropy -= p[i] / whole * keys[i]
    for i in range(len(p)):
        keys[i] = -abs(-keys[i] - entropy) if p[i] > 0.0 else -math.inf
    _keep_first(p, keys, len(p), typical * whole, heap)


def keep_surprise(p: Any, memory: float) -> None:
    """Keep those that surprise by at most mu bits, or the most probable alone; mu begins at 2 TAU and loses
    ETA times the error of each character (Basu et al. 2021, version 2).
    """
    best = argmax(p)
    for i in range(len(p)):
        if i != best and p[i] > 0.0 and -math.log2(p[i]) > memory:
            p[i] = 0.0


def first_limit(mirostat: float) -> float:
    """Mirostat's mu at the start of a text, in bits."""
    return 2.0 * mirostat


def next_limit(memory: float, probability: float, mirostat: float, mirostat_rate: float) -> float:
    """Mirostat's mu after a character."""
    return memory - mirostat_rate * (-math.log2(probability) - mirostat)


def penalize_repeats(
    logits: Any, recent: Any, breakers: Any, dry: float, dry_base: float, dry_length: int, keys: Any
) -> None:
    """Take X * base^(n - length) from a character that would prolong a repeat of n characters ("DRY", p-e-w
    2024, text-generation-webui, pull request 5677).

    Where the last n characters occur earlier, followed by c, another c would prolong the repeat; n is the
    greatest over all such places. A repeat does not extend across a breaker.
    """
    size = len(recent)
    last = recent[size - 1] if size > 0 else -1
    if last < 0 or breakers[last]:
        return
    for i in range(len(logits)):
        keys[i] = 0  # the longest repeat that each would prolong
    for j in range(size - 1):
        c = recent[j + 1]
        if recent[j] != last or breakers[c]:
            continue
        n = 1
        while n < dry_length + MOST_BEYOND and j - n >= 0:
            before = recent[j - n]
            if before < 0 or before != recent[size - 1 - n] or breakers[before]:
                break
            n += 1
        if n > keys[c]:
            keys[c] = n
    for i in range(len(logits)):
        if keys[i] >= dry_length:
            penalty = dry
            for _ in range(int(keys[i]) - dry_length):
                penalty *= dry_base
            logits[i] -= penalty


# The parameters of a function that are not settings.
_GIVEN = {"logits", "p", "heap", "keys", "recent", "breakers", "memory", "probability"}


class Setting(NamedTuple):
    """A line of the table."""

    name: str
    default: float  # the filter is off at this value
    limits: tuple[float, float]
    metavar: str
    help: str
    apply: Callable[..., None] | None = None
    begin: Callable[..., float] | None = None
    follow: Callable[..., float] | None = None
    wanted: str = ""  # the description of valid values, unless "a number from .. to .."
    shown: str = ""  # the option's name, if it is another one
    common: bool = False  # listed first

    @property
    def option(self) -> str:
        """The option's name on the command line, without its leading dashes."""
        return (self.shown or self.name).replace("_", "-")

    @property
    def settings(self) -> list[str]:
        """The settings that a filter's functions read."""
        functions = filter(None, (self.apply, self.begin, self.follow))
        return sorted({name for function in functions for name in reads(function)} - _GIVEN)

    @property
    def is_early(self) -> bool:
        """Whether the filter is applied before the mask."""
        return self.apply is not None and "logits" in reads(self.apply)

    @property
    def follows_text(self) -> bool:
        """Whether the filter reads more than the probabilities of the next character."""
        return self.apply is not None and bool(
            {*reads(self.apply)} & {"logits", "recent", "breakers", "memory"}
        )


def setting(
    default: float, low: float, high: float, metavar: str, help: str, *, wanted: str = "", shown: str = "",
    **more: Any,
) -> Any:  # fmt: skip
    """A field of `Filters`, whose limits charrnn.config checks; see Setting for `more`."""
    limited = {"limits": (low, high), "wanted": wanted, "shown": shown}
    return field(default=default, metadata={**limited, "metavar": metavar, "help": help, **more})


_ABOVE_0 = 5e-324, 1, "P"
_SHARE = "a number above 0, up to 1"


@dataclass(frozen=True, slots=True)
class Filters:
    """The table of settings and filters."""

    temperature: float = setting(
        0.8, 0, 1_000_000, "T", "Boldness; 0: always the most probable", shown="temp", common=True
    )
    top_k: int = setting(0, 0, 0x110000, "K", "Only the K most probable", apply=keep_top_k, common=True)
    typical: float = setting(
        1.0, *_ABOVE_0, "Only the most typical that make up P", apply=keep_typical, wanted=_SHARE
    )
    top_p: float = setting(
        1.0, *_ABOVE_0, "Only the most probable that make up P", apply=keep_top_p, wanted=_SHARE, common=True
    )
    min_p: float = setting(
        0.0, 0, 1, "P", "Only those at least P times the best", apply=keep_min_p, common=True
    )
    mirostat: float = setting(
        0.0, 0, 100, "TAU", "Hold surprise at TAU bits a character",
        apply=keep_surprise, begin=first_limit, follow=next_limit,
        wanted="bits a character, from 0 to 100",
    )  # fmt: skip
    mirostat_rate: float = setting(0.1, 0, 1, "ETA", "How fast mirostat corrects itself")
    dry: float = setting(0.0, 0, 100, "X", "Penalty for repeats; 0.8 is usual", apply=penalize_repeats)
    # A token of the definition, 1.75 and 2 tokens, is about four characters.
    dry_base: float = setting(1.15, 1, 4, "X", "Its growth with each character repeated")
    dry_length: int = setting(10, 1, 1000, "N", "Repeats that are shorter cost nothing")


def table(filters: Filters | type[Filters]) -> list[Setting]:
    """The lines of the table."""
    lines: list[Any] = [line for line in fields(filters) if "metavar" in line.metadata]
    return [Setting(line.name, line.default, **line.metadata) for line in lines]


def reads(function: Callable[..., object]) -> tuple[str, ...]:
    """The names of the function's parameters."""
    code = function.__code__
    return code.co_varnames[: code.co_argcount]


def active(filters: Filters) -> list[Setting]:
    """The active filters, in the order in which they are applied."""
    on = [line for line in table(filters) if line.apply and getattr(filters, line.name) != line.default]
    return sorted(on, key=lambda line: not line.is_early)
