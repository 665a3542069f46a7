"""What a network with a memory learns of the tasks of neural Turing machines: bits wrong, by length.

    python bench/memory_tasks.py copy                    # five seeds, 20,000 sequences each, read once
    python bench/memory_tasks.py recall --seeds 1 2
    python bench/memory_tasks.py repeat --make FOLDER    # the files alone

copy: 1 to 20 vectors of 8 bits, again (Graves et al. 2014). repeat: 1 to 10 vectors and a number from 1 to
10, so many times. recall: 2 to 6 items of three vectors of 6 bits, and one of them again: the item behind it.
Each vector is a character, U+0100 and on, whose low bits are the vector's; so an answer's wrong bits can be
counted. A character too few or too many counts as 8 of them. Shown is the share of all bits that are wrong,
and in brackets how many sequences have any. Networks learn a file of sequences, each once, with
`charrnn train FILE --task rewrite --cell ntm --epochs 1`, and answer with `charrnn rewrite`; what follows
`--` is added to the first. Seconds are of the CPU, on one thread.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from report import Table

FIRST, COUNTS, CUE = 0x100, 0x300, "|"  # code points of vectors, and of numbers; what separates items
BITS = 8
TRAINED, TESTED = 20_000, 100  # sequences, and those of each length


class Task(NamedTuple):
    """Sequences of random lengths to learn, and of each of these to test."""

    make: Callable[[random.Random, int | None], tuple[str, str]]
    lengths: tuple[int, ...]


def vectors(chosen: random.Random, count: int, bits: int = BITS) -> str:
    """So many characters, each one vector."""
    return "".join(chr(FIRST + chosen.randrange(1 << bits)) for _ in range(count))


def copy(chosen: random.Random, length: int | None) -> tuple[str, str]:
    text = vectors(chosen, length or chosen.randint(1, 20))
    return text, text


def repeat(chosen: random.Random, length: int | None) -> tuple[str, str]:
    """The length is how often 10 vectors come."""
    text, times = vectors(chosen, 10 if length else chosen.randint(1, 10)), length or chosen.randint(1, 10)
    return text + chr(COUNTS + times), text * times


def recall(chosen: random.Random, length: int | None) -> tuple[str, str]:
    """The length is how many items there are."""
    items = [vectors(chosen, 3, 6) for _ in range(length or chosen.randint(2, 6))]
    asked = chosen.randrange(len(items) - 1)
    return CUE.join(items) + CUE * 2 + items[asked], items[asked + 1]


TASKS = {
    "copy": Task(copy, (20, 40, 80, 120)),
    "repeat": Task(repeat, (5, 10, 15)),
    "recall": Task(recall, (4, 6, 10, 15)),
}


def wrong_bits(found: str, target: str) -> int:
    """How many bits of an answer are not those of the target.

    >>> wrong_bits("\u0101\u0103", "\u0101\u0100")
    2
    >>> wrong_bits("\u0101", "\u0101\u0100")
    8
    """
    differing = sum((ord(a) ^ ord(b)).bit_count() for a, b in zip(found, target, strict=False))
    return differing + BITS * abs(len(found) - len(target))


def write(path: Path, task: Task, seed: str, count: int, length: int | None = None) -> None:
    """A file of sequences, each with its answer."""
    chosen = random.Random(seed)
    lines = (task.make(chosen, length) for _ in range(count))
    path.write_text("".join(f"{source}\t{target}\n" for source, target in lines), encoding="utf-8")


def make(folder: Path, name: str, seed: int, count: int, tests: int) -> tuple[Path, list[Path]]:
    """The file to learn, and one to test of each length."""
    task = TASKS[name]
    folder.mkdir(parents=True, exist_ok=True)
    learned = folder / f"{name}-{seed}.tsv"
    write(learned, task, f"{name} {seed}", count)
    tested = [folder / f"{name}-{length}.tsv" for length in task.lengths]
    for path, length in zip(tested, task.lengths, strict=True):
        write(path, task, f"{name} of {length}", tests, length)
    return learned, tested


def charrnn(*words: object, stdin: str | None = None) -> str:
    command = [sys.executable, "-m", "charrnn", *map(str, words)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "PYTHONUTF8": "1"}
    done = subprocess.run(
        command, input=stdin, stdout=subprocess.PIPE, text=True, encoding="utf-8", env=environment, check=True
    )
    return done.stdout


def measured(model: Path, test: Path) -> tuple[float, int]:
    """The share of bits that are wrong, and how many answers have any, of a file."""
    pairs = [line.split("\t") for line in test.read_text(encoding="utf-8").splitlines()]
    sources = "".join(f"{source}\n" for source, _ in pairs)
    answers = charrnn("rewrite", "-m", model, "--threads", 1, stdin=sources).splitlines()
    wrong = [
        wrong_bits(answer.split("\t")[1], target) for answer, (_, target) in zip(answers, pairs, strict=True)
    ]
    return sum(wrong) / (BITS * sum(len(target) for _, target in pairs)), sum(map(bool, wrong))


def main() -> None:
    argv, _, more = " ".join(sys.argv[1:]).partition(" -- ")
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--count", type=int, default=TRAINED, help="sequences to learn")
    parser.add_argument("--tests", type=int, default=TESTED, help="sequences of each length to answer")
    parser.add_argument("--make", type=Path, metavar="FOLDER", help="make the files, and learn nothing")
    a = parser.parse_args(argv.split())
    if a.make is not None:
        for seed in a.seeds:
            make(a.make, a.task, seed, a.count, a.tests)
        return
    rows = []
    with tempfile.TemporaryDirectory() as name:
        for seed in a.seeds:
            learned, tested = make(Path(name), a.task, seed, a.count, a.tests)
            model, before = Path(name, "m.safetensors"), resource.getrusage(resource.RUSAGE_CHILDREN)
            words = ("--task", "rewrite", "--cell", "ntm", "--epochs", 1, "--seed", seed, "--threads", 1)
            charrnn("train", learned, *words, "-q", "--force", "-o", model, *more.split())
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            found = [measured(model, test) for test in tested]
            shown = [f"{share:.2%} ({lines})" for share, lines in found]
            rows.append((str(seed), f"{a.count:,}", *shown, f"{seconds:.0f}"))
            print(*rows[-1], flush=True)
    lengths = (f"{length}" for length in TASKS[a.task].lengths)
    print(Table(("seed", "sequences", *lengths, "s"), tuple(rows)).plain())


if __name__ == "__main__":
    main()
