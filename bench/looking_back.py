"""What a model gains that looks back at the text so far, and how long that takes.

    python bench/looking_back.py model.safetensors last-tenth.txt
    python bench/looking_back.py model.safetensors last-tenth.txt --tune    # other settings than the defaults

The text should be none that the model was trained on; and settings are tuned on another text than that whose
loss is shown: --first and --skip cut it. Seconds are of the CPU, of reading the text, once all is compiled.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

from report import Table

SIZES = (100, 500, 2000, 5000)
THETAS, WEIGHTS, DOUBTS = (10.0, 15.0, 20.0), (0.4, 0.6, 0.8), (0.05, 0.2, 0.8)  # for --tune
TUNED_SIZE = 500
WARM = 3000  # characters


def losses(model: Any, documents: Any, caches: list[tuple[str, Any]]) -> list[tuple[str, ...]]:
    """The figures of the model with each of these caches."""
    from charrnn.inference.mixed_model import model_of
    from charrnn.tasks.evaluation import evaluate

    found = []
    for name, cache in caches:
        network = model_of(replace(model, cache=cache), None)
        evaluate(network, documents.head(WARM))  # compiles
        begun = time.process_time()
        result = evaluate(network, documents)
        assert result is not None
        found.append((name, f"{result.loss:.4f}", f"{time.process_time() - begun:.1f}"))
    return found


def main() -> None:
    from charrnn import api
    from charrnn.config import CacheConfig
    from charrnn.text.documents import Documents
    from charrnn.text.reading import read

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path)
    parser.add_argument("text", type=Path)
    parser.add_argument("--tune", action="store_true")
    parser.add_argument("--first", type=int, metavar="N", help="read so many characters alone")
    parser.add_argument("--skip", type=int, default=0, metavar="N", help="after so many, of prose")
    a = parser.parse_args()
    model = api.load(a.model)
    documents = read([a.text], model.text, vocabulary=model.vocabulary, on_unknown="skip").documents
    if a.skip:
        documents = Documents(
            documents.ids[a.skip :], documents.vocab_size, documents.starts[:1], documents.end
        )
    documents = documents.head(a.first or len(documents))
    print(f"{a.text.stem}: {len(documents):,} characters")
    caches: list[tuple[str, Any]] = [("as it is", None)]
    if a.tune:
        caches += [
            (f"theta {theta:g}, weight {weight:g}, doubt {doubt:g}", CacheConfig(TUNED_SIZE, *how))
            for how in product(THETAS, WEIGHTS, DOUBTS)
            for theta, weight, doubt in [how]
        ]
    else:
        caches += [(f"--cache {size}", CacheConfig(size)) for size in SIZES]
    print(Table(("", "nats", "s"), tuple(losses(model, documents, caches))).plain())


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
