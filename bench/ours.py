"""charrnn as a measured process; `speed.py`, `growth.py` and `quality.py` start it.

python bench/ours.py facts                            versions and what it can do
python bench/ours.py text --out FILE                  a synthetic text
python bench/ours.py model --out FILE --layers 2 ...  a model file with random weights
python bench/ours.py train --corpus FILE ...          serves training, in characters a second
python bench/ours.py sample --model FILE --count N    serves writing, in characters a second
python bench/ours.py split --corpus FILE --out DIR    writes the texts for training and for validation
python bench/ours.py count --corpus FILE               tells what counts alone make of its end
python bench/ours.py peak                             serves a large float32 product, in GFLOP/s
"""

from __future__ import annotations

import argparse
import importlib.metadata
import itertools
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from serve import quickest, say, serve

WARM_UP = 0.5  # seconds of steps before the first measurement
FIRST_LENGTH = 200  # characters a text, before it is known how fast they come
FOREVER = 10**9
PRODUCT = (2600, 512, 2048)  # rows, depth and columns of a large one


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("mode", choices=list(MODES))
    parser.add_argument("--corpus", type=Path)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--characters", type=int, default=1_100_000)
    parser.add_argument("--recipe", action="store_true", help="train as charrnn does by default")
    parser.add_argument("--precision", help="of training or writing [float32]")
    parser.add_argument("--vocabulary", type=int, default=65)
    parser.add_argument("--cell", default="lstm")
    parser.add_argument("--count", type=int, default=1)
    for name in ("layers", "hidden", "batch", "seq"):
        parser.add_argument(f"--{name}", type=int)
    parser.add_argument("--dropout", type=float, default=0.0)
    parser.add_argument("--val-fraction", type=float, default=0.1)
    parser.add_argument("--seed", type=int, default=1)
    for name in ("norm", "residual", "lines"):
        parser.add_argument(f"--{name}", action="store_true")
    arguments = parser.parse_args()
    MODES[arguments.mode](arguments)


def run_facts(_: argparse.Namespace) -> None:
    from charrnn.kernels.products.tile import HAS_BFLOAT16

    say(
        versions={name: importlib.metadata.version(name.lower()) for name in ("charrnn", "NumPy", "Numba")},
        trains_in_bfloat16=HAS_BFLOAT16,
    )


def run_text(a: argparse.Namespace) -> None:
    """Random characters: nothing to learn, and so the same work for everybody from first to last."""
    characters = alphabet(a.vocabulary - 1) + "\n" if a.lines else alphabet(a.vocabulary)
    draw = random.Random(1)
    left = a.characters - len(characters)
    with a.out.open("w", encoding="utf-8", newline="\n") as file:
        file.write(characters)  # each of them is in it
        block = ""
        while left > 0:
            if not block or a.characters < 10_000_000:
                block = "".join(draw.choices(characters, k=1_000_000))
            file.write(block[:left])  # a huge text repeats itself, so that it is quickly made
            left -= len(block)


def alphabet(size: int) -> str:
    """The first `size` visible characters; up to 94 of them are ASCII, and take a byte each."""
    visible = (chr(c) for c in range(ord("!"), 0x11000) if chr(c).isprintable() and not chr(c).isspace())
    return "".join(itertools.islice(visible, size))


def run_model(a: argparse.Namespace) -> None:
    from charrnn.checkpoint.model_file import Checkpoint, save
    from charrnn.config import ModelConfig, TextConfig
    from charrnn.nn.network import initial_tensors
    from charrnn.vocabulary import Vocabulary

    vocabulary = Vocabulary.build(alphabet(a.vocabulary))
    config = ModelConfig(
        len(vocabulary), cell=a.cell, hidden_size=a.hidden, num_layers=a.layers, embedding_size=a.hidden,
        norm=a.norm, residual=a.residual,
    )  # fmt: skip
    save(Checkpoint(config, vocabulary, TextConfig(), initial_tensors(config, 1)), a.out)


def run_train(a: argparse.Namespace) -> None:
    """Through the public door, so with all that training does: windows, clipping, the schedule, events."""
    import charrnn
    from charrnn.events import Started

    settings: dict[str, Any] = {"steps": FOREVER, "precision": a.precision or "float32"}
    if a.recipe:  # what a megabyte gets in three minutes; a plan for FOREVER would be another
        settings |= {"hidden_size": 256, "dropout": 0.1}
    else:
        settings |= {
            "cell": a.cell, "num_layers": a.layers, "hidden_size": a.hidden, "embedding_size": a.hidden,
            "norm": a.norm, "residual": a.residual, "dropout": a.dropout,
            "batch_size": a.batch, "seq_len": a.seq,
            "learning_rate": 2e-3, "warmup": 0.0, "weight_decay": 0.01, "val_fraction": 0.0,
        }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        events = charrnn.train(a.corpus, out=Path(folder) / "model.safetensors", **settings)
        started = next(events)
        assert isinstance(started, Started)
        model, train = started.model, started.train
        training = Training(events, train.batch_size * train.seq_len)
        training(WARM_UP)
        serve(
            training,
            network={
                "cell": model.cell, "layers": model.num_layers, "hidden": model.hidden_size,
                "batch": train.batch_size, "seq": train.seq_len, "norm": model.norm,
                "residual": model.residual, "dropout": model.dropout,
            },
            vocabulary=model.vocab_size,
            memory=peak_megabytes(),
        )  # fmt: skip


