"""Records what PyTorch computes by the lines of pages about networks, on models of every kind.

    torch/bin/python tests/record_torch_pages.py [PAGE ..]      # rewrites tests/recordings/pages/

See record_readme.py. test_torch_pages.py makes the same models again, byte for byte, and compares.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
sys.path.insert(0, str(ROOT / "tests"))

from record_readme import CELLS, digest  # noqa: E402
from support import random_models  # noqa: E402
from support.readers import reader  # noqa: E402

from charrnn.checkpoint import model_file  # noqa: E402
from charrnn.checkpoint.model_file import Checkpoint  # noqa: E402
from charrnn.config import Kind  # noqa: E402

RECORDINGS = ROOT / "tests" / "recordings" / "pages"
# By page: the kind of its models, and the names of what its lines compute.
PAGES: dict[str, tuple[Kind, tuple[str, ...]]] = {
    "tagging": ("tagger", ("scores", "tags")),
    "rewriting": ("rewriter", ("logits",)),
    "remembering": ("writer", ("logits",)),
}
TEXTS = {"tagging": "abba", "rewriting": "abba", "remembering": "bead"}  # which their lines read


def code(page: str) -> str:
    """The lines of a page that open a model in PyTorch."""
    text = (ROOT / "docs" / f"{page}.md").read_text("utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```$", text, re.M | re.S)
    (block,) = (block for block in blocks if "import torch" in block)
    return str(block)


def models(kind: Kind) -> Iterator[tuple[str, Checkpoint]]:
    """One with random weights for each cell x norm and residual x input, and of rewriters x attention.

    Of writers, two with a memory.
    """
    if kind == "writer":
        for D, N, M in ((0, 6, 5), (7, 128, 20)):
            sizes = {"hidden_size": 18, "embedding_size": D, "memory_rows": N, "memory_width": M}
            yield f"ntm-{D}-{N}-{M}", random_models.make(characters="\nabcde", cell="ntm", **sizes)
        return
    attentions = ("additive", "dot") if kind == "rewriter" else ("additive",)
    every = itertools.product(CELLS, [False, True], [0, 4, 12], attentions)
    for number, ((cell, nonlinearity), norm, D, attention) in enumerate(every):
        more: dict[str, Any] = {"num_layers": 2, "hidden_size": 6, "embedding_size": D, "norm": norm}
        more |= {"residual": norm, "cell": cell, "nonlinearity": nonlinearity, "attention": attention}
        name = "-".join(map(str, (cell, nonlinearity, norm, D, attention)))
        yield name, reader(kind, "\nab", ("x", "y", "z"), number, **more)


def main() -> None:
    import torch

    RECORDINGS.mkdir(exist_ok=True)
    for page in sys.argv[1:] or PAGES:
        kind, names = PAGES[page]
        recorded = {"code": hashlib.sha256(code(page).encode()).hexdigest()}
        arrays = {}
        for name, model in models(kind):
            with tempfile.TemporaryDirectory() as folder, redirect_stdout(None):
                os.chdir(folder)
                model_file.save(model, "m.safetensors")
                found: dict[str, Any] = {}
                exec(code(page), found)
                for value in names:
                    own = found[value]
                    own = torch.stack(own) if isinstance(own, list) else own
                    arrays[f"{value}/{name}"] = own.detach().numpy()
                os.chdir(ROOT)
            recorded[f"file/{name}"] = digest(model)
        np.savez_compressed(RECORDINGS / f"{page}.npz", **arrays, **recorded)


if __name__ == "__main__":
    main()
