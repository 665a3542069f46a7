"""The rivals of reading, each run by an interpreter that has it: `python peer_readers.py NAME`.

Reads {"train": [[label, text], ...], "test": [text, ...], ...} as JSON on stdin, and prints
{"answers": [...], "training": seconds, "answering": seconds, "cpu": seconds of answering}, with
"confidences" from those that have some. For pronunciations, the pairs to learn from are words and their
phonemes.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Found = dict[str, Any]
CONFIG = """
seed_everything: 1
trainer:
  accelerator: cpu
  max_epochs: 1000
  {limit}
  gradient_clip_val: 3
  enable_progress_bar: false
  default_root_dir: {folder}
model:
  class_path: yoyodyne.models.SoftAttentionLSTMModel
  init_args:
    decoder_hidden_size: {hidden}
    embedding_size: 128
    decoder_dropout: 0.2
    source_encoder:
      class_path: yoyodyne.models.modules.LSTMEncoder
      init_args:
        hidden_size: {hidden}
        bidirectional: true
        layers: 1
        dropout: 0.2
data:
  model_dir: {folder}
  train: {folder}/train.tsv
  val: {folder}/valid.tsv
  predict: {folder}/test.tsv
  target_sep: " "
  tie_embeddings: false
  batch_size: {batch}
checkpoint:
  dirpath: {folder}
  filename: best
  monitor: val_accuracy
  mode: max
prediction:
  path: {folder}/predictions.txt
"""


def main() -> None:
    given = json.load(sys.stdin)
    with contextlib.redirect_stdout(sys.stderr):  # what they print on their way
        found = RIVALS[sys.argv[1]](given)
    print(json.dumps(found))


def timed(train: Callable[[], Any], answer: Callable[[Any], list[Any]]) -> Found:
    """Trains, or loads; answers; and how long each took."""
    began = time.perf_counter()
    model = train()
    between, cpu = time.perf_counter(), time.process_time()
    answers = answer(model)
    return {
        "answers": answers,
        "training": between - began,
        "answering": time.perf_counter() - between,
        "cpu": time.process_time() - cpu,
    }


# --- labels ----------------------------------------------------------------------------------------


def sklearn(vectorizer: Any, classifier: Any, given: Found) -> Found:
    from sklearn.pipeline import make_pipeline

    model = make_pipeline(vectorizer, classifier)
    labels, texts = zip(*given["train"], strict=True)

    def answer(model: Any) -> list[Any]:
        shares = model.predict_proba(given["test"])
        best = shares.argmax(1)
        names = [str(model.classes_[n]) for n in best]
        return [names, [float(row[n]) for row, n in zip(shares, best, strict=True)]]

    found = timed(lambda: model.fit(texts, labels), answer)
    found["answers"], found["confidences"] = found["answers"]
    return found


def logistic(given: Found) -> Found:
    """On grams of 1 to 5 characters, and where words begin and end."""
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression

    # On surnames 82.98 %; tf-idf 82.5, grams across words 81.2, C of 3 82.8, balanced labels 80.5.
    grams = CountVectorizer(analyzer="char_wb", ngram_range=(1, 5), binary=True)
    return sklearn(grams, LogisticRegression(C=1, max_iter=300), given)


def bayes(given: Found) -> Found:
    """On grams of 1 to 3."""
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.naive_bayes import MultinomialNB

    grams = CountVectorizer(analyzer="char_wb", ngram_range=(1, 3))
    return sklearn(grams, MultinomialNB(alpha=given.get("alpha", 0.1)), given)


def fasttext(given: Found) -> Found:
    """Words and their grams; settings by `given`."""
    import fasttext as library

    def train() -> Any:
        with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as file:
            for label, text in given["train"]:
                file.write(f"__label__{label} {text}\n")
            file.flush()
            settings = {"minn": 1, "maxn": 5, "dim": 64, "epoch": 25, "lr": 0.5, "thread": os.cpu_count()}
            settings |= {"loss": "softmax", "verbose": 0, "bucket": 100_000} | given.get("fasttext", {})
            return library.train_supervised(file.name, **settings)

    def answer(model: Any) -> list[Any]:
        labels, shares = model.predict(given["test"])
        return [[those[0].removeprefix("__label__") for those in labels], [float(s[0]) for s in shares]]

    found = timed(train, answer)
    found["answers"], found["confidences"] = found["answers"]
    return found


# --- languages -------------------------------------------------------------------------------------


def one(code: str) -> str:
    """Norwegian is one language here."""
    return "no" if code in ("nb", "nn") else code


def eld(given: Found) -> Found:
    import eld as library

    def answer(detector: Any) -> list[Any]:
        return [detector.detect(text).language or "" for text in given["test"]]

    return timed(library.LanguageDetector, answer)


def langid(given: Found) -> Found:
    from langid.langid import LanguageIdentifier, model

    def load() -> Any:
        found = LanguageIdentifier.from_modelstring(model)
        found.set_languages([code for code in found.nb_classes if one(code) in given["labels"]])
        return found

    return timed(load, lambda found: [one(found.classify(text)[0]) for text in given["test"]])


def lingua(given: Found) -> Found:
    """One text at a time; `threads`: in parallel."""
    from lingua import Language, LanguageDetectorBuilder

    def load() -> Any:
        codes = {language: one(language.iso_code_639_1.name.lower()) for language in Language.all()}
        known = [language for language, code in codes.items() if code in given["labels"]]
        return LanguageDetectorBuilder.from_languages(*known).with_preloaded_language_models().build()

    def answer(detector: Any) -> list[Any]:
        if given.get("threads"):
            found = detector.detect_languages_in_parallel_of(given["test"])
        else:
            found = map(detector.detect_language_of, given["test"])
        return [one(language.iso_code_639_1.name.lower()) if language else "" for language in found]

    return timed(load, answer)


# --- pronunciations --------------------------------------------------------------------------------


def run(*command: Any, **more: Any) -> str:
    done = subprocess.run([*map(str, command)], stdout=subprocess.PIPE, text=True, check=True, **more)
    return str(done.stdout)


def phonetisaurus(given: Found) -> Found:
    """Joint n-grams (Novak et al.), in the wrapper's settings."""
    with tempfile.TemporaryDirectory() as folder:
        model, lexicon = Path(folder, "g2p.fst"), Path(folder, "lexicon")
        lexicon.write_text("".join(f"{word} {phonemes}\n" for word, phonemes in given["train"]), "utf-8")
        command = sys.executable, "-m", "phonetisaurus"

        def answer(_: Any) -> list[Any]:
            words = "".join(f"{word}\n" for word in given["test"])
            lines = run(*command, "predict", "--model", model, input=words).splitlines()
            found = dict(line.split(" ", 1) for line in lines if " " in line)
            return [found.get(word, "").strip() for word in given["test"]]

        return timed(lambda: run(*command, "train", "--model", model, lexicon), answer)


