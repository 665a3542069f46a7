"""What a model gains that learns the text it reads, and how long that takes.

    python bench/adaptive.py tinyshakespeare.safetensors last-tenth.txt

The text should be none that the model was trained on. Seconds are of the CPU, of reading the whole text, once
everything is compiled; the last column is the speed of the counts' part alone.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from report import NOTHING, Table

WINDOW = 1024  # characters


def counting(model: Any, documents: Any) -> float:
    """Characters a second that counts learn, of the logits of a model, the better of three."""
    from charrnn.counts.growing import GrowingCounts
    from charrnn.inference.mixed_model import model_of

    network, state, windows = model_of(model, None), None, []
    for low in range(0, len(documents), WINDOW):
        positions = np.arange(low, min(low + WINDOW, len(documents)))[:, None]
        x, y, reset = documents.look_up(positions)
        logits, state = network.forward(x, state, reset)
        windows.append((logits[:, 0], x[:, 0], y[:, 0], reset[:, 0]))
    seconds = []
    for _ in range(3):
        counts = GrowingCounts(model.vocabulary, model.text)
        past, begun = counts.nothing(), time.process_time()
        for window in windows:
            counts.read(*window, past)
        seconds.append(time.process_time() - begun)
    return len(documents) / min(seconds)


def rows(model: Any, documents: Any) -> list[tuple[str, ...]]:
    """The figures of one model."""
    from charrnn.config import DynamicConfig
    from charrnn.counts.growing import GrowingCounts
    from charrnn.inference.mixed_model import model_of
    from charrnn.tasks.adaptive_evaluation import adaptive_loss
    from charrnn.tasks.dynamic_evaluation import dynamic_loss
    from charrnn.tasks.evaluation import evaluate

    def adaptive(text: Any, config: DynamicConfig | None = None) -> float:
        return adaptive_loss(network, text, GrowingCounts(model.vocabulary, model.text), config)

    network, config = model_of(model, None), DynamicConfig()
    ways = {
        "as it is": lambda text: evaluate(network, text).loss,
        "--dynamic": lambda text: dynamic_loss(network, text, config),
        "--adaptive": adaptive,
        "--adaptive --dynamic": lambda text: adaptive(text, config),
    }
    found = []
    for name, loss in ways.items():
        loss(documents.head(2 * WINDOW))  # compiles
        begun = time.process_time()
        nats = loss(documents)
        seconds = time.process_time() - begun
        speed = f"{counting(model, documents):,.0f}" if name == "--adaptive" else NOTHING
        found.append((name, f"{nats:.4f}", f"{seconds:.1f}", speed))
    return found


def main() -> None:
    from charrnn import api
    from charrnn.text.reading import read

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path)
    parser.add_argument("text", type=Path)
    a = parser.parse_args()
    model = api.load(a.model)
    documents = read([a.text], model.text, vocabulary=model.vocabulary).documents
    print(f"{a.text.stem}: {len(documents):,} characters")
    header = ("", "nats", "s", "counts, chars/s")
    print(Table(header, tuple(rows(model, documents))).plain())


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
