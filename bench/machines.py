"""Several ranks against one process, on one machine: the speed of training, and the memory of long texts.

    python bench/machines.py --rounds 5 --seconds 4
    python bench/machines.py --memory 2
    sudo python bench/machines.py --megabits 100 --hosts 2

Sides take turns, each a process, or an mpirun, of its own; shown are medians, also of the ratios in a round.
A network of 2 x 256 in float32 learns from random characters. The share of communication is that of a step in
which rank 0 waits for others, or adds up what they sent.

With `--megabits M`, hosts of one thread, which are network namespaces with cables that carry so much, learn
from a shard each. They exchange gradients when all are computed, or each layer's while others are.

With `--memory GB`, a text of so many gigabytes is written to the folder for temporary files: 60,000 random
words, some of them far more often than others. One process and four ranks learn from it for three steps, with
counts, and must write the same model. Shown is the most memory that each has had, by Linux, and the bound.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

sys.path.append(str(Path(__file__).parent.parent / "tests"))
from support import hosts

V, T = 65, 64
NETWORK = {"hidden_size": 256, "num_layers": 2, "embedding_size": 256}


def side(batch: int, threads: int, shards: int, seconds: float, meanwhile: bool) -> None:
    """Measure one side, in this process and in those that were started with it; the leader prints it."""
    import numpy as np

    from charrnn.config import ModelConfig, TrainConfig
    from charrnn.nn.learning import sums
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
        sums.ShardSum.meanwhile &= meanwhile
        if several.rank:
            several.follow()
        for name in ("gather", "_deal"):
            setattr(several, name, _timed(getattr(several, name), waited))
        ranks = several
    config = ModelConfig(V, **NETWORK)
    learner: Any = learner_of(
        Model(config, workers=Workers(threads, ranks)), TrainConfig(steps=1, shards=shards), batch
    )
    if ranks is not ALONE:
        learner._sum.wait = _timed(learner._sum.wait, waited)
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


def measured(
    launcher: list[str], batch: int, threads: int, shards: int, seconds: float, *, meanwhile: bool = True
) -> dict[str, float]:
    """Characters per second, and the share of a step that is communication."""
    own = [sys.executable, __file__, "--side", json.dumps([batch, threads, shards, seconds, meanwhile])]
    started = [*launcher, *own]
    found = subprocess.run(started, check=True, capture_output=True, text=True, timeout=120).stdout
    told = json.loads(found)
    return {"speed": T * batch / told["step"], "waits": told["waits"] / told["step"]}


# --- memory -------------------------------------------------------------------------------------

RANKS, BESIDE = 4, 300  # MB that a rank may need besides its share of what one process needs
WORDS = 60_000
TRAIN = ("--steps", "3", "--hidden-size", "32", "--shards", "8", "--threads", "1", "-q")


def write_text(path: Path, size: int) -> None:
    """A text of so many bytes."""
    import numpy as np

    random = np.random.default_rng(1)
    letters = np.frombuffer(b"etaoinshrdlucmfwypvbgkqjxz", np.uint8)
    frequent = 1 / np.arange(2, len(letters) + 2)
    lengths = random.integers(1, 11, WORDS)
    table = random.choice(letters, (WORDS, 11), p=frequent / frequent.sum())
    table[np.arange(WORDS), lengths] = ord(" ")
    is_word = np.arange(11) <= lengths[:, None]
    often = np.cumsum(1 / (np.arange(WORDS) + 2.7))
    with path.open("wb") as file:
        while size:
            words = np.searchsorted(often, random.random(200_000) * often[-1])
            text = table[words][is_word[words]]
            text[np.flatnonzero(text == ord(" "))[10::11]] = ord("\n")
            size -= file.write(text[:size].data)


def peaks(command: list[str]) -> dict[int, float]:
    """The most memory (MB) of each rank, of a command that runs several or, as rank 0, one."""
    found: dict[int, float] = {}
    running = subprocess.Popen(command)
    while running.poll() is None:
        for rank, megabytes in _memory(running.pid):
            found[rank] = max(found.get(rank, 0.0), megabytes)
        time.sleep(0.1)
    if running.returncode:
        raise SystemExit(f"{command} ended with {running.returncode}")
    return found


def _memory(pid: int) -> Iterator[tuple[int, float]]:
    """The rank of a process, and of those that it has started, and the most memory (MB) that each has had."""
    folder = Path(f"/proc/{pid}")
    with suppress(OSError):
        told = dict(one.partition(b"=")[::2] for one in (folder / "environ").read_bytes().split(b"\0"))
        lines = (folder / "status").read_text().splitlines()
        most = [int(line.split()[1]) for line in lines if line.startswith("VmHWM")]
        yield int(told.get(b"PMI_RANK", told.get(b"OMPI_COMM_WORLD_RANK", b"0"))), sum(most) / 1000
        for task in (folder / "task").iterdir():
            for child in (task / "children").read_text().split():
                yield from _memory(int(child))


def compare_memory(gigabytes: float) -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_text(folder / "text.txt", round(gigabytes * 1e9))
        models, found = [], []
        for ranks in (1, RANKS):
            model = folder / f"{ranks}.safetensors"
            files = [str(folder / "text.txt"), "-o", str(model)]
            own = [sys.executable, "-m", "charrnn", "train", *files, *TRAIN]
            found.append(peaks([*launcher(ranks), *own]))
            models.append(model.read_bytes())
    if models[0] != models[1]:
        raise SystemExit("the models differ")
    alone, several = found
    bound = alone[0] / RANKS + BESIDE
    print("| side | peak | bound |\n|---|---|---|")
    print(f"| 1 process | {alone[0]:,.0f} MB | |")
    for rank, megabytes in sorted(several.items()):
        print(f"| rank {rank} of {RANKS} | {megabytes:,.0f} MB | {bound:,.0f} MB |")


# --- a slow network -----------------------------------------------------------------------------


def compare_exchanges(megabits: int, size: int, rounds: int, seconds: float) -> None:
    """Print the table."""
    if why := hosts.missing():
        raise SystemExit(f"{why}: start it as root, where ip, tc and unshare are installed")
    print("| network | batch | exchanged | characters/s | to the first | waited |\n|---|---|---|---|---|---|")
    sides = {"after all": False, "layer by layer": True}
    with tempfile.TemporaryDirectory() as name, hosts.hosts(Path(name), size) as several:
        several.slow_down(megabits, 0.0)
        first, *others = launcher(size)
        start = [first, *several.launcher(), *others]
        for batch in (64, 16):
            found: dict[str, list[dict[str, float]]] = {name: [] for name in sides}
            for _ in range(rounds):
                for name, meanwhile in sides.items():
                    one = measured(start, batch, 1, size, seconds, meanwhile=meanwhile)
                    found[name].append(one)
            for name, own in found.items():
                speed, waits = (median(one[what] for one in own) for what in ("speed", "waits"))
                pairs = zip(own, found["after all"], strict=True)
                ratio = median(one["speed"] / other["speed"] for one, other in pairs)
                row = f"| {megabits} Mbit/s | {batch} | {name} | {speed:,.0f} | {ratio:.2f} x | {waits:.0%} |"
                print(row, flush=True)


def launcher(ranks: int) -> list[str]:
    """What starts a command on so many ranks."""
    return [str(Path(sys.executable).with_name("mpirun")), "-n", str(ranks)] if ranks > 1 else []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--memory", type=float, metavar="GB", help="compare memory, with a text of this size")
    parser.add_argument("--megabits", type=int, metavar="M", help="compare exchanges, with such a network")
    parser.add_argument("--hosts", type=int, default=2, help="that have it (2)")
    parser.add_argument("--side", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        side(*json.loads(options.side))
    if options.megabits:
        compare_exchanges(options.megabits, options.hosts, options.rounds, options.seconds)
        return
    if options.memory:
        compare_memory(options.memory)
        return
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
                    name: measured(launcher(ranks), batch, threads, shards, options.seconds)
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
