"""What a slow network between four machines costs, and what --sync-every does about it.

    sudo python bench/slow_network.py corpus.txt --minutes 3

The machines are network namespaces of this one, whose cables carry 1 Gbit/s or 100 Mbit/s and are 1 ms long,
where the kernel has netem; their ranks, of one thread each, share its cores. Each line is a run of its own on
the same text for the same minutes: shards that meet in every step, every 50, every 500, and as often as is
planned. Needs root, mpich and mpi4py.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parent.parent / "tests"))
from support import hosts

HOSTS = 4
MEGABITS, MILLISECONDS = (1000, 100), 1.0
EVERY = (1, 50, 500, None)  # None: as planned
BATCH, WINDOW = 32, 32
NETWORK = ("--hidden-size", 128, "--num-layers", 2, "--dropout", 0.1, "--counts", 0, "--precision", "float32")
RECIPE = ("--batch-size", BATCH, "--seq-len", WINDOW, "--shards", HOSTS, "--threads", 1, "--from-scratch")
LATE = 180.0  # seconds that a run may need beside its minutes


def trained(several: hosts.Hosts, corpus: Path, minutes: float, every: int | None) -> dict[str, Any]:
    """A run: how often shards met, characters a second, and the loss at the end."""
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "m.safetensors"
        often = () if every is None else ("--sync-every", every)
        words = ("train", corpus, "-o", model, "--minutes", minutes, *NETWORK, *RECIPE, *often, "--json")
        launcher = [str(Path(sys.executable).with_name("mpirun")), *several.launcher(), "-n", str(HOSTS)]
        command = [*launcher, sys.executable, "-m", "charrnn", *map(str, words)]
        found = subprocess.run(command, capture_output=True, text=True, timeout=60 * minutes + LATE)
        if found.returncode:
            sys.exit(f"{' '.join(command)}\n{found.stderr}")
        done = [json.loads(line) for line in found.stdout.splitlines()][-1]
        from charrnn.checkpoint import model_file

        every = model_file.load(model).settings.get("sync_every", 1)
    return {
        "every": every,
        "speed": done["step"] * BATCH * WINDOW / done["seconds"],
        "loss": done["best_val_loss"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--minutes", type=float, default=3.0)
    options = parser.parse_args()
    if why := hosts.missing():
        sys.exit(f"{why}: start it as root, where ip, tc and unshare are installed")
    print(
        "| network | shards meet | characters/s | loss | to the best |\n|---|---|---:|---:|---:|", flush=True
    )
    for megabits in MEGABITS:
        with tempfile.TemporaryDirectory() as folder, hosts.hosts(Path(folder), HOSTS) as several:
            if lacking := several.slow_down(megabits, MILLISECONDS):
                print(lacking, file=sys.stderr)
            time.sleep(1)
            rows = [trained(several, options.corpus.resolve(), options.minutes, every) for every in EVERY]
        best = min(row["loss"] for row in rows)
        for every, row in zip(EVERY, rows, strict=True):
            often = "every step" if row["every"] == 1 else f"every {row['every']} steps"
            often = f"as planned: {often}" if every is None else often
            lost = row["loss"] / best - 1.0
            print(
                f"| {megabits} Mbit/s | {often} | {row['speed']:,.0f} | {row['loss']:.3f} | {lost:+.1%} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
