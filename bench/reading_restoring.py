"""What charrnn reaches in restoring on the texts of reading_texts.py; see reading_rivals.py for others.

    python bench/reading_restoring.py TEXTS ro case spaces
    python bench/reading_restoring.py TEXTS cs --option epochs=2 --option hidden_size=256
    python bench/reading_restoring.py TEXTS ro --model ro.safetensors     # one that was trained by hand

A task is a language, whose accents are restored, or `case` or `spaces`, of tinyshakespeare. Prints a row a
figure, as reading_rivals.py does, and with --json writes the same objects. Seconds are those of training and,
where the value is a speed, of restoring.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import reading_metrics as metrics
from reading_rivals import Row

import charrnn
from charrnn import api
from charrnn.config import TextConfig

LANGUAGES = ("cs", "ro", "vi", "fr", "pl")
# How the texts of other tasks lose what is to be restored, and the measure.
OTHERS: dict[str, tuple[Callable[[str], str], Callable[[str, str], metrics.F1]]] = {
    "case": (str.lower, metrics.upper_case),
    "spaces": (lambda text: text.replace(" ", ""), metrics.spaces),
}


def main() -> None:
    """The command line; see --help."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("texts", type=Path)
    parser.add_argument("tasks", nargs="*", metavar="TASK", help=f"{', '.join((*LANGUAGES, *OTHERS))} [all]")
    parser.add_argument("--model", type=Path, metavar="FILE", help="measure this one, train none")
    parser.add_argument(
        "--option", action="append", default=[], metavar="NAME=VALUE", help="of charrnn.train"
    )
    parser.add_argument("--json", type=Path, metavar="FILE")
    a = parser.parse_args()
    settings = {name: json.loads(value) for name, value in (option.split("=", 1) for option in a.option)}
    rows = []
    for task in a.tasks or (*LANGUAGES, *OTHERS):
        for row in figures(a.texts, task, a.model, settings):
            print(f"{row.data}  {row.metric} {row.value:.4f}  ({row.seconds:.1f} s)", flush=True)
            rows.append(row)
    if a.json:
        a.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n", encoding="utf-8")


def figures(texts: Path, task: str, model: Path | None, settings: dict[str, Any]) -> Iterator[Row]:
    """The figures of a task, as the rivals have them."""
    of_language = task in LANGUAGES
    name = f"diacritics.{task}" if of_language else "shakespeare"
    data = name.replace(".", " ") if of_language else f"shakespeare, {task}"
    truth = (texts / f"{name}.test.txt").read_text("utf-8")
    lose = metrics.without_marks if of_language else OTHERS[task][0]
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        if model is None:
            model = Path(folder) / "m.safetensors"
            # Sentences are shuffled; lines of a play are not.
            text = TextConfig(lines=of_language, strip=("diacritics",) if of_language else (task,))  # type: ignore[arg-type]
            train = texts / f"{name}.train.txt"
            for _ in charrnn.train(train, out=model, text=text, task="restore", **settings):
                pass
        took = time.perf_counter() - began
        lost = Path(folder) / "lost.txt"
        lost.write_text(lose(truth), encoding="utf-8")
        began = time.perf_counter()
        found = "".join(part.text + part.end for parts in api.restored(model, lost) for part in parts)
        seconds = time.perf_counter() - began
    if of_language:
        counts = metrics.marked_words(truth.splitlines(), found.splitlines())
        yield Row("restore", data, "charrnn", "word error", counts.word_error, took)
        yield Row("restore", data, "charrnn", "accuracy of marked words", counts.marked_accuracy, took)
    else:
        yield Row("restore", data, "charrnn", "F1", OTHERS[task][1](truth, found).f1, took)
    yield Row("restore", data, "charrnn", "characters/s", len(truth) / seconds, seconds)


if __name__ == "__main__":
    main()
