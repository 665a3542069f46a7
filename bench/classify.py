"""How often `charrnn classify` is right: a confusion table over texts whose origin is known.

    python bench/classify.py -m a.safetensors -m b.safetensors a-held-out.txt b-held-out.txt

The first text is of the kind of the first model, and so on. Prints a Markdown table. Lines that a model was
trained on say little: give others.
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

from charrnn.api import classify


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-m", "--model", type=Path, action="append", required=True)
    parser.add_argument("texts", type=Path, nargs="+")
    a = parser.parse_args()
    if len(a.texts) != len(a.model):
        parser.error("give as many texts as models")
    names = [path.stem for path in a.model]
    right = total = 0
    print(f"| line of | {' | '.join(f'taken for {name}' for name in names)} |")
    print("|---|" + "---:|" * len(names))
    for truth, text in enumerate(a.texts):
        found = Counter(line.best for lines in classify(a.model, text) for line in lines)
        print(f"| {text.stem} | {' | '.join(f'{found[n]:,}' for n in range(len(names)))} |")
        right, total = right + found[truth], total + found.total()
    print(f"\n{right / total:.2%} of {total:,} lines are recognised.")


if __name__ == "__main__":
    main()
