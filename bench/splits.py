"""Speed of each split beside that of lines: reading, and training.

    python bench/splits.py corpus.txt [--rounds 7] [--steps 100]

Three lines of the corpus make a record. Each text has the same records between other separators, and the
splits take turns. Prints the median, over the rounds, of the ratio to lines in the same round; above
1.00 is slower.
"""

from __future__ import annotations

import argparse
import io
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parent.parent))

from charrnn import api
from charrnn.config import TextConfig
from charrnn.events import Step
from charrnn.text.reading import read

SEPARATORS = {
    "line": "\n", "blank": "\n\n", "nul": "\0", "%": "\n%\n", "---": "\n---\n",
    "<|endoftext|>": "\n<|endoftext|>\n",
}  # fmt: skip
LINES = 3  # of a record
READ, TRAINED = 8_000_000, 200_000  # characters

Texts = dict[str, bytes]


def texts(corpus: Path) -> Texts:
    """The same records with each separator; where lines are records, as many lines in each."""
    lines = [line for line in corpus.read_text(encoding="utf-8").split("\n") if line.strip()]
    lines *= 1 + READ // sum(map(len, lines))
    groups = [lines[n : n + LINES] for n in range(0, len(lines), LINES)]
    return {
        what: "".join(("\n" if what != "line" else " ").join(group) + separator for group in groups).encode()
        for what, separator in SEPARATORS.items()
    }


def reading(what: str, data: bytes) -> float:
    """Seconds of the processor."""
    began = time.process_time()
    read(["-"], TextConfig(split=what), stdin=io.BytesIO(data))
    return time.process_time() - began


def training(what: str, data: bytes, *, steps: int) -> float:
    """Seconds for a step, after the first ones."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "text")
        path.write_bytes(data[:TRAINED])
        settings = {"hidden_size": 128, "dropout": 0.0, "steps": steps, "evaluations": 1, "val_fraction": 0.0}
        out = Path(folder, "m.safetensors")
        events = [
            e
            for e in api.train(path, out=out, text=TextConfig(split=what), **settings)
            if isinstance(e, Step)
        ]
    first, last = events[0], events[-1]
    return (last.seconds - first.seconds) / (last.step - first.step)


def ratios(measure: Callable[[str, bytes], float], data: Texts, rounds: int) -> dict[str, float]:
    """By split, the median of the ratios to lines."""
    found: dict[str, list[float]] = {what: [] for what in data}
    for _ in range(rounds):
        seconds = {what: measure(what, text) for what, text in data.items()}
        for what, value in seconds.items():
            found[what].append(value / seconds["line"])
    return {what: median(values) for what, values in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=100)
    given = parser.parse_args()
    data = texts(given.corpus)
    measures = {"reading": reading, "training": partial(training, steps=given.steps)}
    for name, measure in measures.items():
        for what, ratio in ratios(measure, data, given.rounds).items():
            print(f"{name:10}{what:16}{ratio:.2f}", flush=True)


if __name__ == "__main__":
    main()
