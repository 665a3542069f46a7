"""Writes two tables in docs/control.md: python docs/make_control.py

What masking does to probabilities, and the filters.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from charrnn.checkpoint import model_file  # noqa: E402
from charrnn.config import SampleConfig  # noqa: E402
from charrnn.inference import filters  # noqa: E402
from charrnn.inference.numpy_network import PlainNetwork  # noqa: E402

PAGE = ROOT / "docs" / "control.md"
WORDS = ("Karton", "Kinburg", "Kestville", "Maxburg", "Morton", "Zeburg")


def probabilities() -> tuple[list[float], list[float]]:
    """Of each of WORDS as a line of the bundled model at temperature 1: as masking draws, and exactly."""
    model = model_file.load(ROOT / "checkpoints" / "places.safetensors")
    network = PlainNetwork(model)
    lines = [word + "\n" for word in WORDS]
    masked, free = [], []
    for line in lines:
        last, state = len(model.vocabulary), network.initial_state()
        p = q = 1.0
        for n, character in enumerate(line):
            logits, state = network.step(last, state)
            shares = np.exp(logits.astype(np.float64) - logits.max())
            shares /= shares.sum()
            fitting = {other[n] for other in lines if other.startswith(line[:n])}
            left = sum(shares[model.vocabulary.characters.index(c)] for c in fitting)
            last = model.vocabulary.characters.index(character)
            p *= float(shares[last])
            q *= float(shares[last] / left)
        free.append(p)
        masked.append(q)
    return masked, [p / sum(free) for p in free]


def table() -> str:
    """The table, in Markdown."""
    masked, exact = probabilities()
    rows = [f"| {w} | {q:.1%} | {p:.1%} |\n" for w, q, p in zip(WORDS, masked, exact, strict=True)]
    return "| text | masked | `--exact` |\n|---|---:|---:|\n" + "".join(rows)


def filter_table() -> str:
    """The filters, and the order in which they apply."""
    lines = [line for line in filters.table(SampleConfig) if line.apply is not None]
    rows = [f"| `--{line.option} {line.metavar}` | {summary(line.apply)} |\n" for line in lines]
    early = ", ".join(line.option for line in lines if line.is_early)
    late = ", ".join(line.option for line in lines if not line.is_early)
    order = f"They apply in this order: {early}; the masks of the sections above; temperature; {late}.\n"
    return "| option | what it does |\n|---|---|\n" + "".join(rows) + "\n" + order


def summary(function: object) -> str:
    """The first paragraph of its docstring, in one line."""
    return " ".join((function.__doc__ or "").split("\n\n")[0].split()).rstrip(".")


def page() -> str:
    """The whole page, its tables made anew."""
    text = PAGE.read_text("utf-8")
    for name, make in (("masked and exact", table), ("filters", filter_table)):
        begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->\n"
        before, rest = text.split(begin)
        text = before + begin + make() + end + rest.split(end)[1]
    return text


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8", newline="\n")
