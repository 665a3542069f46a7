"""Counts alone: how fast they are built and looked up, how large they are, and what a text costs by them.

    python bench/counts.py tinyshakespeare.txt
    python bench/counts.py names.txt --lines --orders 6,10 --once 3,5,16

The last tenth of the text is coded, of lines a tenth by a seeded choice. Times are of the CPU, on one thread,
and the better of two.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from report import Table

TAKEN = 100_000  # characters of the tenth that are looked up one by one in NumPy: 1 of 50


def cpu_seconds(work: Callable[[], Any]) -> tuple[Any, float]:
    """What it returns, and the shorter of two times; a third, the first, may compile."""
    times = []
    for _ in range(3):
        begun = time.process_time()
        result = work()
        times.append(time.process_time() - begun)
    return result, min(times[1:])


def row(documents: Any, validation: Any, order: int, once: int, most_bytes: int) -> tuple[str, ...]:
    from charrnn.counts.compiled import CompiledLookup
    from charrnn.counts.learning.building import build
    from charrnn.counts.learning.grams import Grams
    from charrnn.counts.lookup import Lookup

    counts, built = cpu_seconds(lambda: build(Grams.of(documents, order), most_bytes, once=once))
    compiled, lookup = CompiledLookup(counts), Lookup(counts)
    N = len(validation)
    (chances, _), scored = cpu_seconds(lambda: compiled.score(validation, 0, N, features=False))
    _, gated = cpu_seconds(lambda: CompiledLookup(counts).score(validation, 0, N))
    contexts = validation.look_up(np.arange(min(N, TAKEN)))[0]
    windows = np.lib.stride_tricks.sliding_window_view(contexts, order - 1)
    _, spread = cpu_seconds(lambda: compiled.predict(windows, features=False))
    _, plain = cpu_seconds(lambda: [lookup.predict(window) for window in windows[::50]])
    loss = float(-np.log(chances).mean())
    return (
        str(order), str(once), f"{len(documents) / built / 1e6:.1f}", f"{built:.2f}",
        f"{counts.nbytes / 1e6:.2f}", f"{loss:.4f}", f"{loss / np.log(2):.4f}", f"{N / scored / 1e6:.2f}",
        f"{N / gated / 1e6:.2f}", f"{len(windows) / spread / 1e6:.2f}",
        f"{len(windows[::50]) / plain / 1e3:.0f}",
    )  # fmt: skip


def main() -> None:
    from charrnn.config import TextConfig, TrainConfig
    from charrnn.counts.learning.building import ONCE, default_bytes
    from charrnn.counts.learning.grams import ORDER, longest_order
    from charrnn.text.reading import read
    from charrnn.text.validation import split

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--lines", action="store_true", help="every line is a text of its own")
    parser.add_argument("--orders", default=f"6,8,{ORDER},12", help="symbols of a gram [%(default)s]")
    parser.add_argument("--once", default=str(ONCE), help="longer grams occur twice [%(default)s]")
    parser.add_argument("--megabytes", type=float, help="the bound [by the text]")
    a = parser.parse_args()
    corpus = read([a.corpus], TextConfig(lines=a.lines))
    part, validation = split(
        corpus.documents, TrainConfig(steps=1, val_split="scattered" if a.lines else "end"), -1
    )
    most_bytes = int(a.megabytes * 1e6) if a.megabytes else default_bytes(len(part))
    rows = [
        row(part, validation, order, once, most_bytes)
        for order in map(int, a.orders.split(","))
        if order <= longest_order(part.vocab_size)
        for once in map(int, a.once.split(","))
    ]
    header = (
        "order", "once", "built, M/s", "s", "MB", "nats", "bits", "scored, M/s", "with features, M/s",
        "spread, M/s", "NumPy, k/s",
    )  # fmt: skip
    print(
        f"{a.corpus.stem}: {len(part):,} characters, {part.vocab_size} different; {len(validation):,} coded\n"
    )
    print(Table(header, tuple(rows)).plain())


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
