"""What charrnn's networks that read reach on the texts of reading_texts.py; see reading_rivals.py for others.

    python bench/reading.py TEXTS surnames few languages
    python bench/reading.py TEXTS surnames --seeds 1 --option epochs=5
    python bench/reading.py TEXTS surnames --json ours.json
    python bench/reading.py TEXTS languages --model languages.safetensors    # trains none

    surnames     a classifier of each of the five splits, of default settings
    few          20 names of each label: alone, and begun with a model that writes names, without labels
    languages    the language of a line, and the lines answered in a second of CPU time, by one thread
    cmudict      pronunciations: a rewriter of words, by beam search
    addition     sums: a rewriter of characters
    segments     words without spaces between them: a tagger

Prints a row a figure, as reading_rivals.py does, and with --json writes the same objects.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import reading_metrics as metrics
from reading_rivals import Row

import charrnn
from charrnn import api
from charrnn.config import TextConfig

OURS = "charrnn"
Settings = dict[str, Any]
# Of lines in many languages: characters of a piece, and those that are enough of a language. One with fewer
# is learned several times as often, up to so many.
PIECE, ENOUGH, MOST_TIMES = 64, 100_000, 10


def main() -> None:
    """The command line; see --help."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("texts", type=Path)
    parser.add_argument("tasks", nargs="*", metavar="TASK", help=f"{', '.join(TASKS)} [all]")
    parser.add_argument("--seeds", default="1,2,3,4,5", help="of splits [1,2,3,4,5]")
    parser.add_argument(
        "--option", action="append", default=[], metavar="NAME=VALUE", help="of charrnn.train"
    )
    parser.add_argument("--model", type=Path, metavar="FILE", help="of languages: measure this one")
    parser.add_argument(
        "--every", type=int, default=1, metavar="N", help="every N-th of the lines in 60 languages"
    )
    parser.add_argument("--json", type=Path, metavar="FILE")
    a = parser.parse_args()
    tasks = TASKS | {"languages": partial(languages, model=a.model, every=a.every)}
    settings = {name: json.loads(value) for name, value in (option.split("=", 1) for option in a.option)}
    rows = []
    for task in a.tasks or tasks:
        for row in tasks[task](a.texts, [int(seed) for seed in a.seeds.split(",")], settings):
            print(
                f"{row.task}  {row.data}  {row.system}  {row.metric} {row.value:.4f}  ({row.seconds:.1f} s)",
                flush=True,
            )
            rows.append(row)
    if a.json:
        a.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n", encoding="utf-8")


def classifier(train: Path, folder: Path, settings: Settings) -> tuple[Path, float]:
    """A trained model, and the seconds that took."""
    out, began = folder / "classifier.safetensors", time.perf_counter()
    for _ in charrnn.train(train, out=out, task="classify", force=True, **settings):
        pass
    return out, time.perf_counter() - began


def judged(model: Path, test: Path, folder: Path, *, even: bool = False) -> tuple[dict[str, float], float]:
    """Figures of what the model says of labelled lines, and the seconds of CPU time that took one thread.

    `even`: the model is told that all labels are as frequent.
    """
    truth, texts = zip(*(line.split("\t", 1) for line in test.read_text("utf-8").splitlines()), strict=True)
    lines = folder / "lines.txt"
    lines.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
    labels = charrnn.load(model).columns[0].labels
    prior = [1 / len(labels)] * len(labels) if even else None
    warm = folder / "first.txt"
    warm.write_text("".join(f"{text}\n" for text in texts[:200]), encoding="utf-8")
    for _ in api.classified(model, warm, threads=1):  # kernels are loaded, of the network and of its grams
        pass
    began = time.process_time()
    parts = api.classified(model, lines, prior=prior, threads=1)
    found = [line.probabilities[0] for part in parts for line in part]
    seconds = time.process_time() - began
    sure = [max(own) for own in found]
    answers = [labels[own.index(p)] for own, p in zip(found, sure, strict=True)]
    right = [a == b for a, b in zip(answers, truth, strict=True)]
    return {
        "accuracy": metrics.accuracy(truth, answers),
        "macro-F1": metrics.macro_f1(truth, answers),
        "calibration error": metrics.calibration_error(sure, right),
    }, seconds


def surnames(texts: Path, seeds: list[int], settings: Settings) -> Iterator[Row]:
    """A classifier of each split."""
    for seed in seeds:
        with tempfile.TemporaryDirectory() as name:
            model, seconds = classifier(texts / f"surnames.{seed}.train.tsv", Path(name), settings)
            figures, _ = judged(model, texts / f"surnames.{seed}.test.tsv", Path(name))
        for metric, value in figures.items():
            yield Row("classify", f"surnames {seed}", OURS, metric, value, seconds)


def few(texts: Path, seeds: list[int], settings: Settings) -> Iterator[Row]:
    """A classifier of few names, alone and begun with a model that writes."""
    for seed in seeds:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            lines = (texts / f"surnames.{seed}.train.tsv").read_text("utf-8").splitlines()
            names = dict.fromkeys(line.split("\t", 1)[1] for line in lines)
            (folder / "names.txt").write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
            writer = folder / "writer.safetensors"
            for _ in charrnn.train(folder / "names.txt", out=writer, text=TextConfig(lines=True)):
                pass
            for system, begun in (("alone", {}), ("--init-from", {"init_from": writer})):
                own = settings | begun
                model, seconds = classifier(texts / f"surnames.{seed}.few.tsv", folder, own)
                figures, _ = judged(model, texts / f"surnames.{seed}.test.tsv", folder)
                for metric, value in figures.items():
                    yield Row("classify", f"few {seed}", f"{OURS} {system}", metric, value, seconds)


