"""Small model files, whole and damaged, for the tests of what reads them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from charrnn.checkpoint.model_file import Checkpoint, save
from charrnn.config import ModelConfig, TextConfig
from charrnn.vocabulary import Vocabulary

CHARACTERS = "\n abcdefghijklmnopqrstuvwxyzä"
ROW = {"step": 10, "epoch": 0.5, "train_loss": 1.25, "val_loss": 1.5}


def checkpoint(seed: int = 0, characters: str = "\nab", **settings: Any) -> Checkpoint:
    """A checkpoint with random weights, of a network small enough to damage byte by byte."""
    config = ModelConfig(
        vocab_size=len(characters),
        **{"cell": "rnn", "hidden_size": 2, "num_layers": 1, "embedding_size": 2} | settings,
    )
    random = np.random.default_rng(seed)
    return Checkpoint(
        config=config,
        vocabulary=Vocabulary(characters),
        text=TextConfig(lines="\n" in characters),
        tensors={
            name: random.standard_normal(shape, np.float32)
            for name, shape in config.parameter_shapes().items()
        },
        history=[ROW],
        best_val_loss=1.5,
        run="f00d",
        settings={"seed": 7, "minutes": None, "nested": {"lr": [0.1, 0.2]}},
    )


def write_model(path: Path, **text: bool) -> Path:
    """A tiny model whose weights are noise."""
    characters = "".join(map(chr, range(256))) if text.get("bytes") else CHARACTERS
    config = ModelConfig(len(characters), hidden_size=8, num_layers=1, embedding_size=4)
    rng = np.random.default_rng(5)
    tensors = {
        name: rng.normal(0, 0.3, shape).astype(np.float32)
        for name, shape in config.parameter_shapes().items()
    }
    model = Checkpoint(
        config=config,
        vocabulary=Vocabulary(characters),
        text=TextConfig(**text),
        tensors=tensors,
        history=[
            {"step": 10, "epoch": 0.5, "train_loss": 3.0, "val_loss": 3.2},
            {"step": 20, "epoch": 1.0, "train_loss": 2.5, "val_loss": 2.75},
        ],
        best_val_loss=2.75,
        run="",
        settings={"steps": 20, "learning_rate": 0.006},
    )
    save(model, path)
    return path


def pack(header: dict[str, Any] | bytes, data: bytes, *, length: int | None = None) -> bytes:
    """A .safetensors file made by hand; `length` is what it claims of its header."""
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(raw) if length is None else length).to_bytes(8, "little") + raw + data


def unpack(content: bytes) -> tuple[dict[str, Any], bytes]:
    """The header and the data of a .safetensors file."""
    end = 8 + int.from_bytes(content[:8], "little")
    return json.loads(content[8:end]), content[end:]


def with_header(content: bytes, change: Callable[[dict[str, Any]], Any]) -> bytes:
    """The file, its header changed in place by `change`."""
    header, data = unpack(content)
    change(header)
    return pack(header, data)


def with_record(content: bytes, change: Callable[[dict[str, Any]], Any]) -> bytes:
    """The file, the record in its metadata changed in place by `change`."""

    def change_header(header: dict[str, Any]) -> None:
        record = json.loads(header["__metadata__"]["charrnn"])
        change(record)
        header["__metadata__"]["charrnn"] = json.dumps(record)

    return with_header(content, change_header)
