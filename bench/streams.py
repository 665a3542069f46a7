"""What reading a text in many streams does to its loss, and how much sooner it is there.

    python bench/streams.py tinyshakespeare.txt checkpoints/one.safetensors checkpoints/another.safetensors

Each model reads the end of the text, in one stream and in many that begin some characters earlier. Shown are
the seconds of both, and by how many nats a character their losses differ, for several such warm-ups.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from report import Table

WARM_UPS = (0, 16, 64, 128, 256, 512)


def read(model: Any, documents: Any, *, whole: bool) -> tuple[float, float]:
    """The mean loss and the seconds it took."""
    from charrnn.tasks.evaluation import evaluate, surprises

    begun = time.perf_counter()
    if whole:
        return float(surprises(model, documents).mean(dtype=np.float64)), time.perf_counter() - begun
    found = evaluate(model, documents)
    assert found is not None
    return found.loss, time.perf_counter() - begun


def compared(path: Path, a: argparse.Namespace) -> tuple[str, ...]:
    """The row of a model."""
    from charrnn import api
    from charrnn.inference.mixed_model import model_of
    from charrnn.tasks import evaluation
    from charrnn.text import documents as texts
    from charrnn.text import reading

    checkpoint = api.load(path)
    whole = reading.read(
        [a.corpus], checkpoint.text, vocabulary=checkpoint.vocabulary, on_unknown="skip"
    ).documents
    documents = texts.Documents(whole.ids[-a.characters :], whole.vocab_size, whole.starts[:1], whole.end)
    model = model_of(checkpoint, None)
    read(model, documents.head(5000), whole=False)  # whatever has to be compiled
    loss, slow = read(model, documents, whole=True)
    quick, differences = [], []
    for evaluation.WARM_UP in a.warm_ups:
        found, seconds = read(model, documents, whole=False)
        quick.append(seconds)
        differences.append(f"{found - loss:+.6f}")
    return path.stem, f"{loss:.4f}", f"{slow:.2f}", f"{min(quick):.2f}", *differences


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("corpus", type=Path)
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--characters", type=int, default=111_000, help="of the text's end [%(default)s]")
    parser.add_argument("--warm-ups", type=int, nargs="+", default=WARM_UPS, help="%(default)s")
    a = parser.parse_args()
    rows = [compared(path, a) for path in a.models]
    header = ("model", "nats", "one stream, s", "many, s", *(f"warm-up {n}" for n in a.warm_ups))
    print(Table(header, tuple(rows)).plain())


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