class Training:
    """Characters a second between Step events. What interrupts the steps, a saved file, is left out."""

    def __init__(self, events: Iterator[Any], window: int) -> None:
        self._events = events
        self._window = window  # characters a step

    def __call__(self, seconds: float) -> float:
        steps, spent, before, begun = 0, 0.0, None, time.perf_counter()
        for event in self._events:
            now = time.perf_counter()
            step = event.step if type(event).__name__ == "Step" else None
            if before is not None and step is not None:
                steps += step - before[0]
                spent += now - before[1]
            before = None if step is None else (step, time.perf_counter())
            if steps and now - begun >= seconds:
                return steps * self._window / spent
        raise RuntimeError("training ended")


def run_sample(a: argparse.Namespace) -> None:
    import charrnn

    checkpoint = charrnn.load(a.model)
    settings: dict[str, Any] = {"seed": 1}
    if a.precision:
        settings["precision"] = a.precision
    if a.count == 1:
        (text,) = charrnn.sample(checkpoint, length=FOREVER, **settings)
        begun = time.perf_counter()
        # The compiled loop takes over as soon as it is there; it writes several characters at once.
        while len(next(text)) == 1 and time.perf_counter() - begun < 60:
            pass
        writing = one_text(text)
        writing(WARM_UP)
        serve(writing)
    else:
        writing = Texts(checkpoint, a.count, settings)
        for seconds in (0.05, 0.2, WARM_UP, WARM_UP):
            writing(seconds)
        serve(writing)


def one_text(text: Iterator[str]) -> Any:
    """Characters a second of a text that never ends."""

    def measure(seconds: float) -> float:
        written, begun = 0, time.perf_counter()
        while (now := time.perf_counter()) - begun < seconds or not written:
            written += len(next(text))
        return written / (now - begun)

    return measure


class Texts:
    """Characters a second of several whole texts, whose length follows from how fast they came before."""

    def __init__(self, checkpoint: Any, count: int, settings: dict[str, Any]) -> None:
        self._checkpoint, self._count, self._settings = checkpoint, count, settings
        self._rate = 0.0

    def __call__(self, seconds: float) -> float:
        import charrnn

        length = max(round(self._rate * seconds / self._count), FIRST_LENGTH)
        begun = time.perf_counter()
        texts = charrnn.sample(self._checkpoint, count=self._count, length=length, **self._settings)
        written = sum(len(piece) for text in texts for piece in text)
        self._rate = written / (time.perf_counter() - begun)
        return self._rate


def run_split(a: argparse.Namespace) -> None:
    """train.txt and validation.txt in a folder, as `charrnn train` with this seed cuts the text.

    With --lines, the lines are in another order: many lists are sorted, and one line would tell the next.
    """
    import numpy as np

    corpus, parts = _cut(a)
    for name, part in zip(("train", "validation"), parts, strict=True):
        text = corpus.vocabulary.decode(part.at(np.arange(len(part))))  # its ids are the whole text's
        if a.lines:
            text = in_another_order(text, a.seed)
        (a.out / f"{name}.txt").write_text(text, encoding="utf-8", newline="\n")
    say(characters=[len(part) for part in parts])


def run_count(a: argparse.Namespace) -> None:
    """What a character of the validation text costs by counts of the rest, in nats."""
    import numpy as np

    from charrnn.counts.compiled import CompiledLookup
    from charrnn.counts.learning.building import learned
    from charrnn.counts.learning.grams import order_of

    _, (part, validation) = _cut(a)
    chances, _ = CompiledLookup(learned(part)).score(validation, 0, len(validation), features=False)
    say(loss=float(-np.log(chances).mean()), order=order_of(len(part), part.vocab_size))


def _cut(a: argparse.Namespace) -> tuple[Any, tuple[Any, Any]]:
    """The corpus, and its documents for training and for validation."""
    from charrnn.config import TextConfig, TrainConfig
    from charrnn.text.reading import read
    from charrnn.text.validation import split

    corpus = read([a.corpus], TextConfig(lines=a.lines))
    train = TrainConfig(
        steps=1, val_fraction=a.val_fraction, seed=a.seed
    )  # of prose its end, see learning.py
    return corpus, split(corpus.documents, train, corpus.vocabulary.characters.find("\n"))


def in_another_order(text: str, seed: int) -> str:
    """The text's lines, shuffled: whoever reads them as one text is to learn nothing from their order."""
    lines = text.removesuffix("\n").split("\n")
    random.Random(seed).shuffle(lines)
    return "\n".join(lines) + "\n"


def run_peak(_: argparse.Namespace) -> None:
    """What charrnn's own product reaches where nothing else is to be done."""
    import numpy as np

    from charrnn.kernels.machine.prefetch import NOTHING
    from charrnn.kernels.products import gemm
    from charrnn.nn.parameters import aligned
    from charrnn.nn.workers import Workers

    M, K, N = PRODUCT
    workers, unit = Workers(), gemm.unit("float32")
    a, b = aligned((1, M, gemm.padded(K)), np.float32), aligned((gemm.panels(N), K, gemm.PANEL), np.float32)
    c, bias = aligned((1, M, gemm.padded(N)), np.float32), aligned((gemm.padded(N),), np.float32)
    a[:], b[:] = 0.5, 0.5

    def product() -> None:
        workers.run(lambda share: gemm.product(unit, c, bias, a, b, K, share.of(M), NOTHING))

    product()
    serve(lambda seconds: 2 * M * K * N / quickest(seconds, product) / 1e9)


def peak_megabytes() -> float | None:
    """The most memory that this process has held so far, in MB; None where the system does not say."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


MODES = {
    "facts": run_facts, "text": run_text, "model": run_model, "train": run_train, "sample": run_sample,
    "split": run_split, "count": run_count, "peak": run_peak,
}  # fmt: skip

if __name__ == "__main__":
    main()
