"""What steering costs: characters a second of steered sampling against free sampling, in turns.

    python bench/control.py [--model PATH] [--seconds 20]

Each kind writes lines on one thread, all loaded and compiled before; prints the median ratio of the time for
a character, and the range over the rounds. Network and machine are the same in every pair.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from charrnn import api
from charrnn.checkpoint.model_file import Checkpoint
from charrnn.config import SampleConfig
from charrnn.generation.writing import generate_all
from charrnn.inference import engines
from charrnn.inference import writing_loop as kernels

KINDS: dict[str, dict[str, Any]] = {
    "free": {},
    "match": {"match": "[A-Z][a-z]{3,8}(ville|ton|burg)"},
    "match, any line": {"match": ".*"},
    "ban": {"ban": ("ville", "ton", "burg")},
    "novel 8": {"novel": 8},
    "typical": {"typical": 0.9},
    "mirostat": {"mirostat": 2.5},
    "dry": {"dry": 0.8},
}


def seconds_a_character(model: Checkpoint, texts: int, settings: dict[str, Any]) -> float:
    config = SampleConfig(seed=1, **settings)
    started = time.perf_counter()
    written = sum(len("".join(text)) for text in generate_all(model, "", config, count=texts, threads=1))
    return (time.perf_counter() - started) / written


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", help="the model [the bundled one]")
    parser.add_argument("--seconds", type=float, default=20.0, help="how long to measure [20]")
    arguments = parser.parse_args()
    model = api.load(arguments.model or Path(__file__).parent.parent / "checkpoints" / "places.safetensors")
    for steered in (False, True):
        engines.loader_of(engines.Kind(steered=steered)).kernels = kernels  # from the first character on
    for settings in KINDS.values():
        seconds_a_character(model, 64, settings)  # compile, and make the automaton
    rounds: dict[str, list[float]] = {name: [] for name in KINDS if name != "free"}
    end = time.perf_counter() + arguments.seconds
    while time.perf_counter() < end:
        for name, ratios in rounds.items():
            before = seconds_a_character(model, 400, {})
            steered = seconds_a_character(model, 400, KINDS[name])
            after = seconds_a_character(model, 400, {})
            ratios.append(2 * steered / (before + after))
    for name, ratios in rounds.items():
        low, high = min(ratios), max(ratios)
        print(f"{name:<16} {statistics.median(ratios):5.2f} times free ({low:.2f} to {high:.2f})")


if __name__ == "__main__":
    main()
