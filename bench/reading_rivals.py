"""What the rivals of networks that read reach on the texts of reading_texts.py.

    python bench/reading_rivals.py TEXTS                                     # all but those that train long
    python bench/reading_rivals.py TEXTS surnames languages --json rivals.json
    python bench/reading_rivals.py TEXTS cmudict --only yoyodyne --minutes 20
    python bench/reading_rivals.py TEXTS surnames --env sklearn=~/sklearn/bin/python

A rival lives in an environment of its own, which is made in ENVS with pip, if --env does not name its
interpreter; none is a dependency. Dictionaries, and Viterbi's search for words, are in this file. Prints a
row a figure, and with --json adds {"task", "data", "system", "metric", "value", "seconds"} for each:
seconds are those of training, and of answering where the value is a speed.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import subprocess
import sys
import time
import venv
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import reading_metrics as metrics

PEER = Path(__file__).with_name("peer_readers.py")
# By environment, what is installed there. fasttext-wheel cannot use NumPy 2.
INSTALLED = {
    "sklearn": ["scikit-learn"], "fasttext": ["fasttext-wheel", "numpy<2"], "eld": ["eld"],
    "langid": ["langid"], "lingua": ["lingua-language-detector"], "phonetisaurus": ["phonetisaurus"],
    "yoyodyne": ["yoyodyne"],
}  # fmt: skip
# The others are called as their rival.
ENVIRONMENT = {"logistic": "sklearn", "bayes": "sklearn"}
TRAINS_LONG = {"yoyodyne"}
SYSTEMS = {
    "logistic": "logistic regression, 1-5-grams", "bayes": "naive Bayes, 1-3-grams", "fasttext": "fastText",
}  # fmt: skip
SEEDS = 5
WORD = r"(?:[^\W\d_]|')+"
# Of a classifier with many examples of many labels; a name has few.
MANY = {"minn": 1, "maxn": 4, "dim": 32, "epoch": 5, "lr": 0.5, "bucket": 2_000_000}
ENVS = Path("~/.cache/charrnn-bench/envs").expanduser()


@dataclass(frozen=True)
class Row:
    """A figure."""

    task: str
    data: str
    system: str
    metric: str
    value: float
    seconds: float


class Rivals:
    """Those that were asked for, each in its environment."""

    def __init__(self, a: argparse.Namespace) -> None:
        self.folder, self.every = a.texts, a.every
        self.minutes, self.of_cpu = a.minutes, a.of_cpu
        self._only, self._envs = a.only, a.envs
        self._interpreters = {
            name: str(Path(path).expanduser()) for name, _, path in (env.partition("=") for env in a.env)
        }

    def wanted(self, *names: str) -> list[str]:
        """Those of these names that take part."""
        return [name for name in names if (name in self._only if self._only else name not in TRAINS_LONG)]

    def ask(self, name: str, given: dict[str, Any]) -> dict[str, Any] | None:
        """What a rival answers; None, and a line on stderr, if it cannot be had."""
        try:
            command = self._interpreter(ENVIRONMENT.get(name, name)), PEER, name
            text = json.dumps(given)
            # Threads that wait for each other would count as CPU time.
            own = {} if given.get("train") else {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
            done = subprocess.run(
                [*map(str, command)],
                input=text,
                stdout=subprocess.PIPE,
                text=True,
                check=True,
                env=os.environ | own,
            )
            return dict(json.loads(done.stdout))
        except (OSError, ValueError, subprocess.CalledProcessError) as error:
            print(f"{name}: left out ({type(error).__name__}: {error})", file=sys.stderr)
            return None

    def _interpreter(self, environment: str) -> str:
        if environment not in self._interpreters:
            folder = self._envs / environment
            python = folder / "bin" / "python"
            if not python.exists():
                venv.create(folder, with_pip=True)
                install = python, "-m", "pip", "install", "--quiet", *INSTALLED[environment]
                subprocess.run([*map(str, install)], check=True)
            self._interpreters[environment] = str(python)
        return self._interpreters[environment]


# --- those that are a few lines --------------------------------------------------------------------


def dictionary(lines: Iterable[str]) -> dict[str, str]:
    """By word without marks and case, its most frequent form with marks."""
    return _most_frequent(lines, lambda word: metrics.without_marks(word), lambda word: word.lower())


def cases(lines: Iterable[str]) -> dict[str, str]:
    """By word in lower case, its most frequent form."""
    return _most_frequent(lines, lambda word: word, lambda word: word)


def _most_frequent(
    lines: Iterable[str], stripped: Callable[[str], str], form: Callable[[str], str]
) -> dict[str, str]:
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for word, count in Counter(word for line in lines for word in re.findall(r"[^\W\d_]+", line)).items():
        found[stripped(word).lower()][form(word)] += count
    return {word: min(forms, key=lambda form: (-forms[form], form)) for word, forms in found.items()}


def with_marks(learnt: dict[str, str], line: str) -> str:
    """A line without marks with those that its words have most often, in the case that they have."""

    def put(match: re.Match[str]) -> str:
        word = match[0]
        form = learnt.get(word.lower(), word)
        pairs = zip(form, word, strict=False)
        return "".join(a.upper() if b.isupper() else a for a, b in pairs) if len(form) == len(word) else word

    return re.sub(r"[^\W\d_]+", put, line)


def with_case(learnt: dict[str, str], line: str) -> str:
    """A line in lower case with the case that its words have most often."""
    return re.sub(r"[^\W\d_]+", lambda match: learnt.get(match[0], match[0]), line)


class Words:
    """Word frequencies. A word that was never seen is the less likely the longer it is (Norvig, 2009)."""

    LONGEST = 24

    def __init__(self, lines: Iterable[str]) -> None:
        words = Counter(word for line in lines for word in re.findall(WORD, line))
        total = sum(words.values())
        self._costs = {word: -math.log(count / total) for word, count in words.items()}
        self._unknown = math.log(total / 10)

    def cost(self, word: str) -> float:
        """Nats."""
        return self._costs.get(word, self._unknown + len(word) * math.log(10))

    def segmented(self, text: str) -> str:
        """The likeliest words that the text consists of, by Viterbi's search, with spaces between."""
        best: list[tuple[float, int]] = [(0.0, 0)]  # by end: the cost so far, and where the last word begins
        for end in range(1, len(text) + 1):
            starts = range(max(0, end - self.LONGEST), end)
            best.append(min((best[start][0] + self.cost(text[start:end]), start) for start in starts))
        words, end = [], len(text)
        while end:
            words.append(text[best[end][1] : end])
            end = best[end][1]
        return " ".join(reversed(words))


