"""What PyTorch computed, recorded once by tests/record_torch.py into tests/recordings/.

Dropout is off, no character is START and no state is reset: PyTorch's layers have neither.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = Path(__file__).parent.parent / "recordings"

Array = np.ndarray[Any, Any]
State = list[tuple[Array, ...]]  # one tuple a layer: (h, c) for an LSTM, else (h,), each (B, H)


@dataclass(frozen=True)
class Training:
    """Ten float64 steps of AdamW, from a zero state that is carried from window to window."""

    text: Array  # (10*T + 1, B) int32: window k reads text[k*T : k*T + T], predicts one further
    losses: Array  # (10,) float64, each before its step
    norms: Array  # (10,) float64, of the gradient before it is clipped
    settings: dict[str, float]  # lr, beta1, beta2, eps, weight_decay (matrices only), clip


@dataclass(frozen=True)
class Recording:
    """One network, one window of text, and what PyTorch made of them."""

    name: str
    config: dict[str, Any]  # the settings of ModelConfig, by name
    tensors: dict[str, Array]  # float32, PyTorch's names and layout
    x: Array  # (T, B) int32
    y: Array  # (T, B) int32
    state: State  # before the window, float32
    logits: Array  # (T, B, V) float32
    final_state: State  # float32
    loss: float  # computed in float64, as are both kinds of gradient
    gradients: dict[str, Array]
    state_gradient: State
    training: Training | None  # of the networks that were trained as well

    @property
    def network(self) -> tuple[str, str, int, bool, bool]:
        """What naive's functions take after the parameters."""
        c = self.config
        return c["cell"], c["nonlinearity"], c["num_layers"], c["norm"], c["residual"]


@functools.cache
def names(*, trained: bool = False) -> list[str]:
    """Every recording's name, sorted; or only of those that hold a training run."""
    found = sorted(path.stem for path in FOLDER.glob("*.npz"))
    return [name for name in found if _is_trained(name)] if trained else found


def _is_trained(name: str) -> bool:
    with np.load(FOLDER / f"{name}.npz", allow_pickle=False) as file:
        return "training/text" in file


def load(name: str) -> Recording:
    with np.load(FOLDER / f"{name}.npz", allow_pickle=False) as file:
        arrays = dict(file)

    def group(prefix: str) -> dict[str, Array]:
        return {k.removeprefix(prefix): a for k, a in arrays.items() if k.startswith(prefix)}

    def state(key: str) -> State:
        return [tuple(layer) for layer in arrays[key]]

    training = group("training/")
    return Recording(
        name=name,
        config=json.loads(str(arrays["config"])),
        tensors=group("tensors/"),
        x=arrays["x"],
        y=arrays["y"],
        state=state("state"),
        logits=arrays["logits"],
        final_state=state("final_state"),
        loss=float(arrays["loss"]),
        gradients=group("gradients/"),
        state_gradient=state("state_gradient"),
        training=Training(
            text=training["text"],
            losses=training["losses"],
            norms=training["norms"],
            settings=json.loads(str(training["settings"])),
        )
        if training
        else None,
    )


@functools.cache
def readers(*heads: str) -> list[str]:
    """The names of recordings by tests/record_torch_readers.py, of networks that end in these heads."""
    found = sorted(path.stem for path in (FOLDER / "readers").glob("*.npz"))
    return [name for name in found if name.startswith(heads)]


@dataclass(frozen=True)
class ReaderRecording:
    """One network that reads, a batch of texts, and what PyTorch made of them."""

    config: dict[str, Any]  # head, cell, nonlinearity and sizes
    tensors: dict[str, Array]
    gradients: dict[str, Array]  # float64, as is the loss
    arrays: dict[
        str, Array
    ]  # x, lengths, targets, weights, logits, and for a decoder previous, target_lengths
    loss: float


def load_reader(name: str) -> ReaderRecording:
    with np.load(FOLDER / "readers" / f"{name}.npz", allow_pickle=False) as file:
        arrays = dict(file)
    groups: dict[str, dict[str, Array]] = {"tensors": {}, "gradients": {}}
    for key in list(arrays):
        group, slash, rest = key.partition("/")
        if slash:
            groups[group][rest] = arrays.pop(key)
    config, loss = json.loads(str(arrays.pop("config"))), float(arrays.pop("loss"))
    return ReaderRecording(config, groups["tensors"], groups["gradients"], arrays, loss)
