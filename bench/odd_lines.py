"""How well `charrnn score` finds odd lines: a hundred with shuffled letters among ten thousand real ones.

    python bench/odd_lines.py names.txt -m names.safetensors
    python bench/odd_lines.py corpora/places.txt -m checkpoints/places.safetensors --held-out

Prints the area under the ROC curve: how often an odd line scores higher than a real one. --held-out takes
only lines that `charrnn train --lines` kept out of training (--val-fraction 0.1, --seed 1).
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np

from charrnn import load
from charrnn.api import score_lines
from charrnn.checkpoint.model_file import Checkpoint
from charrnn.config import TrainConfig
from charrnn.text.reading import read
from charrnn.text.validation import split


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("corpus", type=Path)
    parser.add_argument("-m", "--model", type=Path, required=True)
    parser.add_argument("--real", type=int, default=10_000)
    parser.add_argument("--odd", type=int, default=100)
    parser.add_argument("--shortest", type=int, default=5, help="letters of a line that is taken")
    parser.add_argument("--held-out", action="store_true")
    parser.add_argument("--seed", type=int, default=1)
    a = parser.parse_args()
    model = load(a.model)
    lines = [line for line in lines_of(a.corpus, model, a.held_out) if len(line) >= a.shortest]
    random = np.random.default_rng(a.seed)
    lines = [lines[n] for n in random.permutation(len(lines))]
    odd = [shuffled(line, random) for line in lines[: a.odd]]
    real = lines[a.odd :][: a.real]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "lines"
        path.write_text("\n".join([*odd, *real]), encoding="utf-8")
        found = np.array([line.bpc for together in score_lines(model, path) for line in together])
    high, low = found[: len(odd)], found[len(odd) :]
    area = np.mean(high[:, None] > low) + np.mean(high[:, None] == low) / 2
    print(f"{len(odd)} odd lines among {len(real):,}: area under the ROC curve {area:.4f}")


def lines_of(path: Path, model: Checkpoint, held_out: bool) -> list[str]:
    """The text's lines, or those that training with its defaults keeps for validation."""
    corpus = read([path], model.text, vocabulary=model.vocabulary, on_unknown="skip")
    newline = corpus.vocabulary.characters.find("\n")
    held = split(corpus.documents, TrainConfig(steps=1), newline)[1]
    documents = held if held_out else corpus.documents
    return model.vocabulary.decode(documents.at(np.arange(len(documents)))).splitlines()


def shuffled(line: str, random: np.random.Generator) -> str:
    """The letters of a line in another order, if they have one."""
    for _ in range(10):
        other = "".join(random.permutation(list(line)))
        if other != line:
            return other
    return line


if __name__ == "__main__":
    main()
