"""Scoring lines, charrnn beside PyTorch, in turns.

    python bench/score.py corpora/places.txt --torch-python ~/torch/bin/python
    python bench/score.py corpus.txt --lines 200000 --layers 2 --hidden 256 --precision bfloat16

Both sides score the same lines, over and over until there are enough, with an LSTM of random weights, of the
same size and on as many threads. charrnn is measured from text to a score for each line. PyTorch gets the ids
for nothing, and does what a knowledgeable user does: it sorts some thousand lines by length and pads a batch
of them (peer_torch_score.py), of the size that is quickest. A text whose lines repeat would flatter charrnn,
which scores equal lines once. Characters are those of the text, without padding.
"""

from __future__ import annotations

import argparse
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import machine
from measure import Workers, compare, python
from serve import serve

OURS, TORCH = "charrnn", "PyTorch"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--lines", type=int, default=200_000)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default="float32", help="charrnn's")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--torch-python", default=sys.executable)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.serve:
        run(a)
    else:
        compare_sides(a)


def compare_sides(a: argparse.Namespace) -> None:
    options = [a.corpus, "--lines", a.lines, "--layers", a.layers, "--hidden", a.hidden]
    environment = machine.environment() | (machine.MALLOC if machine.has_glibc() else {})
    commands = {
        OURS: python(sys.executable, "score.py", *options, "--precision", a.precision, "--serve"),
        TORCH: python(a.torch_python, "peer_torch_score.py", *options),
    }
    with ExitStack() as stack:
        workers = Workers(stack, a.seconds)
        for name, command in commands.items():
            workers.add(name, command, environment)
        for name, reason in workers.missing.items():
            print(f"without {name}: {reason}", file=sys.stderr)
        result = compare(f"LSTM {a.layers} x {a.hidden}", "characters/s", workers.sides, a.rounds)
    print(", ".join(machine.describe().values()))
    for name in workers.sides:
        if speed := result.value(name):
            precision = a.precision if name == OURS else "float32"
            print(f"{name:8} {speed:12,.0f} {result.unit}, {result.what}, {precision}")
    if ratio := result.ratio(OURS, TORCH):
        print(f"{OURS} : {TORCH} {ratio:.2f}")


def run(a: argparse.Namespace) -> None:
    """charrnn's side: serves characters a second."""
    from charrnn.checkpoint.model_file import Checkpoint
    from charrnn.config import ModelConfig, TextConfig
    from charrnn.nn.network import initial_tensors
    from charrnn.scoring.surprisal import Scorer, score_lines
    from charrnn.text.files.lines import Lines
    from charrnn.vocabulary import Vocabulary

    lines = read(a.corpus, a.lines)
    vocabulary = Vocabulary.build("\n" + "".join(lines))
    config = ModelConfig(
        len(vocabulary), hidden_size=a.hidden, num_layers=a.layers, embedding_size=a.hidden, norm=False,
        residual=False,
    )  # fmt: skip
    checkpoint = Checkpoint(config, vocabulary, TextConfig(lines=True), initial_tensors(config, 1))
    scorer = Scorer(checkpoint, threads=machine.threads(), precision=a.precision)
    parts = [""]  # as a full pipe gives them
    for line in lines:
        if len(parts[-1]) + len(line) >= scorer.most:
            parts.append("")
        parts[-1] += line + "\n"

    def measure(seconds: float) -> float:
        characters, begun = 0, time.perf_counter()
        while True:
            for part in parts:
                for _ in score_lines(scorer, [Lines(part, "", 1)]):
                    pass
                characters += len(part)
                if (spent := time.perf_counter() - begun) >= seconds:
                    return characters / spent

    measure(0.5)
    serve(measure)


def read(path: Path, count: int) -> list[str]:
    """The file's lines, repeated until there are so many."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return (lines * -(-count // len(lines)))[:count]


if __name__ == "__main__":
    main()
