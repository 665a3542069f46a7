"""What holds of every network, also of one with a cell or a module that charrnn does not have."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import counted
from support.compiled_loop import AlwaysTogether

from charrnn import api
from charrnn.checkpoint.model_file import Checkpoint, load
from charrnn.config import SampleConfig, TrainConfig
from charrnn.inference.engines import CompiledPath, Cursor, PlainPath
from charrnn.inference.mixture import MixedNetwork
from charrnn.inference.numpy_network import PlainNetwork
from charrnn.nn.learning.optimizer import AdamW
from charrnn.nn.network import Model
from charrnn.nn.workers import Workers
from charrnn.scoring import block_coder, compression

SIZES = {"hidden_size": 10, "num_layers": 2, "batch_size": 4, "seq_len": 16, "dropout": 0.1}


def check_learning(folder: Path, again: dict[str, Any], **own: Any) -> tuple[Path, Path]:
    """It learns, goes on after an interruption, evaluates on any number of threads, and scores.

    `own` are settings of training, `again` those that are repeated with `resume`. Returns corpus and model.
    """
    corpus, out, straight = (folder / name for name in ("corpus.txt", "m.safetensors", "s.safetensors"))
    corpus.write_text("to be or not to be, that is the question\n" * 60, encoding="utf-8")
    settings = {**SIZES, "steps": 30, "evaluations": 3, **own}
    assert list(api.train(corpus, out=straight, threads=2, **settings))[-1].reason == "budget"
    losses = [point["val_loss"] for point in load(straight).history]
    assert losses[-1] < losses[0] < np.log(30)
    asked = []

    def stop() -> bool:
        asked.append(True)
        return len(asked) > 12

    assert list(api.train(corpus, out=out, stop=stop, threads=1, **settings))[-1].reason == "interrupted"
    assert list(api.train(corpus, out=out, resume=True, **again))[-1].reason == "budget"
    assert out.read_bytes() == straight.read_bytes()

    one, two = (api.evaluate(out, corpus, threads=n) for n in (1, 2))
    assert one == two
    assert sum(api.score(out, corpus.read_text("utf-8")[:200])) > 0
    return corpus, out


def check_writing(checkpoint: Checkpoint, precision: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both engines write the same texts on any number of threads, alone, and beside counts and a cache."""
    from charrnn.inference import engines
    from charrnn.inference import writing_loop as kernels

    monkeypatch.setattr(engines, "WEIGHTS_A_THREAD", 1)
    monkeypatch.setattr(engines, "Pace", AlwaysTogether)
    numbers = [np.random.default_rng(1).random(n) for n in (40, 100, 90)]
    config = SampleConfig()
    for model in (checkpoint, api.looking_back(counted.beside(checkpoint), 9)):
        network = PlainNetwork(model, precision)
        paths = [PlainPath(network, config), *(CompiledPath(network, config, kernels, n) for n in (1, 3))]
        results = []
        for path in paths:
            cursors = [Cursor(network.vocab_size, network.initial_state()) for _ in numbers]
            written = []
            if path.most_texts == 1:
                for cursor, n in zip(cursors, numbers, strict=True):
                    written += path.write([cursor], [n], -1)
            else:
                written = path.write(cursors, numbers, -1)
            states = [cursor.state.tobytes() for cursor in cursors]
            results.append(([ids.tolist() for ids in written], states))
        assert all(result == results[0] for result in results)


def check_numbers(checkpoint: Checkpoint, workers: Workers) -> None:
    """When it writes, it computes what it computes in training."""
    model = Model(checkpoint.config, workers=workers)
    model.load_tensors(checkpoint.tensors)
    network = PlainNetwork(checkpoint)
    ids, state = [7, 1, 5, 2, 2, 0, 6], network.initial_state()
    logits, _ = model.forward(np.array(ids, np.int32)[:, None])
    for n, character in enumerate(ids):
        own, state = network.step(character, state)
        np.testing.assert_allclose(own, logits[n, 0], atol=1e-5)


def check_mixture(network: MixedNetwork) -> None:
    """Both engines write the same."""
    from charrnn.inference import writing_loop as kernels

    paths = PlainPath(network, SampleConfig()), CompiledPath(network, SampleConfig(), kernels, threads=1)
    numbers = [np.random.default_rng(n).random(30 + n) for n in range(2)]
    written = []
    for path in paths:
        cursors = [Cursor(network.vocab_size, network.initial_state()) for _ in numbers]
        written.append([ids.tolist() for ids in path.write(cursors, numbers, -1)])
    assert written[0] == written[1]


def check_compression(checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both engines compress to the same bytes, and each restores them."""
    data = b"abc\nfed\n" * 20
    packed, unpacked = [], []
    for plain in (sys.maxsize, -1):
        monkeypatch.setattr(block_coder, "PLAIN", plain)
        packed.append(b"".join(compression.compress(checkpoint, [data])))
        unpacked.append(b"".join(compression.decompress(checkpoint, [packed[0]])))
    assert packed[0] == packed[1]
    assert unpacked == [data, data]


def check_ten_steps(model: Model, r: dict[str, Any], settings: dict[str, Any], T: int = 7) -> None:
    """Ten steps of training are those recorded from PyTorch; the fourth has logits and gradients, too."""
    model.load_tensors({n.removeprefix("tensors/"): a for n, a in r.items() if n.startswith("tensors/")})
    own = {n: settings[n] for n in ("beta1", "beta2", "weight_decay", "clip")}
    train = TrainConfig(steps=10, epsilon=settings["eps"], **own)
    optimizer = AdamW(model.parameters, train, model.workers)
    text, begins = r["text"], r.get("begins")
    state, losses, norms = model.zero_state(3), [], []
    for k in range(10):
        window = slice(k * T, k * T + T)
        x, y, before = text[window], text[k * T + 1 : k * T + 1 + T], state
        reset = None if begins is None else begins[window]
        loss, state = model.gradient(x, y, before, reset)
        if k == 3:
            np.testing.assert_allclose(model.forward(x, before, reset)[0], r["logits"], atol=1e-6)
            for name, gradient in model.gradients.tensors().items():
                np.testing.assert_allclose(gradient, r[f"gradients/{name}"], atol=1e-7)
        losses.append(loss)
        norms.append(optimizer.step(model.gradients, settings["lr"]))
    np.testing.assert_allclose(losses, r["losses"], rtol=1e-6)
    np.testing.assert_allclose(norms, r["norms"], rtol=1e-6)
