"""Records what PyTorch computes when it runs the lines of our pages on model files.

docs/pytorch.md opens models that write, of every kind of network, then those with counts, and
docs/restoring.md those that restore.

    python -m venv torch && torch/bin/pip install numba numpy safetensors torch
    torch/bin/python tests/record_readme.py       # rewrites tests/recordings/readme/

Only `main` needs PyTorch. test_docs.py makes the same files again, byte for byte, and compares.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
sys.path.insert(0, str(ROOT / "tests"))

from support import counted  # noqa: E402

from charrnn.checkpoint import model_file  # noqa: E402
from charrnn.checkpoint.model_file import Checkpoint  # noqa: E402
from charrnn.config import ModelConfig, TextConfig  # noqa: E402
from charrnn.counts.gate import GatedCounts  # noqa: E402
from charrnn.counts.learning.building import build  # noqa: E402
from charrnn.counts.learning.grams import Grams  # noqa: E402
from charrnn.labels import Column  # noqa: E402
from charrnn.nn import cells  # noqa: E402
from charrnn.text.documents import Documents  # noqa: E402
from charrnn.text.records.labels import Labelling  # noqa: E402
from charrnn.vocabulary import Vocabulary  # noqa: E402

PAGE = ROOT / "docs" / "pytorch.md"
RECORDING = ROOT / "tests" / "recordings" / "readme" / "readme.npz"
RESTORING = ROOT / "docs" / "restoring.md"
OF_COUNTS = RECORDING.with_name("counts.npz")
OF_RESTORERS = RECORDING.with_name("restoring.npz")
OF_LABEL = "[]  # labels", "[logits.shape[1] + 2]  # labels"  # in the lines for counts: the second one
CHARACTERS, SMALL = " Poprt", "\n oprt"
OPERATIONS = ("=", "=\u0301", "^", "^\u0301")
CELLS = [(cell.kind, cell.nonlinearity or "tanh") for cell in cells.CELLS.values() if cell.is_layer]


def code(page: Path = PAGE) -> str:
    """The lines of a page that open a model in PyTorch."""
    return blocks(page)[0]


def blocks(page: Path) -> list[str]:
    """Those lines, and those that follow on them."""
    found: list[str] = re.findall(r"^```python\n(.*?)^```$", page.read_text("utf-8"), re.M | re.S)
    (first,) = (n for n, block in enumerate(found) if "import torch" in block)
    return found[first:]


def models() -> Iterator[tuple[str, Checkpoint]]:
    """The bundled model, and one with random weights for each cell x norm x residual x input."""
    yield "bundled", model_file.load(ROOT / "checkpoints" / "places.safetensors")
    for number, ((cell, nonlinearity), norm, residual, D) in enumerate(
        itertools.product(CELLS, [False, True], [False, True], [0, 5, 6])
    ):
        config = ModelConfig(len(CHARACTERS), cell, nonlinearity, 6, 2, D, norm, residual)  # type: ignore[arg-type]
        random = np.random.default_rng(number)
        tensors = {
            name: 0.5 * random.standard_normal(shape, np.float32)
            for name, shape in config.parameter_shapes().items()
        }
        name = "-".join(map(str, (cell, nonlinearity, norm, residual, D)))
        yield name, Checkpoint(config, Vocabulary(CHARACTERS), TextConfig(), tensors, [], None, "", {})


def with_counts() -> Iterator[tuple[str, Checkpoint]]:
    """Models of few characters and of many, with counts of short and of long contexts that know "Port"."""
    wide = "".join(sorted({*CHARACTERS, *map(chr, range(256, 556))}))
    for number, (characters, order) in enumerate(itertools.product((CHARACTERS, wide), (2, 4, 12))):
        config, V = ModelConfig(len(characters), hidden_size=6, embedding_size=5), len(characters)
        random = np.random.default_rng(number)
        tensors = {
            name: 0.5 * random.standard_normal(shape, np.float32)
            for name, shape in config.parameter_shapes().items()
        }
        words = ["Port", "Port", "rot", "Pop", " ", *random.choice([*characters], V)]
        text = "Port" + "".join(random.choice(words, 600))
        vocabulary = Vocabulary(characters)
        documents = Documents(vocabulary.encode(text), V, np.zeros(1, np.int64), -1)
        counts = GatedCounts(build(Grams.of(documents, order)), counted.gated(V, seed=number).gate)
        model = Checkpoint(config, vocabulary, TextConfig(), tensors, counts=counts)
        yield f"{V}-{order}", model
        if characters is CHARACTERS:
            gate = replace(counts.gate, long_most=0.75)
            yield f"{V}-{order}-repeating", replace(model, counts=replace(counts, gate=gate))
            yield f"{V}-{order}-labels", _labelled(model, documents, order)


def _labelled(model: Checkpoint, documents: Documents, order: int) -> Checkpoint:
    """The model of texts with two labels, and counts that know these."""
    starts = np.arange(0, len(documents), 50)
    labelling = Labelling(starts, (np.arange(len(starts)) % 2)[:, None].astype(np.int32))
    counts = build(Grams.of(replace(documents, labels=labelling), order, (2,)))
    config, alone = replace(model.config, labels=(2,)), model.counts
    assert alone is not None
    blank = {name: np.zeros(shape, np.float32) for name, shape in config.parameter_shapes().items()}
    return replace(
        model, config=config, tensors={**blank, **model.tensors}, columns=(Column("", ("a", "b"), (1, 1)),),
        counts=replace(alone, counts=counts),
    )  # fmt: skip


def restorers() -> Iterator[tuple[str, Checkpoint]]:
    """One with random weights for each cell, the last ones plain."""
    for number, (cell, nonlinearity) in enumerate(CELLS):
        plain = number % 2 == 1
        config = ModelConfig(
            len(SMALL), cell, nonlinearity, 3, 2, 0 if plain else 6, not plain, not plain,  # type: ignore[arg-type]
            kind="restorer", targets=(len(OPERATIONS),),
        )  # fmt: skip
        random = np.random.default_rng(number)
        tensors = {
            name: 0.5 * random.standard_normal(shape, np.float32)
            for name, shape in config.parameter_shapes().items()
        }
        yield f"{cell}-{nonlinearity}", Checkpoint(
            config, Vocabulary(SMALL), TextConfig(strip=("diacritics", "case")), tensors,
            columns=(Column("", OPERATIONS, (1,) * len(OPERATIONS)),),
        )  # fmt: skip


def digest(model: Checkpoint) -> str:
    """SHA-256 of the file that holds the model."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.safetensors"
        model_file.save(model, path)
        return hashlib.sha256(path.read_bytes()).hexdigest()


def main() -> None:
    opening, counts = blocks(PAGE)
    record(opening, "logits", RECORDING, models())
    record(opening + counts, "p", OF_COUNTS, with_counts())
    record(code(RESTORING), "logits", OF_RESTORERS, restorers())


def record(lines: str, value: str, recording: Path, made: Iterator[tuple[str, Checkpoint]]) -> None:
    """Run the lines on these models, and keep what they call `value`."""
    import torch

    recorded = {"code": hashlib.sha256(lines.encode()).hexdigest(), "torch": torch.__version__.split("+")[0]}
    arrays = {}
    for name, model in made:
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            model_file.save(model, "m.safetensors")
            found: dict[str, torch.Tensor] = {}
            exec(lines.replace(*OF_LABEL) if model.columns and model.counts else lines, found)
            arrays[f"{value}/{name}"] = found[value].detach().numpy()
            os.chdir(ROOT)
        recorded[f"file/{name}"] = digest(model)
    recording.parent.mkdir(exist_ok=True)
    np.savez_compressed(recording, **arrays, **recorded)


if __name__ == "__main__":
    main()
