"""Records what PyTorch computes when it runs the lines of docs/pytorch.md on model files of every kind.

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
from charrnn.nn import cells  # noqa: E402
from charrnn.vocabulary import Vocabulary  # noqa: E402

PAGE = ROOT / "docs" / "pytorch.md"
RECORDING = ROOT / "tests" / "recordings" / "readme" / "readme.npz"
CHARACTERS = " Poprt"
CELLS = [(cell.kind, cell.nonlinearity or "tanh") for cell in cells.CELLS.values()]


def code() -> str:
    """The lines that open a model in PyTorch."""
    blocks = re.findall(
        r"^```python\n(.*?)^```$", (ROOT / "docs" / "pytorch.md").read_text("utf-8"), re.M | re.S
    )
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


def digest(model: Checkpoint) -> str:
    """SHA-256 of the file that holds the model."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.safetensors"
        model_file.save(model, path)
        return hashlib.sha256(path.read_bytes()).hexdigest()


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
            arrays[f"logits/{name}"] = found["logits"].detach().numpy()
            os.chdir(ROOT)
        recorded[f"file/{name}"] = digest(model)
    RECORDING.parent.mkdir(exist_ok=True)
    np.savez_compressed(RECORDING, **arrays, **recorded)


if __name__ == "__main__":
    main()
