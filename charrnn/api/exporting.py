"""Models for others: a page that writes, and files for PyTorch and ONNX."""

from __future__ import annotations

from pathlib import Path

from charrnn.api.models import as_read, checkpoint_of
from charrnn.checkpoint.model_file import Checkpoint
from charrnn.config import PAGE_COUNTS, WeightPrecision


def page(
    model: Checkpoint | str | Path | None,
    name: str,
    *,
    precision: WeightPrecision = "bfloat16",
    most_counts: float = PAGE_COUNTS,
) -> str:
    """One HTML file that writes what `sample` writes with this precision, under this heading.

    `most_counts` bounds the megabytes of the model's counts; 0 leaves them out, and what is written is
    another text.

    Raises:
        ConfigError: the counts take more.
    """
    from charrnn.pages.page import page as made

    return made(checkpoint_of(model), name, precision=precision, most_counts=most_counts)


def torch_script(model: Checkpoint | str | Path | None, path: str | Path, prompt: str | None = None) -> str:
    """A script that opens the model in the file `path` with PyTorch, and tells what follows the prompt.

    Raises:
        CheckpointError: a part of the network has no counterpart.
        VocabularyError: the model does not know a character of the prompt.
    """
    from charrnn.exports.torch_script import torch_script as made

    checkpoint = checkpoint_of(model)
    if prompt is None:
        prompt = "".join(c for c in "Port" if c in checkpoint.characters) or checkpoint.characters[0]
    prompt = as_read(checkpoint, prompt)
    checkpoint.vocabulary.encode(prompt)
    return made(checkpoint, path, prompt)


def onnx_model(model: Checkpoint | str | Path | None) -> bytes:
    """The network as an ONNX file; see charrnn.exports.onnx_graph for what goes in and comes out.

    Raises:
        CheckpointError: a part of the network has no counterpart.
        CharrnnError: the library onnx is not installed.
    """
    from charrnn.exports.onnx_graph import onnx_graph

    return onnx_graph(checkpoint_of(model))
