"""The kernels of pages, in WebAssembly, against those of NumPy: bit for bit."""

from __future__ import annotations

import importlib.util
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from charrnn.config import ModelConfig
from charrnn.inference import numpy_network
from charrnn.pages import build_kernels

WASM = build_kernels.FOLDER / "kernels.wasm"
SIZES = (1, 3, 16, 33, 70)
needs_wasmtime = pytest.mark.skipif(
    importlib.util.find_spec("wasmtime") is None, reason="wasmtime, which runs the kernels, is not installed"
)


def ziglang() -> str:
    """The version of the compiler that is installed, or nothing."""
    try:
        return version("ziglang")
    except PackageNotFoundError:
        return ""


class Kernels:
    """The kernels, called with arrays; each returns what it wrote over its outputs."""

    def __init__(self) -> None:
        import wasmtime

        self.store = wasmtime.Store()
        module = wasmtime.Module.from_file(self.store.engine, str(WASM))
        self.memory = wasmtime.Memory(self.store, wasmtime.MemoryType(wasmtime.Limits(4, None)))
        self.exports = wasmtime.Instance(self.store, module, [self.memory]).exports(self.store)

    def __call__(self, name: str, *values: Any, outputs: int) -> list[np.ndarray[Any, Any]]:
        """Call a kernel with arrays and numbers, of which the first `outputs` arrays are returned."""
        words, at, places = [], 65536, []
        for value in values:
            if isinstance(value, np.ndarray):
                self.memory.write(self.store, value.astype("<f4").tobytes() + bytes(64), at)
                words.append(at)
                places.append((at, value.size))
                at += -(-(4 * value.size + 64) // 64) * 64
            else:
                words.append(value)
        self.exports[name](self.store, *words)
        return [
            np.frombuffer(bytes(self.memory.read(self.store, place, place + 4 * size)), "<f4")
            for place, size in places[:outputs]
        ]


def rows(random: np.random.Generator, *sizes: int) -> list[np.ndarray[Any, Any]]:
    """Rows of any size, from the smallest numbers to the largest, of infinity and NaN."""
    found = []
    for size in sizes:
        row = random.normal(size=size) * 10.0 ** random.integers(-4, 3)
        row[random.random(size) < 0.05] = random.choice([0.0, -0.0, 1e-41, 3e38, -np.inf, np.nan])
        found.append(row.astype(np.float32))
    return found


def same(found: Any, expected: Any) -> None:
    """Bit for bit, but that a NaN may be any."""
    expected, found = np.asarray(expected, np.float32), np.asarray(found, np.float32)
    assert np.array_equal(np.isnan(found), np.isnan(expected))
    known = ~np.isnan(expected)
    assert np.array_equal(found[known].view(np.int32), expected[known].view(np.int32))


@needs_wasmtime
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("H", SIZES)
def test_the_kernels_compute_what_numpy_computes(H: int) -> None:
    kernels, random = Kernels(), np.random.default_rng(H)
    x, weight = rows(random, H)[0], np.stack(rows(random, *[64] * H))
    (bias,) = rows(random, 64)
    panels = weight.reshape(H, 2, 32).transpose(1, 0, 2)
    (found,) = kernels("product", np.empty(64), x, panels, bias, H, 2, outputs=1)
    same(found, numpy_network.product(weight, x) + bias)
    for name, cell, nonlinearity in (
        ("lstm", "lstm", "tanh"), ("gru", "gru", "tanh"), ("rnn", "rnn", "tanh"), ("rnn", "rnn", "relu"),
    ):  # fmt: skip
        recurrence = ModelConfig(4, cell, nonlinearity).recurrence
        gates, parts = len(recurrence.gates), len(recurrence.state)
        u, w, *state = rows(random, gates * H, gates * H, *[H] * parts)
        before = np.concatenate(state)
        after = np.empty_like(before)
        numpy_network.cell_step(recurrence, H)(u, w, before, after)
        more = [int(nonlinearity == "relu")] if cell == "rnn" else []
        _, _, *new = kernels(name, u, w, *state, H, *more, outputs=2 + parts)
        same(np.concatenate(new), after)
    x, scale, shift = rows(random, H, H, H)
    (found,) = kernels("add", np.empty(H), x, shift, H, outputs=1)
    same(found, x + shift)
    x = np.nan_to_num(x, nan=1.0, posinf=2.0, neginf=3.0)
    (found,) = kernels("norm", np.empty(H), x, scale, shift, H, outputs=1)
    same(found, numpy_network.layer_norm(x, scale, shift))


@pytest.mark.process
@pytest.mark.skipif(
    ziglang() != build_kernels.VERSION,
    reason=f"ziglang {build_kernels.VERSION}, which compiled the kernels, is not installed",
)
def test_the_kernels_are_those_of_their_source(tmp_path: Path) -> None:
    build_kernels.build(tmp_path / "kernels.wasm")
    assert (tmp_path / "kernels.wasm").read_bytes() == WASM.read_bytes(), "run: make kernels"
