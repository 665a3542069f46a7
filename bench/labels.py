"""What labels are worth: one model that knows them, beside one without and one for each label.

    python bench/labels.py surnames.tsv --minutes 3
    python bench/labels.py surnames.tsv --minutes 3 --seeds 1,2,3 --sklearn-python ~/sklearn/bin/python

The corpus has a label, a tab and a text on each line. A tenth of the lines is held out; no figure is
measured on a line that was trained on. Shown are, for each seed, as a line of JSON:

- bits a character of the held-out texts: of the model with labels, given the label and without it; of a
  model that never saw labels; and of one model for each label, all of which together train as many
  minutes, but none less than LEAST_MINUTES. A character that a model has never seen costs UNKNOWN bits
  in all of them;
- how often `classify` is right about held-out texts: by the model with labels, by those of one label
  each, and, if scikit-learn is there, by naive Bayes on character n-grams;
- of 100 texts written for each of the ten most frequent labels, how many a classifier of scikit-learn
  takes for the label that was asked for, beside the same share of the real held-out texts;
- how many of the written texts are distinct, and how many stand in the training texts of their label.

scikit-learn is no dependency: it takes part if the interpreter of --sklearn-python can import it.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import tempfile
from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import charrnn
from charrnn.config import WRITING_STRENGTH, TextConfig

WRITTEN, LABELS = 100, 10
LEAST_MINUTES = 0.05
UNKNOWN = 10.0
LINES, LABELLED = TextConfig(lines=True), TextConfig(lines=True, label_by="column")
# Reads {"train", "test", "written"}, lists of [label, text]; prints the two classifiers' answers.
RIVAL = """
import json, sys
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import make_pipeline
given = json.load(sys.stdin)
labels, texts = zip(*given["train"])
bayes = make_pipeline(CountVectorizer(analyzer="char_wb", ngram_range=(1, 4)), MultinomialNB(alpha=0.1))
grams = TfidfVectorizer(analyzer="char_wb", ngram_range=(1, 4))
judge = make_pipeline(grams, LogisticRegression(C=30, max_iter=300))
bayes.fit(texts, labels)
judge.fit(texts, labels)
tests, written = ([text for _, text in given[name]] for name in ("test", "written"))
asked = {"bayes": (bayes, tests), "judge": (judge, tests), "written": (judge, written)}
print(json.dumps({name: list(classifier.predict(those)) for name, (classifier, those) in asked.items()}))
"""

Texts = list[tuple[str, str]]


def main() -> None:
    """The command line; see --help."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--seeds", default="1")
    parser.add_argument("--sklearn-python", default="python3")
    parser.add_argument(
        "--option", action="append", default=[], metavar="NAME=VALUE", help="of charrnn.train"
    )
    parser.add_argument(
        "--strength", type=float, default=WRITING_STRENGTH, help="of the labels, when texts are written"
    )
    parser.add_argument("--alone", action="store_true", help="only the model with labels")
    a = parser.parse_args()
    settings = {name: json.loads(value) for name, value in (option.split("=", 1) for option in a.option)}
    for seed in map(int, a.seeds.split(",")):
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(measure(a, seed, settings, Path(folder))), flush=True)


def measure(a: argparse.Namespace, seed: int, settings: dict[str, Any], folder: Path) -> dict[str, Any]:
    """All figures for one seed."""
    train, test = divided(a.corpus, seed)
    settings = {"seed": seed, "minutes": a.minutes} | settings

    def learn(name: str, texts: Texts, text: TextConfig, **more: Any) -> Any:
        path = folder / f"{name}.txt"
        write(path, texts, labels=text is LABELLED)
        for _ in charrnn.train(path, out=folder / f"{name}.safetensors", text=text, **(settings | more)):
            pass
        return charrnn.load(folder / f"{name}.safetensors")

    model = learn("labelled", train, LABELLED)
    found: dict[str, Any] = {"seed": seed, "minutes": a.minutes, "texts": [len(train), len(test)]}
    write(folder / "test.txt", test)
    given = {label: charrnn.given(model, label) for label in model.columns[0].labels}
    found["bits given the label"] = bits(given, test, folder)
    found["bits without it"] = bits({None: model.given(())}, test, folder)
    names = list(model.columns[0].labels)
    found["right by Bayes"] = right(charrnn.classify([model], folder / "test.txt"), names, test)
    if not a.alone:
        plain = learn("plain", train, LINES)
        found["bits of a model that knows no labels"] = bits({None: plain}, test, folder)
        found |= apart(learn, train, test, names, a.minutes, folder)
    found |= rival(a, model, train, test, seed)
    return found


