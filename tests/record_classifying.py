"""Records what PyTorch computes when it runs the lines of docs/classifying.md on classifiers.

    torch/bin/python tests/record_classifying.py       # rewrites tests/recordings/readme/classifying.npz

See record_readme.py. Only `main` needs PyTorch.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import re
import tempfile
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from naive import class_grams
from record_readme import CELLS, CHARACTERS, ROOT, digest

from charrnn.checkpoint import model_file
from charrnn.checkpoint.model_file import Checkpoint
from charrnn.config import ModelConfig, TextConfig
from charrnn.counts.class_grams import ClassGrams
from charrnn.labels import Column
from charrnn.vocabulary import Vocabulary

PAGE = ROOT / "docs" / "classifying.md"
RECORDING = ROOT / "tests" / "recordings" / "readme" / "classifying.npz"
COLUMNS = Column("a", ("x", "y", "z"), (3, 2, 1)), Column("b", ("u", "v"), (1, 1))


def code() -> str:
    """The lines that open a model in PyTorch."""
    (block,) = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text("utf-8"), re.M | re.S)
    return str(block)


def models() -> Iterator[tuple[str, Checkpoint]]:
    """One with random weights for each cell x norm and residual x input, of one column or two.

    Half of them have grams.
    """
    grid = itertools.product(CELLS, [True, False], [0, 6])
    for number, ((cell, nonlinearity), plain, D) in enumerate(grid):
        columns = COLUMNS[: 1 + number % 2]
        targets = tuple(len(column.labels) for column in columns)
        config = ModelConfig(
            len(CHARACTERS), cell, nonlinearity, 3, 2, D, not plain, not plain, kind="classifier",
            targets=targets,
        )  # fmt: skip
        random = np.random.default_rng(number)
        shapes = config.parameter_shapes().items()
        tensors = {name: random.standard_normal(shape, np.float32) for name, shape in shapes}
        text = TextConfig(split="nul", label_by="column")
        name = "-".join(map(str, (cell, nonlinearity, plain, D)))
        vocabulary = Vocabulary.of_text(CHARACTERS, text)
        model = Checkpoint(config, vocabulary, text, tensors, columns=columns)
        yield (
            name,
            replace(model, grams=grams(vocabulary, targets, number)) if number % 4 in (1, 2) else model,
        )


def grams(vocabulary: Vocabulary, targets: tuple[int, ...], number: int) -> ClassGrams:
    """Random weights of half of the grams of what is read, and of others; they are always sure, or never."""
    random, V, N = np.random.default_rng(number), len(CHARACTERS), sum(targets)
    numbers = np.unique([*class_grams(vocabulary.encode("Port").tolist(), V)[::2], *range(5)])
    scales = (random.random(len(targets), np.float32) for _ in range(2))
    return ClassGrams(
        numbers.astype(np.uint32), random.integers(0, 256, (len(numbers), N), np.uint8), *scales,
        random.standard_normal(N, np.float32), np.full(1, 0 if number % 8 < 4 else 2, np.float32),
        sizes=targets, vocab_size=V,
    )  # fmt: skip


def main() -> None:
    import torch

    recorded = {"code": hashlib.sha256(code().encode()).hexdigest(), "torch": torch.__version__.split("+")[0]}
    arrays = {}
    for name, model in models():
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            model_file.save(model, "m.safetensors")
            found: dict[str, torch.Tensor] = {}
            exec(code(), found)
            arrays[f"probabilities/{name}"] = found["probabilities"].detach().numpy()
            os.chdir(ROOT)
        recorded[f"file/{name}"] = digest(model)
    np.savez_compressed(RECORDING, **arrays, **recorded)


if __name__ == "__main__":
    main()
