"""Fit the gate of charrnn/counts/bundled_gate.py, and write it there: python docs/make_gate.py

Small networks learn pieces of the texts in corpora/, of lengths from which nothing is set aside for a gate.
The gate is fitted on what follows each piece.
"""

from __future__ import annotations

import tempfile
import textwrap
from pathlib import Path
from typing import Any

import numpy as np

from charrnn import api
from charrnn.config import TextConfig
from charrnn.counts.compiled import CompiledLookup
from charrnn.counts.fitting import fitted
from charrnn.counts.learning.building import learned
from charrnn.nn.network import Model
from charrnn.tasks.counting import observed
from charrnn.text.reading import read

ROOT = Path(__file__).parent.parent
PIECES = (  # a text, whether its lines are texts, and where a piece begins, in characters, and its length
    ("tales", False, 0, 15_000),
    ("tales", False, 40_000, 6_000),
    ("places", True, 0, 15_000),
    ("places", True, 60_000, 4_000),
)
NEW = 10_000  # characters after each piece, on which the gate is fitted
EPOCHS = 30


def seen(name: str, lines: bool, begin: int, length: int, folder: Path) -> tuple[Any, ...]:
    """What a gate is fitted on, of one piece."""
    whole = (ROOT / "corpora" / f"{name}.txt").read_text("utf-8")
    begin = whole.index("\n", begin) + 1
    middle = whole.index("\n", begin + length) + 1
    for file, low, high in (("old", begin, middle), ("new", middle, middle + NEW)):
        (folder / file).write_text(whole[low:high].rpartition("\n")[0] + "\n", "utf-8")
    out, text = folder / f"{name}-{begin}.safetensors", TextConfig(lines=lines)
    for _ in api.train(folder / "old", out=out, text=text, val=folder / "new", epochs=EPOCHS, counts=0):
        pass
    checkpoint = api.load(out)
    old, new = (
        read([folder / file], checkpoint.text, vocabulary=checkpoint.vocabulary).documents
        for file in ("old", "new")
    )
    model = Model(checkpoint.config)
    model.load_tensors(checkpoint.tensors)
    found = observed(model, new, *CompiledLookup(learned(old)).score(new, 0, len(new)))
    _, chances, network = found
    losses = [float(-np.log(p).mean()) for p in (chances, network)]
    print(f"{name}, {len(old):,} characters: counts {losses[0]:.3f}, network {losses[1]:.3f}")
    return found


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        parts = [seen(*piece, Path(folder)) for piece in PIECES]
    gate = fitted(*(np.concatenate(part) for part in zip(*parts, strict=True)))
    numbers = " ".join(f"{number:.3f}" for number in gate.flat)
    target = ROOT / "charrnn" / "counts" / "bundled_gate.py"
    head, _, _ = target.read_text("utf-8").partition('_NUMBERS = """')
    body = textwrap.fill(numbers, 106, break_on_hyphens=False)
    target.write_text(
        f'{head}_NUMBERS = """\n{body}\n"""\nBUNDLED = Gate(np.array(_NUMBERS.split(), np.float32))\n'
    )


if __name__ == "__main__":
    main()
