"""Trains and writes with numbers at and beyond the edge.

    python -m tests.campaigns.numbers --runs 1000 --seed 1

Learning rates that explode, corpora of one character, weights of every size: a run ends with a model of
finite numbers, or with one line; a model writes characters that it knows, at any temperature, the same with
the same seed; and one to eight threads write the same bytes.
"""

from __future__ import annotations

import argparse
import math
import random
import sys
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from charrnn import api
from charrnn.checkpoint import model_file
from charrnn.checkpoint.model_file import Checkpoint, resume_path
from charrnn.config import ModelConfig, TextConfig
from charrnn.errors import CharrnnError, TrainingError
from charrnn.events import Finished
from charrnn.vocabulary import Vocabulary

from .harness import Report, scratch

CORPORA = [
    "aa", "ab", "a" * 500, "ab" * 300, "a\n" * 99, "\n" * 300, "".join(map(chr, range(33, 400))),
    "she sells sea shells\n" * 40, "a" * 400 + "b", "".join(map(chr, range(0x4E00, 0x4E00 + 3000))),
]  # fmt: skip
TEMPERATURES = [0.0, 1e-320, 1e-45, 1e-6, 1e-3, 0.5, 1.0, 100.0, 1e6]
WEIGHTS = [0.0, 1e-45, 1e-38, 1e-20, 1.0, 1e3, 1e10, 1e19, 1e20, 1e38, 3.4e38]


def settings(choice: random.Random) -> dict[str, Any]:
    """A small network and a way to train it, which is often hopeless."""
    values: dict[str, Any] = {
        "cell": choice.choice(("lstm", "gru", "rnn")),
        "nonlinearity": choice.choice(("tanh", "relu")),
        "hidden_size": choice.choice((1, 2, 7, 16)),
        "num_layers": choice.choice((1, 2, 3)),
        "embedding_size": choice.choice((0, 1, 8)),
        "norm": choice.random() < 0.5,
        "residual": choice.random() < 0.5,
        "dropout": choice.choice((0.0, 0.0, 0.5, 0.95)),
        "learning_rate": choice.choice((1e-12, 1e-3, 0.1, 1.0, 30.0, 1e3)),
        "clip": choice.choice((1e-9, 1.0, 1e9)),
        "weight_decay": choice.choice((0.0, 0.1, 1e3)),
        "l1": choice.choice((0.0, 0.0, 1.0, 1e3)),
        "warmup": choice.choice((0.0, 0.03, 1.0)),
        "batch_size": choice.choice((1, 2, 5, 64)),
        "seq_len": choice.choice((1, 3, 16)),
        "steps": choice.choice((1, 3, 20, 60)),
        "evaluations": choice.choice((1, 3, 20)),
        "val_fraction": choice.choice((0.0, 0.1, 0.9)),
        "epsilon": choice.choice((1e-20, 1e-8, 1.0)),
        "beta2": choice.choice((0.0, 0.99, 0.999999)),
        "seed": choice.randrange(2**63),
    }
    return values


class Numbers:
    def __init__(self, folder: Path, report: Report, seed: int) -> None:
        self.folder, self.report = folder, report
        self.random = random.Random(seed)
        self.corpus, self.out = folder / "corpus.txt", folder / "m.safetensors"

    def train(self) -> None:
        choice, report = self.random, self.report
        self.corpus.write_text(choice.choice(CORPORA), encoding="utf-8")
        text = TextConfig(lines=choice.random() < 0.3)
        given = settings(choice)
        what = f"{given}, {text}, {self.corpus.read_text(encoding='utf-8')[:20]!r}"
        contents = []
        for threads in (1, *choice.sample(range(2, 9), 1)):
            for path in (self.out, resume_path(self.out)):
                path.unlink(missing_ok=True)
            try:
                *_, last = api.train(self.corpus, out=self.out, text=text, threads=threads, **given)
            except TrainingError as error:
                report.check("finite" in str(error) or "no text is left" in str(error), f"{what}: {error}")
                contents.append(str(error).encode())
            except CharrnnError as error:
                # An early word for what nobody trains on, such as a text of empty lines alone.
                report.check("empty" in str(error) or "at least two" in str(error), f"{what}: {error}")
                contents.append(str(error).encode())
            else:
                assert isinstance(last, Finished)
                report.check(not math.isinf(last.best_val_loss), f"{what}: {last}")
                report.check(self.out.exists(), f"{what}: no model was written")
                contents.append(b"")
            if self.out.exists():
                model = model_file.load(self.out)  # sees that all is finite
                contents[-1] += self.out.read_bytes()
        report.check(contents[0] == contents[1], f"{what}: one thread and {threads} write other models")
        report.check(not resume_path(self.out).exists(), f"{what}: a resume file is left")
        report.count("trained" if self.out.exists() else "ended with one line")
        if self.out.exists():
            self._write(model, what)

    def extreme(self) -> None:
        """A model whose weights are of any size."""
        choice = self.random
        characters = "".join(sorted(choice.choice(("a", "ab", "\nab", "\nabcdefghijklmnop"))))
        config = ModelConfig(
            len(characters), cell=choice.choice(("lstm", "gru", "rnn")), hidden_size=5, num_layers=2,
            nonlinearity=choice.choice(("tanh", "relu")), embedding_size=choice.choice((0, 3)),
            norm=choice.random() < 0.5, residual=choice.random() < 0.5,
        )  # fmt: skip
        rng = np.random.default_rng(choice.randrange(2**32))
        sizes = {}
        tensors = {}
        for name, shape in config.parameter_shapes().items():
            sizes[name] = choice.choice(WEIGHTS)
            with np.errstate(over="ignore"):
                values = np.clip(rng.normal(0, 1, shape), -1, 1) * sizes[name]
            tensors[name] = values.astype(np.float32)
        text = TextConfig(lines="\n" in characters and choice.random() < 0.5)
        model = Checkpoint(config, Vocabulary(characters), text, tensors)
        self.report.count("weights of all sizes")
        self._write(model, f"{config}, {sizes}")
        corpus = self.folder / "text.txt"
        corpus.write_text(characters * 20)
        result = api.evaluate(model, corpus)
        self.report.check(result.loss >= 0 or not math.isfinite(result.loss), f"{config}, {sizes}: {result}")

    def _write(self, model: Checkpoint, what: str) -> None:
        choice = self.random
        options: dict[str, Any] = {
            "temperature": choice.choice(TEMPERATURES), "top_k": choice.choice((0, 0, 1, 3, 0x110000)),
            "top_p": choice.choice((1.0, 1.0, 1e-300, 0.5)), "min_p": choice.choice((0.0, 0.0, 1e-300, 1.0)),
            "seed": choice.randrange(2**63), "length": 30,
        }  # fmt: skip
        written = ["".join(islice(next(api.sample(model, **options)), 30)) for _ in range(2)]
        self.report.check(written[0] == written[1], f"{what}, {options}: {written}")
        known = set(written[0]) <= set(model.vocabulary.characters)
        self.report.check(known and written[0], f"{what}, {options}: {written}")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    np.seterr(all="ignore")
    report = Report("numbers at the edge")
    with scratch() as folder:
        numbers = Numbers(folder, report, options.seed)
        for number in range(options.runs):
            try:
                numbers.extreme() if number % 2 else numbers.train()
            except Exception as error:
                report.breaks(f"run {number} of seed {options.seed}: {type(error).__name__}: {error}")
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