def with_spaces(model: Words, line: str) -> str:
    """A line without spaces with some between its words, and after punctuation."""
    parts = re.findall(rf"{WORD}|[\W\d_]", line)
    found = ""
    for part in parts:
        word = part[0] == "'" or part[0].isalpha()
        found += " " * (word and found[-1:] in tuple(",.;:!?")) + (model.segmented(part) if word else part)
    return found


class Grams:
    """Naive Bayes on grams of 1 to 5 characters in lower case, of which one in some share a number."""

    LONGEST, NUMBERS, SMOOTHING, TOGETHER = 5, 1 << 19, 0.05, 2000

    def __init__(self, examples: Iterable[Sequence[str]]) -> None:
        texts: dict[str, list[str]] = defaultdict(list)
        for label, text in examples:
            texts[label].append(text)
        self.labels = sorted(texts)
        self._costs = np.empty((self.NUMBERS, len(texts)), np.float32)  # nats
        for k, label in enumerate(self.labels):
            counts = np.full(self.NUMBERS, self.SMOOTHING)
            for n in range(0, len(texts[label]), self.TOGETHER):
                numbers = self.numbers("\n".join(texts[label][n : n + self.TOGETHER]))
                counts += np.bincount(numbers, minlength=self.NUMBERS)
            self._costs[:, k] = -np.log(counts / counts.sum())

    def numbers(self, text: str) -> np.ndarray:
        """One for each gram."""
        characters = np.frombuffer(f" {text.lower()} ".encode("utf-32-le"), np.uint32).astype(np.uint64)
        hashed, found = np.zeros(len(characters), np.uint64), []
        for n in range(1, min(self.LONGEST, len(characters)) + 1):
            ends = characters[n - 1 :] + np.uint64(n)
            hashed = (hashed[: len(ends)] * np.uint64(0x9E3779B97F4A7C15) + ends) * np.uint64(
                0xBF58476D1CE4E5B9
            )
            hashed ^= hashed >> np.uint64(29)
            found.append(hashed % np.uint64(self.NUMBERS))
        return np.concatenate(found).astype(np.int64)

    def label(self, text: str) -> str:
        """The likeliest, where all are as frequent."""
        return self.labels[int(self._costs[self.numbers(text)].sum(0).argmin())]


# --- the tasks -------------------------------------------------------------------------------------


