"""How fast networks are that look back, echo and remember, beside the same ones in PyTorch, which take turns.

    python bench/writing_speed.py --torch-python ~/torch/bin/python [--write]
    python bench/writing_speed.py --only span --rounds 3

Characters a second, float32. `span`: an LSTM of two layers that attends to its last 256 outputs. `echo`: a
reservoir of 1,000 units. `memory`: a controller of 100 units and a memory of 128 x 20. `train` is a whole
step of 64 characters of each stream, and of a reservoir that of the convex optimiser, once it knows how its
states go together. `write` is one text, character by character, at temperature 0.8. PyTorch is measured with
and without the malloc settings of bench/README.md, and the better one counts. On a machine that others use,
too, measure CPU time, and on one CPU: BENCH_CPU_TIME=1 taskset -c 0 python bench/writing_speed.py.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import turns
from serve import CLOCK, quickest, serve

KINDS = ("span", "echo", "memory")
SIZES = {"V": 65, "H": 128, "L": 2, "S": 256, "N": 1000, "T": 64, "B": 16, "B_echo": 64}
WARM_UP = 0.5  # seconds
FIRST_STEPS = 20  # of a reservoir: in these it learns how states go together
WRITTEN = 2000  # characters of a measurement
FOREVER = 10**9


def ours(kind: str, mode: str) -> None:
    """charrnn's side, as a measured process."""
    if mode == "write":
        serve(Writing(config_of(kind)))
        return
    B = SIZES["B_echo" if kind == "echo" else "B"]
    step = training(kind, B)
    for _ in range(FIRST_STEPS):
        step()
    quickest(WARM_UP, step)
    serve(lambda seconds: SIZES["T"] * B / quickest(seconds, step))


def config_of(kind: str) -> Any:
    """The network."""
    from charrnn.config import ModelConfig

    V, H, L = (SIZES[name] for name in ("V", "H", "L"))
    if kind == "echo":
        return ModelConfig(V, "esn", hidden_size=SIZES["N"], num_layers=1)
    if kind == "memory":
        return ModelConfig(V, "ntm", hidden_size=100, embedding_size=32)
    layers = {"hidden_size": H, "num_layers": L, "embedding_size": H, "norm": False, "residual": False}
    return ModelConfig(V, span=SIZES["S"], **layers)


def training(kind: str, B: int) -> Callable[[], object]:
    """A step of training, which goes on where the last one ended."""
    import numpy as np

    from charrnn.config import TrainConfig
    from charrnn.nn.learning.learner import Learner
    from charrnn.nn.network import Model, initial_tensors

    model = Model(config_of(kind))
    model.load_tensors(initial_tensors(model.config, 1))
    learner, random = Learner(model, TrainConfig(steps=1), B), np.random.default_rng(1)
    ids = random.integers(0, SIZES["V"], (SIZES["T"] + 1, B)).astype(np.int32)
    batch = ids[:-1], ids[1:], np.zeros((SIZES["T"], B), np.bool_)
    carry, steps = None, 0

    def step() -> None:
        nonlocal carry, steps
        _, _, carry = learner.train_step(batch, carry, 1e-3, steps)
        steps += 1

    return step


class Writing:
    """How fast a text that never ends is written."""

    def __init__(self, config: Any) -> None:
        from charrnn import api
        from charrnn.checkpoint.model_file import Checkpoint
        from charrnn.config import TextConfig
        from charrnn.nn.network import initial_tensors
        from charrnn.vocabulary import Vocabulary

        characters = "".join(chr(ord("!") + n) for n in range(SIZES["V"]))
        model = Checkpoint(config, Vocabulary(characters), TextConfig(), initial_tensors(config, 1))
        self.text: Iterator[str] = next(
            iter(api.sample(model, length=FOREVER, seed=1, temperature=0.8, threads=1))
        )
        begun = CLOCK()
        # The compiled loop takes over as soon as it is there; it writes several characters at once.
        while len(next(self.text)) == 1 and CLOCK() - begun < 60:
            pass
        self(WARM_UP)

    def __call__(self, seconds: float) -> float:
        """Characters a second, where they came fastest."""
        best, begun = 0.0, time.perf_counter()
        while time.perf_counter() - begun < seconds or not best:
            written, before = 0, CLOCK()
            while written < WRITTEN:
                written += len(next(self.text))
            best = max(best, written / (CLOCK() - before))
        return best


SUITE = turns.Suite(
    __doc__,
    "writing_speed.py",
    "peer_torch_writers.py",
    KINDS,
    ("train", "write"),
    SIZES,
    "writing-speed",
    ours,
)

if __name__ == "__main__":
    try:
        turns.main(sys.argv[1:], SUITE)
    except KeyboardInterrupt:
        sys.exit(130)
