"""How fast networks that read are, beside the same ones in PyTorch, which take turns.

    python bench/reading_speed.py --torch-python ~/torch/bin/python [--write]
    python bench/reading_speed.py --only rewriter --rounds 3

Characters of texts a second, float32, all texts of the same length, which is PyTorch's best case. A memory
rewrites texts into others as long: 128 x 20, which a controller of 100 units reads and writes. `train` is
a whole step: forward, backward, clipping, AdamW. `read` is what a user asks for: probabilities of classes or
labels, the best tags (Viterbi), a target (greedily, as many steps as the text has). PyTorch is measured with
and without the malloc settings of bench/README.md, and the better one counts. On a machine that others use,
too, measure CPU time, and on one CPU: BENCH_CPU_TIME=1 taskset -c 0 python bench/reading_speed.py.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import turns
from serve import quickest, serve

SIZES = {"V": 60, "D": 64, "H": 128, "L": 2, "N": 20, "T": 24, "B": 64}
KINDS = ("classifier", "restorer", "tagger", "rewriter", "memory")
WARM_UP = 0.5  # seconds


def ours(kind: str, mode: str) -> None:
    """charrnn's side, as a measured process."""
    once = work(kind, mode)
    quickest(WARM_UP, once)
    serve(lambda seconds: SIZES["T"] * SIZES["B"] / quickest(seconds, once))


def work(kind: Any, mode: str) -> Callable[[], object]:
    """One step of training, or one batch that is read."""
    import numpy as np

    from charrnn.config import ModelConfig, TrainConfig
    from charrnn.nn.learning.learner import Learner
    from charrnn.nn.network import initial_tensors
    from charrnn.nn.reader import Batch, Reader

    V, D, H, L, N, T, B = SIZES.values()
    if kind == "memory":
        return remembering(mode)
    end = kind == "rewriter"
    config = ModelConfig(
        V, hidden_size=H, num_layers=L, embedding_size=D, norm=False, residual=False, kind=kind,
        targets=(N - end,),
    )  # fmt: skip
    random, lengths = np.random.default_rng(1), np.full(B, T)
    x, y = (random.integers(0, n, (T, B)).astype(np.int32) for n in (V, N))
    previous = np.concatenate([np.full((1, B), N, np.int32), y[:-1]]) if end else None
    each: dict[str, tuple[Any, Any]] = {
        "classifier": (np.eye(N, dtype=np.float32)[y[0]], np.ones(B)), "tagger": (y, np.ones(B)),
    }  # fmt: skip
    batch = Batch(x, lengths, *each.get(kind, (y, np.ones((T, B)))), previous)
    reader = Reader(config)
    reader.load_tensors(initial_tensors(config, 1))
    if mode == "train":
        learner = Learner(reader, TrainConfig(steps=1), B)
        return lambda: learner.train_step(batch, None, 1e-3, 0)
    if kind == "tagger":
        return lambda: reader.best(x, lengths)
    if not end:
        return lambda: reader.forward(x, lengths)

    return lambda: written(reader, x, N)


def written(reader: Any, x: Any, start: int) -> None:
    """Targets as long as the sources x (T, B), each of the most probable characters."""
    import numpy as np

    T, B = x.shape
    encoded, state = reader.encode(x, np.full(B, T))
    columns, now = np.arange(B), np.full(B, start)
    for _ in range(T):
        logs, state, _ = reader.step(encoded, columns, now, state)
        now = logs.argmax(axis=1)


def remembering(mode: str) -> Callable[[], object]:
    """The same of a network with a memory."""
    import numpy as np

    from charrnn.config import ModelConfig, TrainConfig
    from charrnn.nn.learning.learner import Learner
    from charrnn.nn.network import initial_tensors
    from charrnn.nn.reader import Batch, Reader

    V, D, _, _, N, T, B = SIZES.values()
    config = ModelConfig(
        V, "ntm", hidden_size=100, embedding_size=D, kind="rewriter", targets=(N - 1,)
    )  # fmt: skip
    reader, random = Reader(config), np.random.default_rng(1)
    reader.load_tensors(initial_tensors(config, 1))
    source = random.integers(0, V, (T, B)).astype(np.int32)
    if mode == "read":
        return lambda: written(reader, source, N)
    x = np.concatenate([source, np.full_like(source, V)])
    y = np.concatenate([np.zeros_like(source), random.integers(0, N, (T, B)).astype(np.int32)])
    weights = np.repeat([0.0, 1.0], T)[:, None] * np.ones(B)
    batch, learner = Batch(x, np.full(B, 2 * T), y, weights), Learner(reader, TrainConfig(steps=1), B)
    return lambda: learner.train_step(batch, None, 1e-3, 0)


SUITE = turns.Suite(
    __doc__,
    "reading_speed.py",
    "peer_torch_readers.py",
    KINDS,
    ("train", "read"),
    SIZES,
    "reading-speed",
    ours,
)

if __name__ == "__main__":
    try:
        turns.main(sys.argv[1:], SUITE)
    except KeyboardInterrupt:
        sys.exit(130)
