"""Suggestions for a mistyped name."""

from __future__ import annotations

from collections.abc import Iterable

MOST = 3  # suggested names
SLIPS = 2  # the largest edit distance


def close_names(typed: str, names: Iterable[str]) -> list[str]:
    """The `names` within a small edit distance of what was typed, else those that share a beginning with it.

    The distance is at most two letters left out, added, swapped or wrong, less for a short name: `--jason` is
    close to `--json`. A name of four letters or more may also be the beginning of what was typed: `--temp` is
    close to `--temperature`.
    """
    word, bare_names = _bare(typed), {name: _bare(name) for name in names}
    slips = {
        name: slips
        for name, bare in bare_names.items()
        if abs(len(word) - len(bare)) <= SLIPS
        and (slips := distance(word, bare)) <= min(SLIPS, max(len(word), len(bare)) // 3)
    }
    if slips:
        return [name for name in slips if slips[name] == min(slips.values())][:MOST]
    return [name for name, bare in bare_names.items() if _begins_alike(word, bare)][:MOST]


def _bare(name: str) -> str:
    return name.lstrip("-").lower()


def _begins_alike(word: str, name: str) -> bool:
    if word.startswith(name):
        return len(name) >= 4 or word[len(name) :].startswith("-")
    return len(word) >= 3 and name.startswith(word)


def distance(a: str, b: str) -> int:
    """The optimal string alignment distance: insertions, deletions, substitutions, swaps of neighbours."""
    before: list[int] = []
    row = list(range(len(b) + 1))
    for i, letter in enumerate(a, 1):
        before, above = row, before  # the rows i - 1 and i - 2
        row = [i]
        for j, other in enumerate(b, 1):
            steps = min(before[j] + 1, row[-1] + 1, before[j - 1] + (letter != other))
            if i > 1 and j > 1 and letter == b[j - 2] and other == a[i - 2]:
                steps = min(steps, above[j - 2] + 1)
            row.append(steps)
    return row[-1]