def yoyodyne(given: Found) -> Found:
    """An LSTM with attention after a bidirectional one, for so many `minutes` of the clock, or with `of_cpu`
    of CPU time; the best epoch counts."""
    program = Path(sys.executable).parent / "yoyodyne"
    with tempfile.TemporaryDirectory() as folder:
        for name in ("train", "valid"):
            Path(folder, f"{name}.tsv").write_text("".join(f"{a}\t{b}\n" for a, b in given[name]), "utf-8")
        Path(folder, "test.tsv").write_text("".join(f"{word}\tAH\n" for word in given["test"]), "utf-8")
        minutes = given["minutes"]
        limit = f"max_time: 00:{int(minutes) // 60:02}:{int(minutes) % 60:02}:{int(minutes * 60) % 60:02}"
        if given.get("of_cpu"):
            limit = f"callbacks: {{class_path: peer_cpu_limit.CpuLimit, init_args: {{minutes: {minutes}}}}}"
        environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
        config = Path(folder, "config.yaml")
        sizes = {"hidden": given.get("hidden", 256), "batch": given.get("batch", 64)}
        config.write_text(CONFIG.format(limit=limit, folder=folder, **sizes), "utf-8")

        def answer(_: Any) -> list[Any]:
            best = next(Path(folder).glob("best*.ckpt"))
            run(program, "predict", "--config", config, "--ckpt_path", best, env=environment)
            return Path(folder, "predictions.txt").read_text("utf-8").splitlines()

        return timed(lambda: run(program, "fit", "--config", config, env=environment), answer)


RIVALS: dict[str, Callable[[Found], Found]] = {
    "logistic": logistic,
    "bayes": bayes,
    "fasttext": fasttext,
    "eld": eld,
    "langid": langid,
    "lingua": lingua,
    "phonetisaurus": phonetisaurus,
    "yoyodyne": yoyodyne,
}

if __name__ == "__main__":
    main()
