"""Gaps filled both ways and by exact search: how often as the text had it, and how long a text takes.

    python bench/gaps.py tinyshakespeare.txt --minutes 3

Two models learn from the first nine tenths of the lines for as long, one that writes and one that fills gaps.
In lines of the last tenth runs of characters are hidden. The writer searches what makes the whole line most
probable; the filler reads in both directions.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from report import Table

# What is hidden in a line: so many gaps of so many characters.
HIDDEN = ((1, 1), (1, 2), (1, 4), (1, 8), (3, 2), (4, 4))
SHORTEST, LONGEST = 30, 70  # characters of a line


def trained(path: Path, out: Path, a: argparse.Namespace, **settings: Any) -> Any:
    """A model of lines."""
    from charrnn import api
    from charrnn.config import TextConfig

    if not out.exists():
        budget = {"steps": a.steps} if a.steps else {"minutes": a.minutes}
        for _ in api.train(path, out=out, text=TextConfig(lines=True), **budget, **settings):
            pass
    return api.load(out)


def pattern(line: str, gaps: int, length: int, random: np.random.Generator) -> str:
    """The line with so many gaps, one in each part of it."""
    hidden = list(line)
    for part in np.array_split(np.arange(len(line)), gaps):
        first = int(random.integers(part[0], max(part[-1] - length + 1, part[0]) + 1))
        hidden[first : first + length] = "?" * len(line[first : first + length])
    return "".join(hidden)


def measured(model: Any, patterns: list[str], lines: list[str]) -> tuple[float, float, float]:
    """The shares of lines and of hidden characters that are as they were, and seconds a line."""
    from charrnn import api

    begun = time.process_time()
    found = [api.fill(model, one, count=1)[0].text for one in patterns]
    seconds = (time.process_time() - begun) / len(patterns)
    right = [
        text[n] == line[n]
        for one, text, line in zip(patterns, found, lines, strict=True)
        for n, c in enumerate(one)
        if c == "?"
    ]
    whole = np.mean([text == line for text, line in zip(found, lines, strict=True)])
    return float(whole), float(np.mean(right)), seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--minutes", type=float, default=3.0, help="of training, each")
    parser.add_argument("--steps", type=int, help="of training, in place of minutes")
    parser.add_argument("--lines", type=int, default=100, help="with gaps")
    parser.add_argument("--models", type=Path, help="a folder for the models, or with them")
    a = parser.parse_args()
    folder = a.models or Path(tempfile.mkdtemp())
    folder.mkdir(exist_ok=True, parents=True)
    text = a.corpus.read_text("utf-8").splitlines()
    cut = len(text) * 9 // 10
    own = folder / "own.txt"
    own.write_text("\n".join(text[:cut]) + "\n", encoding="utf-8")
    models = {
        "writer": trained(own, folder / "writer.safetensors", a),
        "filler": trained(own, folder / "filler.safetensors", a, task="fill"),
    }
    known = set.intersection(*(set(model.vocabulary.characters) for model in models.values())) - set("?*_\\")
    some = [line for line in text[cut:] if SHORTEST <= len(line) <= LONGEST and set(line) <= known]
    rows = []
    for gaps, length in HIDDEN:
        random = np.random.default_rng([gaps, length])
        lines = [some[n] for n in random.permutation(len(some))[: a.lines]]
        patterns = [pattern(line, gaps, length, random) for line in lines]
        for name, model in models.items():
            whole, right, seconds = measured(model, patterns, lines)
            gap = f"{gaps} of {length}, {name}"
            rows.append((gap, f"{whole:.0%}", f"{right:.0%}", f"{seconds:.2f}"))
    print(Table(("gaps", "lines as they were", "characters", "CPU s a line"), tuple(rows)).plain())


if __name__ == "__main__":
    sys.exit(main())