def languages(
    texts: Path, seeds: list[int], settings: Settings, *, model: Path | None = None, every: int = 1
) -> Iterator[Row]:
    """The language of a line, each as likely as others; by a `model`, or one that is trained."""
    tested, trained = (texts / "languages.test.tsv").read_text("utf-8").splitlines()[::every], 0.0
    with tempfile.TemporaryDirectory() as name:
        test = Path(name) / "test.tsv"
        test.write_text("".join(f"{line}\n" for line in tested), encoding="utf-8")
        if model is None:
            train = Path(name) / "train.tsv"
            lines = (texts / "languages.train.tsv").read_text("utf-8").splitlines()
            train.write_text("".join(f"{line}\n" for line in pieces(lines)), encoding="utf-8")
            model, trained = classifier(train, Path(name), {"text": TextConfig(lowercase=True)} | settings)
        figures, seconds = judged(model, test, Path(name), even=True)
    for metric, value in figures.items():
        yield Row("classify", "languages", OURS, metric, value, trained)
    yield Row("classify", "languages", OURS, "lines/s of CPU time", len(tested) / seconds, seconds)


def pieces(lines: list[str]) -> Iterator[str]:
    """Labelled lines in pieces, which are sooner read; and those of labels with little text again."""
    by_label: dict[str, list[str]] = defaultdict(list)
    for line in lines:
        label, text = line.split("\t", 1)
        by_label[label] += [text[n : n + PIECE] for n in range(0, len(text), PIECE)]
    for label, those in by_label.items():
        times = min(MOST_TIMES, -(-ENOUGH // sum(map(len, those))))
        yield from (f"{label}\t{text}" for text in those * times)


def rewriter(
    texts: Path, name: str, text: TextConfig, settings: Settings
) -> tuple[dict[str, set[str]], dict[str, str], tuple[float, float]]:
    """The references of each source of the test, what a rewriter answers, and the seconds of both."""
    references: dict[str, set[str]] = defaultdict(set)
    for line in (texts / f"{name}.test.tsv").read_text("utf-8").splitlines():
        source, target = line.split("\t")
        references[source].add(target)
    with tempfile.TemporaryDirectory() as place:
        out, lines = Path(place) / "model.safetensors", Path(place) / "sources.txt"
        lines.write_text("".join(f"{source}\n" for source in references), encoding="utf-8")
        began = time.perf_counter()
        for _ in charrnn.train(texts / f"{name}.train.tsv", out=out, task="rewrite", text=text, **settings):
            pass
        trained = time.perf_counter()
        found = [line for part in api.rewritten(out, lines) for line in part]
        seconds = trained - began, time.perf_counter() - trained
    joint = " " if text.targets == "words" else ""
    answers = {line.text: joint.join(line.rewritings[0].tokens) for line in found}
    return references, answers, seconds


def cmudict(texts: Path, seeds: list[int], settings: Settings) -> Iterator[Row]:
    """Pronunciations without stress."""
    text = TextConfig(targets="words")
    references, answers, (trained, seconds) = rewriter(texts, "cmudict", text, settings)
    for metric, measure in (("word error", metrics.word_error), ("phoneme error", metrics.phoneme_error)):
        yield Row("rewrite", "cmudict", OURS, metric, measure(references, answers), trained)
    yield Row("rewrite", "cmudict", OURS, "lines/s", len(answers) / seconds, seconds)


def addition(texts: Path, seeds: list[int], settings: Settings) -> Iterator[Row]:
    """Sums of numbers of up to three digits."""
    references, answers, (trained, _) = rewriter(texts, "addition", TextConfig(), settings)
    accuracy = 1 - metrics.word_error(references, answers)
    yield Row("rewrite", "addition", OURS, "accuracy", accuracy, trained)


def segments(texts: Path, seeds: list[int], settings: Settings) -> Iterator[Row]:
    """Where words begin and end."""
    lines = (texts / "segments.test.tsv").read_text("utf-8").splitlines()
    sources, truth = zip(*(line.split("\t") for line in lines), strict=True)
    with tempfile.TemporaryDirectory() as place:
        out, read = Path(place) / "model.safetensors", Path(place) / "sources.txt"
        read.write_text("".join(f"{source}\n" for source in sources), encoding="utf-8")
        began = time.perf_counter()
        for _ in charrnn.train(texts / "segments.train.tsv", out=out, task="tag", **settings):
            pass
        trained = time.perf_counter()
        found = ["".join(line.tags) for part in api.tagged(out, read) for line in part]
        seconds = time.perf_counter() - trained
    right = sum(a == b for pair in zip(truth, found, strict=True) for a, b in zip(*pair, strict=True))
    total = sum(map(len, truth))
    both = sum(
        (metrics.overlap(*map(metrics.spans, pair)) for pair in zip(truth, found, strict=True)),
        metrics.F1(0, 0, 0),
    )
    yield Row("tag", "segments", OURS, "accuracy", right / total, trained - began)
    yield Row("tag", "segments", OURS, "F1 of words", both.f1, trained - began)
    yield Row("tag", "segments", OURS, "characters/s", total / seconds, seconds)


TASKS: dict[str, Callable[[Path, list[int], Settings], Iterator[Row]]] = {
    "surnames": surnames,
    "few": few,
    "languages": languages,
    "cmudict": cmudict,
    "addition": addition,
    "segments": segments,
}

if __name__ == "__main__":
    main()
