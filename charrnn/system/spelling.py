"""What somebody may have meant who typed a name that does not exist."""

from __future__ import annotations

from collections.abc import Iterable

MOST = 3  # names that are offered
SLIPS = 2  # at the most


def close_names(typed: str, names: Iterable[str]) -> list[str]:
    """Of `names`, those that are a slip away from what was typed; else those of which it is the beginning.

    Two letters that are left out, added, exchanged or wrong are a slip, in a short name one: `--jason` is
    close to `--json`, and to nothing that only has some letters in common with it. A name of four letters or
    more may also be what a longer word begins with: `--temperature` is close to `--temp`.
    """
    word, there = _bare(typed), {name: _bare(name) for name in names}
    slips = {
        name: slips
        for name, bare in there.items()
        if abs(len(word) - len(bare)) <= SLIPS
        and (slips := _distance(word, bare)) <= min(SLIPS, max(len(word), len(bare)) // 3)
    }
    if slips:
        return [name for name in slips if slips[name] == min(slips.values())][:MOST]
    return [name for name, bare in there.items() if _begins_alike(word, bare)][:MOST]


def _bare(name: str) -> str:
    return name.lstrip("-").lower()


def _begins_alike(word: str, name: str) -> bool:
    if word.startswith(name):
        return len(name) >= 4 or word[len(name) :].startswith("-")
    return len(word) >= 3 and name.startswith(word)


def _distance(a: str, b: str) -> int:
    """Letters left out, added, wrong, or exchanged with their neighbours: how many turn `a` into `b`."""
    before: list[int] = []
    row = list(range(len(b) + 1))
    for i, letter in enumerate(a, 1):
        before, above = row, before
        row = [i]
        for j, other in enumerate(b, 1):
            steps = min(before[j] + 1, row[-1] + 1, before[j - 1] + (letter != other))
            if i > 1 and j > 1 and letter == b[j - 2] and other == a[i - 2]:
                steps = min(steps, above[j - 2] + 1)
            row.append(steps)
    return row[-1]
