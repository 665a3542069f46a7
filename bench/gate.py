"""What counts beside a network bring: the loss, how much of what is written is copied, and the speed.

    python bench/gate.py tinyshakespeare.txt --steps 1500 --val-split end
    python bench/gate.py names.txt --lines --steps 1500 --models names-models

Two models are trained, with counts and without, of the same plan; those in the folder are taken as they are.
The loss is that over the validation part. Copied are the characters of a sample that stand in runs of 30 or
more in the training text. Speeds are of the CPU, the better of three.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from report import Table

RUN = 30  # characters
WRITTEN, TEXTS = 400_000, 64  # characters of a sample, and the texts of prose in it
TIMED = {1: 20_000, 64: 1_000}  # characters of so many texts, of each


def trained(a: argparse.Namespace, folder: Path, counts: float | None) -> Any:
    """The model with so many megabytes of counts; None: as many as suit the text."""
    from charrnn import api
    from charrnn.config import TextConfig
    from charrnn.counts.learning.building import default_bytes

    if counts is None:
        counts = default_bytes(a.corpus.stat().st_size) / 1e6
    path = folder / f"{a.corpus.stem}-{'counts' if counts else 'alone'}.safetensors"
    if not path.exists():
        text = TextConfig(lines=a.lines)
        for _ in api.train(
            a.corpus, out=path, text=text, val_split=a.val_split, steps=a.steps, counts=counts,
            from_scratch=True,
        ):  # fmt: skip
            pass
    return api.load(path)


def parts(model: Any, corpus: Path) -> tuple[Any, Any]:
    """The training and the validation part of the text that the model was trained on."""
    from charrnn.config import TrainConfig
    from charrnn.text.reading import read
    from charrnn.text.validation import split

    documents = read([corpus], model.text, vocabulary=model.vocabulary).documents
    return split(documents, TrainConfig(**model.settings), model.vocabulary.find("\n"))


def loss(model: Any, validation: Any) -> float:
    from charrnn.inference.mixed_model import model_of
    from charrnn.tasks.evaluation import evaluate

    found = evaluate(model_of(model, None), validation)
    assert found is not None
    return found.loss


def counts_loss(model: Any, validation: Any) -> float:
    from charrnn.counts.compiled import CompiledLookup

    chances, _ = CompiledLookup(model.counts.counts).score(validation, 0, len(validation), features=False)
    return float(-np.log(chances).mean())


def copied(model: Any, runs: set[str], temperature: float) -> float:
    """The share of a sample that stands in such runs."""
    from charrnn import api

    count, length = (WRITTEN // 10, None) if model.text.records else (TEXTS, WRITTEN // TEXTS)
    texts = api.sample(model, seed=1, count=count, length=length, temperature=temperature)
    text = "".join("".join(pieces) for pieces in texts)[:WRITTEN]
    inside = np.zeros(len(text), np.bool_)
    for n in range(len(text) - RUN + 1):
        if text[n : n + RUN] in runs:
            inside[n : n + RUN] = True
    return float(inside.mean())


def speed(model: Any, texts: int) -> float:
    """Characters a second of the compiled loop on one thread, of so many texts side by side."""
    from charrnn.config import SampleConfig
    from charrnn.inference import writing_loop
    from charrnn.inference.engines import CompiledPath, Cursor
    from charrnn.inference.numpy_network import PlainNetwork

    network = PlainNetwork(model)
    path = CompiledPath(network, SampleConfig(), writing_loop, 1)
    uniforms = [np.random.default_rng(n).random(TIMED[texts]) for n in range(texts)]
    best = math.inf
    for _ in range(4):  # the first may compile
        cursors = [Cursor(network.vocab_size, network.initial_state()) for _ in range(texts)]
        begun = time.process_time()
        path.write(cursors, uniforms, -1)
        best = min(best, time.process_time() - begun)
    return texts * TIMED[texts] / best


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--lines", action="store_true", help="every line is a text of its own")
    parser.add_argument("--steps", type=int, default=1500, help="of each training [%(default)s]")
    parser.add_argument("--val-split", default="scattered", help="which part is held out [%(default)s]")
    parser.add_argument("--megabytes", type=float, help="the bound of the counts [by the text]")
    parser.add_argument("--models", type=Path, help="a folder for the models [none: they are not kept]")
    a = parser.parse_args()
    with tempfile.TemporaryDirectory() as spare:
        folder = a.models or Path(spare)
        models = {"without": trained(a, folder, 0.0), "with": trained(a, folder, a.megabytes)}
    part, validation = parts(models["with"], a.corpus)
    text = models["with"].vocabulary.decode(part.at(np.arange(len(part))))
    runs = {text[n : n + RUN] for n in range(len(text) - RUN + 1)}
    alone = replace(models["with"], counts=None)
    print(f"{a.corpus.stem}: {len(part):,} characters, {len(validation):,} held out")
    print(f"counts alone {counts_loss(models['with'], validation):.4f} nats a character")
    print(f"the network beside them, alone {loss(alone, validation):.4f}\n")
    rows = []
    for name, model in models.items():
        shares = (f"{copied(model, runs, t):.2%}" for t in (1.0, 0.8))
        speeds = (f"{speed(model, texts) / 1e3:,.1f}" for texts in TIMED)
        size = 0.0 if model.counts is None else model.counts.counts.nbytes / 1e6
        rows.append((name, f"{loss(model, validation):.4f}", f"{size:.1f}", *shares, *speeds))
    header = ("counts", "nats", "MB", "copied, T = 1", "T = 0.8", "1 text, k/s", "64 texts, k/s")
    print(Table(header, tuple(rows)).plain())


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
