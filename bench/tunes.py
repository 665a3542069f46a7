"""The share of written tunes that music21 reads whole.

    charrnn sample -m tunes.safetensors --count 200 -0 | ~/music/bin/python bench/tunes.py

Reads tunes in ABC notation, separated by NUL; runs in an environment that has PyPI's music21. A tune is whole
if it is parsed without an error, and has a title or number, a key, notes, and no measure without content.
"""

from __future__ import annotations

import sys
from collections import Counter


def problem(tune: str) -> str:
    """Why this is no whole tune; empty: it is one."""
    from music21 import converter, key, stream

    heads = {line[:2] for line in tune.splitlines() if line[1:2] == ":"}
    if not heads & {"X:", "T:"} or "K:" not in heads:
        return "no head"
    try:
        parsed = converter.parse(tune, format="abc")
    except Exception as error:  # music21 raises errors of many kinds
        return type(error).__name__
    if len(parsed.recurse().notes) < 8:
        return "fewer than eight notes"
    if not parsed.recurse().getElementsByClass(key.KeySignature):
        return "no key"
    measures = list(parsed.recurse().getElementsByClass(stream.Measure))
    if any(not measure.recurse().notesAndRests for measure in measures):
        return "an empty measure"
    return ""


def main() -> None:
    """Read the tunes, and print the share of whole ones and what is wrong with the others."""
    tunes = [tune for tune in sys.stdin.read().split("\0") if tune.strip()]
    found = Counter(problem(tune) for tune in tunes)
    whole = found.pop("", 0)
    print(f"{whole} of {len(tunes)} tunes are whole ({whole / max(1, len(tunes)):.1%})")
    for reason, count in found.most_common():
        print(f"{count:>6}  {reason}")


if __name__ == "__main__":
    main()