def surnames(rivals: Rivals) -> Iterator[Row]:
    """Five splits, by all names and by few of each label."""
    for name in rivals.wanted("bayes", "fasttext", "logistic"):
        for part in ("train", "few"):
            for seed in range(1, SEEDS + 1):
                files = (rivals.folder / f"surnames.{seed}.{kind}.tsv" for kind in (part, "test"))
                train, test = map(pairs, files)
                data = f"surnames {seed}" + ", 20 a label" * (part == "few")
                yield from labelled(rivals, name, data, train, test)


def languages(rivals: Rivals) -> Iterator[Row]:
    """The detectors as they come, and fastText and counted grams, which learn from our lines."""
    test = pairs(rivals.folder / "languages.test.tsv")[:: rivals.every]
    for _ in rivals.wanted("grams"):
        yield from counted(pairs(rivals.folder / "languages.train.tsv"), test)
    for name in rivals.wanted("eld", "langid", "lingua"):
        yield from labelled(rivals, name, "languages", [], test)
    for name in rivals.wanted("lingua"):
        yield from labelled(rivals, name, "languages", [], test, threads=True)
    for name in rivals.wanted("fasttext"):
        train = pairs(rivals.folder / "languages.train.tsv")
        yield from labelled(rivals, name, "languages", train, test, fasttext=MANY)


def counted(train: list[list[str]], test: list[list[str]]) -> Iterator[Row]:
    """How right naive Bayes on grams is, and how fast."""
    truth, texts = zip(*test, strict=True)
    began = time.process_time()
    model = Grams(train)
    trained = time.process_time()
    answers = [model.label(text) for text in texts]
    took, seconds = time.process_time() - trained, trained - began
    system = "naive Bayes, 1-5-grams"
    yield Row("classify", "languages", system, "accuracy", metrics.accuracy(truth, answers), seconds)
    yield Row("classify", "languages", system, "macro-F1", metrics.macro_f1(truth, answers), seconds)
    yield Row("classify", "languages", system, "lines/s of CPU time", len(texts) / took, took)


def labelled(
    rivals: Rivals, name: str, data: str, train: list[list[str]], test: list[list[str]], **more: Any
) -> Iterator[Row]:
    """How right a rival is about labels, and how fast."""
    truth, texts = zip(*test, strict=True)
    given = {"train": train, "test": texts, "labels": sorted(set(truth))} | more
    if (found := rivals.ask(name, given)) is None:
        return
    system = SYSTEMS.get(name, name) + ", in parallel" * bool(more.get("threads"))
    answers, seconds = found["answers"], found["training"]
    yield Row("classify", data, system, "accuracy", metrics.accuracy(truth, answers), seconds)
    yield Row("classify", data, system, "macro-F1", metrics.macro_f1(truth, answers), seconds)
    if "confidences" in found:
        right = [a == b for a, b in zip(truth, answers, strict=True)]
        error = metrics.calibration_error(found["confidences"], right)
        yield Row("classify", data, system, "calibration error", error, seconds)
    yield Row("classify", data, system, "lines/s", len(texts) / found["answering"], found["answering"])
    cpu = found["cpu"]
    yield Row("classify", data, system, "lines/s of CPU time", len(texts) / cpu, cpu)
    known = {a for a, b in zip(truth, answers, strict=True) if a == b}
    if not train and len(known) < len(set(truth)):  # a detector that has never heard of a language
        those = [(a, b) for a, b in zip(truth, answers, strict=True) if a in known]
        right_ones = metrics.accuracy(*zip(*those, strict=True))
        yield Row("classify", data, system, f"accuracy on its {len(known)} labels", right_ones, seconds)


def diacritics(rivals: Rivals) -> Iterator[Row]:
    """The most frequent form of each word."""
    for path in sorted(rivals.folder.glob("diacritics.*.train.txt")):
        data = path.name.removesuffix(".train.txt").replace(".", " ")
        test = lines_of(path.with_name(path.name.replace("train", "test")))
        began = time.perf_counter()
        learnt = dictionary(lines_of(path))
        between = time.perf_counter()
        answers = [with_marks(learnt, metrics.without_marks(line)) for line in test]
        ended = time.perf_counter()
        counts = metrics.marked_words(test, answers)
        unmarked = metrics.marked_words(test, map(metrics.without_marks, test))
        took = between - began
        yield Row("restore", data, "dictionary", "word error", counts.word_error, took)
        yield Row("restore", data, "dictionary", "accuracy of marked words", counts.marked_accuracy, took)
        speed = sum(map(len, test)) / (ended - between)
        yield Row("restore", data, "dictionary", "characters/s", speed, ended - between)
        yield Row("restore", data, "nothing", "word error", unmarked.word_error, 0.0)