def divided(corpus: Path, seed: int) -> tuple[Texts, Texts]:
    """Nine tenths of the lines, and the rest. Lines are shuffled: the file may be sorted by label."""
    lines = [line.split("\t", 1) for line in corpus.read_text("utf-8").splitlines() if "\t" in line]
    texts = [(label, text) for label, text in lines if label and text]
    random.Random(seed).shuffle(texts)
    cut = len(texts) // 10
    return texts[cut:], texts[:cut]


def write(path: Path, texts: Texts, *, labels: bool = False) -> None:
    """A line for each text."""
    path.write_text(
        "".join(f"{label}\t{text}\n" if labels else text + "\n" for label, text in texts), "utf-8"
    )


def bits(models: Mapping[Any, Any], test: Texts, folder: Path) -> float:
    """Bits a character of the texts, by the models of their labels; None: by one for all of them."""
    total, characters = 0.0, 0
    for label, model in models.items():
        own = [(name, text) for name, text in test if label in (None, name)]
        write(folder / "own.txt", own)
        for lines in charrnn.score_lines(model, folder / "own.txt", unknown_bits=UNKNOWN) if own else ():
            total += sum(line.bits or 0.0 for line in lines)
            characters += sum(line.characters for line in lines)
    return total / characters


def right(classes: Any, names: list[str], test: Texts) -> float:
    """The share of lines to which their own label is given."""
    given = [names[line.best] for lines in classes for line in lines]
    return sum(a == b for a, (b, _) in zip(given, test, strict=True)) / len(test)


def apart(
    learn: Any, train: Texts, test: Texts, names: list[str], minutes: float, folder: Path
) -> dict[str, Any]:
    """One model for each label, each trained in its share of the time."""
    by_label: dict[str, Texts] = defaultdict(list)
    for label, text in train:
        by_label[label].append((label, text))
    characters = {label: sum(len(text) + 1 for _, text in texts) for label, texts in by_label.items()}
    models = {}
    for n, label in enumerate(names):
        share = max(LEAST_MINUTES, minutes * characters[label] / sum(characters.values()))
        models[label] = learn(f"apart{n}", by_label[label], LINES, minutes=share)
    prior = [len(by_label[name]) for name in names]
    classes = charrnn.classify(list(models.values()), folder / "test.txt", prior=prior)
    return {
        f"bits of {len(names)} models": bits(models, test, folder),
        f"right by {len(names)} models": right(classes, names, test),
    }


def rival(a: argparse.Namespace, model: Any, train: Texts, test: Texts, seed: int) -> dict[str, Any]:
    """What scikit-learn says of held-out texts, and of texts that the model wrote."""
    common = [label for label, _ in Counter(label for label, _ in train).most_common(LABELS)]
    written = [
        (label, "".join(text).removesuffix("\n"))
        for label in common
        for text in charrnn.sample(charrnn.given(model, label, a.strength), count=WRITTEN, seed=seed)
    ]
    known = set(train)
    own = {
        "strength": a.strength,
        "written texts that are distinct": len(set(written)) / len(written),
        "written texts that were trained on": sum(text in known for text in written) / len(written),
    }
    given = json.dumps({"train": train, "test": test, "written": written})
    try:
        done = subprocess.run(
            [a.sklearn_python, "-c", RIVAL], input=given, capture_output=True, text=True, check=False
        )
    except OSError as error:
        return own | {"scikit-learn": f"is not there: {error}"}
    if done.returncode:
        return own | {"scikit-learn": f"is not there: {done.stderr.strip().splitlines()[-1:]}"}
    answers = json.loads(done.stdout)

    def share(those: Texts, answers: list[str], label: str) -> float:
        mine = [answer == label for (own, _), answer in zip(those, answers, strict=True) if own == label]
        return sum(mine) / max(1, len(mine))

    return own | {
        "right by naive Bayes": sum(b == t for b, (t, _) in zip(answers["bayes"], test, strict=True))
        / len(test),
        "taken for what was asked, and real ones": {
            label: [share(written, answers["written"], label), share(test, answers["judge"], label)]
            for label in common
        },
    }


if __name__ == "__main__":
    main()
