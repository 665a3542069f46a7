"""Records what PyTorch computes when it runs the lines of our pages on model files.

docs/pytorch.md opens models that write, of every kind of network, and docs/restoring.md those that restore.

    python -m venv torch && torch/bin/pip install numpy safetensors torch
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
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from charrnn.checkpoint import model_file  # noqa: E402
from charrnn.checkpoint.model_file import Checkpoint  # noqa: E402
from charrnn.config import ModelConfig, TextConfig  # noqa: E402
from charrnn.labels import Column  # noqa: E402
from charrnn.nn import cells  # noqa: E402
from charrnn.vocabulary import Vocabulary  # noqa: E402

PAGE = ROOT / "docs" / "pytorch.md"
RECORDING = ROOT / "tests" / "recordings" / "readme" / "readme.npz"
RESTORING = ROOT / "docs" / "restoring.md"
OF_RESTORERS = RECORDING.with_name("restoring.npz")
CHARACTERS, SMALL = " Poprt", "\n oprt"
OPERATIONS = ("=", "=\u0301", "^", "^\u0301")
CELLS = [(cell.kind, cell.nonlinearity or "tanh") for cell in cells.CELLS.values()]


def code(page: Path = PAGE) -> str:
    """The lines of a page that open a model in PyTorch."""
    blocks = re.findall(r"^```python\n(.*?)^```$", page.read_text("utf-8"), re.M | re.S)
    (block,) = (block for block in blocks if "import torch" in block)
    return str(block)


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
    for page, recording, made in ((PAGE, RECORDING, models()), (RESTORING, OF_RESTORERS, restorers())):
        record(page, recording, made)


def record(page: Path, recording: Path, made: Iterator[tuple[str, Checkpoint]]) -> None:
    """Run the lines of a page on these models."""
    import torch

    lines = code(page)
    recorded = {"code": hashlib.sha256(lines.encode()).hexdigest(), "torch": torch.__version__.split("+")[0]}
    arrays = {}
    for name, model in made:
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            model_file.save(model, "m.safetensors")
            found: dict[str, torch.Tensor] = {}
            exec(lines, found)
            arrays[f"logits/{name}"] = found["logits"].detach().numpy()
            os.chdir(ROOT)
        recorded[f"file/{name}"] = digest(model)
    recording.parent.mkdir(exist_ok=True)
    np.savez_compressed(recording, **arrays, **recorded)


if __name__ == "__main__":
    main()