def shakespeare(rivals: Rivals) -> Iterator[Row]:
    """Case, and spaces."""
    train, test = (lines_of(rivals.folder / f"shakespeare.{part}.txt") for part in ("train", "test"))
    began = time.perf_counter()
    learnt = cases(train)
    took = time.perf_counter() - began
    answer = "\n".join(with_case(learnt, line.lower()) for line in test)
    found = metrics.upper_case("\n".join(test), answer)
    yield Row("restore", "shakespeare, case", "most frequent form", "F1", found.f1, took)
    began = time.perf_counter()
    model = Words(train)
    took = time.perf_counter() - began
    answer = "\n".join(with_spaces(model, line.replace(" ", "")) for line in test)
    found = metrics.spaces("\n".join(test), answer)
    yield Row("restore", "shakespeare, spaces", "Viterbi over words", "F1", found.f1, took)


def cmudict(rivals: Rivals) -> Iterator[Row]:
    """Word and phoneme error: any pronunciation of a word is right."""
    train, valid, test = (pairs(rivals.folder / f"cmudict.{part}.tsv") for part in ("train", "valid", "test"))
    references: dict[str, list[str]] = defaultdict(list)
    for word, phonemes in test:
        references[word].append(phonemes)
    given = {"train": train, "valid": valid, "test": list(references), "minutes": rivals.minutes}
    given["of_cpu"] = rivals.of_cpu
    for name in rivals.wanted("phonetisaurus", "yoyodyne"):
        if (found := rivals.ask(name, given)) is None:
            continue
        answers = dict(zip(references, found["answers"], strict=True))
        seconds = found["training"]
        yield Row("rewrite", "cmudict", name, "word error", metrics.word_error(references, answers), seconds)
        error = metrics.phoneme_error(references, answers)
        yield Row("rewrite", "cmudict", name, "phoneme error", error, seconds)
        speed = len(references) / found["answering"]
        yield Row("rewrite", "cmudict", name, "words/s", speed, found["answering"])


TASKS: dict[str, Callable[[Rivals], Iterator[Row]]] = {
    "surnames": surnames,
    "languages": languages,
    "diacritics": diacritics,
    "shakespeare": shakespeare,
    "cmudict": cmudict,
}


def pairs(path: Path) -> list[list[str]]:
    """Two columns."""
    return [line.split("\t", 1) for line in lines_of(path)]


def lines_of(path: Path) -> list[str]:
    """A file's lines; only "\\n" ends one."""
    return path.read_text("utf-8").removesuffix("\n").split("\n")


def show(row: Row) -> str:
    """A line for people."""
    value = f"{row.value:,.0f}" if "/s" in row.metric else f"{row.value:.2%}"
    return f"{row.data:30}{row.system:42}{row.metric:28}{value:>12}{row.seconds:9.1f} s"


def summaries(rows: Sequence[Row]) -> Iterator[Row]:
    """The means over seeds."""
    found: dict[tuple[str, ...], list[Row]] = defaultdict(list)
    for row in rows:
        if re.match(r"surnames \d", row.data):
            data = re.sub(r"^surnames \d", "surnames, mean", row.data)
            found[row.task, data, row.system, row.metric].append(row)
    for (task, data, system, metric), those in found.items():
        value, seconds = mean([row.value for row in those]), mean([row.seconds for row in those])
        yield Row(task, data, system, metric, value, seconds)


def main() -> None:
    """The command line; see --help."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("texts", type=Path)
    parser.add_argument("tasks", nargs="*", choices=[*TASKS, []], default=[])
    parser.add_argument("--only", action="append", default=[], help="a rival; more than once: several")
    parser.add_argument("--env", action="append", default=[], metavar="NAME=PYTHON")
    parser.add_argument("--envs", type=Path, default=ENVS, help="where environments are made")
    parser.add_argument("--minutes", type=float, default=20.0, help="that yoyodyne trains")
    parser.add_argument("--of-cpu", action="store_true", help="those minutes are of CPU time")
    parser.add_argument("--every", type=int, default=1, help="of the lines in 60 languages, each so-manieth")
    parser.add_argument("--json", type=Path, help="add the rows to this file, a line each")
    a = parser.parse_args()
    rivals = Rivals(a)
    rows: list[Row] = []

    def add(row: Row) -> None:
        print(show(row), flush=True)
        if a.json:  # at once: the next may take long
            with a.json.open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(row)) + "\n")

    for task in a.tasks or TASKS:
        for row in TASKS[task](rivals):
            rows.append(row)
            add(row)
    for row in summaries(rows):
        add(row)


if __name__ == "__main__":
    main()
