"""Several ranks against one process with as many threads, on one machine: the speed of training.

    python bench/machines.py --rounds 5 --seconds 4

Sides take turns, each a process, or an mpirun, of its own; shown are medians, also of the ratios in a round.
A network of 2 x 256 in float32 learns from random characters. The share of communication is that of a step in
which rank 0 waits for others, or adds up what they sent.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

V, T = 65, 64
NETWORK = {"hidden_size": 256, "num_layers": 2, "embedding_size": 256}


def side(batch: int, threads: int, shards: int, seconds: float) -> None:
    """Measure one side, in this process and in those that were started with it; the leader prints it."""
    import numpy as np

    from charrnn.config import ModelConfig, TrainConfig
    from charrnn.nn.learning.learners import learner_of
    from charrnn.nn.network import Model
    from charrnn.nn.workers import Workers
    from charrnn.ranks.launch import launched
    from charrnn.ranks.ranks import ALONE

    launch, ranks = launched(), ALONE
    waited = [0.0]
    if launch is not None:
        from charrnn.ranks.mpi import MpiRanks

        several: Any = MpiRanks(launch, lambda code, line: os._exit(code))
        if several.rank:
            several.follow()
        for name in ("exchange", "spread", "gather", "_deal"):
            setattr(several, name, _timed(getattr(several, name), waited))
        ranks = several
    config = ModelConfig(V, **NETWORK)
    learner: Any = learner_of(
        Model(config, workers=Workers(threads, ranks)), TrainConfig(steps=1, shards=shards), batch
    )
    for _ in learner.compile():
        pass
    x = np.random.default_rng(1).integers(V, size=(T, batch), dtype=np.int32)
    carry, times, waits = None, [time.perf_counter()], []
    while len(times) < 6 or times[-1] - times[0] < seconds:
        waited[0] = 0.0
        _, _, carry = learner.train_step((x, x, None), carry, 0.0, 0)
        times.append(time.perf_counter())
        waits.append(waited[0])
    steps = [after - before for before, after in pairwise(times)][2:]
    print(json.dumps({"step": median(steps), "waits": median(waits[2:])}), flush=True)
    ranks.leave(0)
    os._exit(0)


def _timed(call: Any, waited: list[float]) -> Any:
    def timed(*arguments: Any) -> Any:
        began = time.perf_counter()
        found = call(*arguments)
        waited[0] += time.perf_counter() - began
        return found

    return timed


def measured(ranks: int, batch: int, threads: int, shards: int, seconds: float) -> dict[str, float]:
    """Characters per second, and the share of a step that is communication."""
    own = [sys.executable, __file__, "--side", json.dumps([batch, threads, shards, seconds])]
    launcher = [str(Path(sys.executable).with_name("mpirun")), "-n", str(ranks)] if ranks > 1 else []
    found = subprocess.run([*launcher, *own], check=True, capture_output=True, text=True, timeout=120).stdout
    told = json.loads(found)
    return {"speed": T * batch / told["step"], "waits": told["waits"] / told["step"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--side", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        side(*json.loads(options.side))
    sides = {
        "1 process, 2 threads": (1, 2, 1),
        "2 ranks of 1 thread, 2 shards": (2, 1, 2),
        "2 ranks of 1 thread, 8 shards": (2, 1, 8),
    }
    print("| batch | side | characters/s | to one process | communication |\n|---|---|---|---|---|")
    for batch in (64, 16):
        rounds: list[dict[str, dict[str, float]]] = []
        for _ in range(options.rounds):
            rounds.append(
                {
                    name: measured(ranks, batch, threads, shards, options.seconds)
                    for name, (ranks, threads, shards) in sides.items()
                }
            )
        first = next(iter(sides))
        for name in sides:
            speed = median(one[name]["speed"] for one in rounds)
            ratio = median(one[name]["speed"] / one[first]["speed"] for one in rounds)
            waits = median(one[name]["waits"] for one in rounds)
            print(f"| {batch} | {name} | {speed:,.0f} | {ratio:.2f} x | {waits:.0%} |", flush=True)


if __name__ == "__main__":
    main()
