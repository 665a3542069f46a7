"""`train --task restore`, `charrnn restore` and `eval` of what comes of it."""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import record_readme
from support.calls import call
from support.environment import environment
from support.processes import command

from charrnn import api
from charrnn.checkpoint import model_file
from charrnn.checkpoint.model_file import Checkpoint
from charrnn.config import TextConfig
from charrnn.errors import CharrnnError, ConfigError
from charrnn.events import Evaluated, Started, Step
from charrnn.labels import Column
from charrnn.tasks.restoring import learning
from charrnn.tasks.restoring.learning import Pieces, cuts, stripped
from charrnn.tasks.restoring.restorer import BESIDE, INNER, Restorer
from charrnn.text.reading import read
from charrnn.vocabulary import Vocabulary

SMALL: dict[str, Any] = {
    "hidden_size": 16, "num_layers": 1, "embedding_size": 8, "batch_size": 8, "seq_len": 32, "dropout": 0.0,
    "seed": 3, "learning_rate": 0.02, "threads": 1,
}  # fmt: skip
# Every word has one form, so that a small network learns them all.
WORDS = ["Žlutý", "kůň", "pěl", "ódy", "a", "Ema", "má", "mísu", "na", "stole"]
LINES = [" ".join(random.Random(n).choices(WORDS, k=4)) + "." for n in range(200)]
TEXT = "\n".join(LINES) + "\n"


def train(path: Path, out: Path, strip: str, steps: int = 6, **settings: Any) -> list[Any]:
    text = settings.pop("text", TextConfig(strip=tuple(strip.split(","))))  # type: ignore[arg-type]
    every = {**SMALL, "steps": steps} | settings
    return list(api.train(path, out=out, text=text, task="restore", **every))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text, and a model that has learned it."""
    path = tmp_path_factory.mktemp("restore")
    (path / "text.txt").write_text(TEXT, encoding="utf-8")
    words = ("--steps", 200, "--hidden-size", 16, "--num-layers", 1, "--embedding-size", 8, "--dropout", 0)
    done = call(
        "train", "text.txt", "--task", "restore", "--strip", "diacritics,case", "--strip", "punctuation",
        "-o", "m.safetensors", *words, "--batch-size", 8, "--seq-len", 64, "--lr", 0.02, "-q", cwd=path,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")
    return path


def restore(folder: Path, text: bytes, *words: object) -> bytes:
    done = call("restore", "-m", folder / "m.safetensors", *words, stdin=text)
    assert done.returncode == 0, done.stderr
    return done.stdout


STRIPPED = b"zluty kun pel ody\nema ma misu\n"


def test_a_model_puts_back_what_its_text_taught_it(folder: Path) -> None:
    assert restore(folder, STRIPPED).decode() == "Žlutý kůň pěl ódy.\nEma má mísu.\n"
    assert api.load(folder / "m.safetensors").text.strip == ("diacritics", "case", "punctuation")


def test_eval_says_how_much_comes_out_right(folder: Path) -> None:
    m = folder / "m.safetensors", folder / "text.txt"
    found = json.loads(call("eval", *m, "--json").stdout)
    assert found["word_accuracy"] > 0.95
    assert found["words"] == len(TEXT.split())
    changed = [
        word for word in TEXT.split() if word.strip(".").isascii() and word.islower() and "." not in word
    ]
    assert found["changed_words"] == found["words"] - len(changed)
    assert {"diacritics_f1", "case_f1", "punctuation_f1", "loss", "accuracy"} <= found.keys()
    said = call("eval", *m).stdout.decode()
    assert f"of {found['words']:,} words are right" in said
    assert "diacritics: F1" in said


def test_eval_counts_what_is_wrong_as_wrong(folder: Path, tmp_path: Path) -> None:
    """On a text that nobody could restore: words without their marks, in one of two that are the same."""
    (tmp_path / "odd.txt").write_text("kůň kun má\nkůň KUN má\n", encoding="utf-8")
    found = json.loads(call("eval", folder / "m.safetensors", tmp_path / "odd.txt", "--json").stdout)
    assert (found["words"], found["changed_words"], found["characters"]) == (6, 5, 22)
    restored = restore(folder, b"kun kun ma\nkun kun ma\n").decode().split()
    right = sum(a == b for a, b in zip(restored, ["kůň", "kun", "má", "kůň", "KUN", "má"], strict=True))
    assert found["word_accuracy"] == pytest.approx(right / 6)
    assert 0 < right < 6


def test_what_a_text_has_is_kept_and_redo_chooses_anew(folder: Path) -> None:
    assert restore(folder, "kúň MA\n".encode()).decode().startswith("kúň M")
    assert restore(folder, "zlúty kún, pel odý\n".encode(), "--redo").decode() == "Žlutý kůň pěl ódy.\n"


def test_line_ends_unknown_characters_and_bytes_that_are_no_text_pass_through(folder: Path) -> None:
    text = b"kun\r\n\n\xff\xfe kun \xe2\x98\x83\xf0\x9f\x99\x82\r\nema ma"
    found = restore(folder, text)
    assert found.count(b"\r\n") == 2
    assert b"\n\n\xff\xfe k" in found
    assert "☃🙂".encode() in found
    assert not found.endswith(b"\n")
    assert restore(folder, b"") == b""
    assert restore(folder, b"\n\n") == b"\n\n"


def test_nuls_separate_texts(folder: Path) -> None:
    found = restore(folder, b"kun\nma\0misu\0", "-0")
    assert found.count(b"\0") == 2
    assert found.replace(b"\0", b"\n") == restore(folder, b"kun\nma\n").replace(b"\n", b"\n", 1) + restore(
        folder, b"misu\n"
    )


def test_another_encoding_is_read(folder: Path) -> None:
    latin = "kúň ma\n".encode("iso-8859-2")
    assert restore(folder, latin, "--encoding", "iso-8859-2") == restore(folder, "kúň ma\n".encode())


def test_json_says_how_sure_the_model_is(folder: Path) -> None:
    lines = [json.loads(line) for line in restore(folder, STRIPPED + b"\xff\n", "--json").splitlines()]
    assert [line["number"] for line in lines] == [1, 2, 3]
    assert lines[0]["text"] == "Žlutý kůň pěl ódy."
    assert 0.5 < lines[0]["confidence"] <= 1
    assert all("continues" not in line for line in lines)


def test_a_long_line_comes_in_parts_that_its_end_does_not_delay(folder: Path) -> None:
    text = "zluty kun pel ody " * 200
    parts = [json.loads(line) for line in restore(folder, text.encode(), "--json").splitlines()]
    assert len(parts) == -(-(len(text) - BESIDE) // INNER)
    assert [part.get("continues", False) for part in parts] == [True] * (len(parts) - 1) + [False]
    whole = restore(folder, text.encode()).decode()
    assert "".join(part["text"] for part in parts) == whole
    # What is cut is restored like what is not.
    words = whole.split()
    assert np.mean([word.startswith(right) for word, right in zip(words, WORDS[:4] * 200, strict=True)]) > 0.9


def test_parts_of_a_line_are_written_before_more_is_read(folder: Path) -> None:
    restorer = Restorer(api.load(folder / "m.safetensors"), threads=1)
    most = 0

    def endless() -> Any:
        for _ in range(30):
            yield "f", "zluty kun " * 100
            assert sum(written) > most - 2 * INNER

    written: list[int] = []
    for lines in restorer.lines(endless()):
        written += [len(line.text) for line in lines]
        most += 1000
    assert sum(written) > 28_000


def test_a_line_is_answered_before_the_next_one_is_there(folder: Path) -> None:
    words = command("restore", "-m", folder / "m.safetensors")
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment(), bufsize=0
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for line in ("kun\n", "misu\n"):
            process.stdin.write(line.encode())
            assert os.read(process.stdout.fileno(), 100).endswith(b"\n")
        process.stdin.close()
        assert process.wait() == 0


def test_lines_depend_on_those_before_but_records_do_not(folder: Path) -> None:
    """A model of lines restores each by itself; one of running text reads on."""
    model = api.load(folder / "m.safetensors")
    alone = Checkpoint(
        model.config, model.vocabulary, TextConfig(strip=model.text.strip, lines=True), model.tensors,
        columns=model.columns,
    )  # fmt: skip

    def confidence(checkpoint: Checkpoint, before: str) -> float:
        lines = list(Restorer(checkpoint, threads=1).lines([("", before + "kun pel"), ("", None)]))
        return lines[-1][-1].confidence

    assert confidence(alone, "") == pytest.approx(confidence(alone, "ema ma misu\n"), rel=1e-6)
    assert confidence(model, "") != pytest.approx(confidence(model, "ema ma misu\n"), rel=1e-6)


# What is learned from


def test_labels_are_operations_that_make_the_text_of_its_sources(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("Ó, é.\né é, Ó.\n" * 3, encoding="utf-8")
    corpus = stripped(read([tmp_path / "t.txt"], TextConfig(strip=("diacritics", "case", "punctuation"))))
    (column,) = corpus.columns
    assert column.labels == ("=", "=\u0301", "=\u0301|,", "=\u0301|.", "^\u0301|,", "^\u0301|.")
    assert corpus.vocabulary.decode(corpus.documents.ids) == "\no e\ne e o" * 3
    labelling = corpus.documents.labels
    assert labelling is not None
    found = [column.labels[n] for n in labelling.at(np.arange(5))[:, 0]]
    assert found == ["=", "^\u0301|,", "=", "=\u0301|.", "="]


@pytest.mark.parametrize("config", [{}, {"lines": True}, {"split": "%"}])
def test_pieces_begin_at_line_ends_and_are_the_text(tmp_path: Path, config: dict[str, Any]) -> None:
    texts = ["ab cd", "é" * 70, "x y", "é."]
    (tmp_path / "t.txt").write_text(("\n%\n" if "split" in config else "\n").join(texts * 2) + "\n", "utf-8")
    text = TextConfig(strip=("diacritics",), **config)
    corpus = stripped(read([tmp_path / "t.txt"], text))
    pieces = Pieces.of(corpus, 32)
    found = [corpus.vocabulary.decode(pieces.texts.row(r)) for r in range(len(pieces.texts))]
    assert "".join(found) == "".join("\n" + one.replace("é", "e") for one in texts * 2)
    assert max(map(len, found)) <= 32
    assert min(map(len, found)) >= 3
    assert sum(not piece.startswith("\n") for piece in found) == 4  # of the long line
    if config:
        assert all(piece.count("\n") <= 1 for piece in found)
        assert len(set(pieces.groups().tolist())) == len(texts)  # equal records are held out together


def test_the_cuts_of_a_long_line_are_even() -> None:
    assert cuts(np.array([0]), np.array([0]), 100, 32).tolist() == [0, 25, 50, 75]
    assert cuts(np.array([0, 40]), np.array([0, 40]), 50, 32).tolist() == [0, 20, 40]


def test_a_text_is_stripped_in_chunks_as_it_is_in_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "t.txt").write_text("Ó, é.\n" * 40 + "é" * 90 + "\n" + "ú a\n", encoding="utf-8")
    text = TextConfig(strip=("diacritics", "case", "punctuation"))
    whole = stripped(read([tmp_path / "t.txt"], text))
    monkeypatch.setattr(learning, "CHUNK", 32)
    assert stripped(read([tmp_path / "t.txt"], text)).fingerprint() == whole.fingerprint()


# Runs


def test_training_learns_the_same_on_any_number_of_threads_and_goes_on_bit_for_bit(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("charrnn.training.run.REPORT_SECONDS", 0.0)
    text, names = folder / "text.txt", [tmp_path / f"{n}.safetensors" for n in range(3)]
    train(text, names[0], "case,spaces", 8)
    train(text, names[1], "case,spaces", 8, threads=2)
    settings = {**SMALL, "steps": 8, "text": TextConfig(strip=("case", "spaces")), "task": "restore"}
    asked: list[bool] = []
    for event in api.train(text, out=names[2], stop=lambda: "SIGINT" if asked else None, **settings):
        if isinstance(event, Step) and event.step >= 3:
            asked.append(True)
    done = call("train", text, "--task", "restore", "--resume", "-q", "-o", names[2])
    assert done.returncode == 0, done.stderr
    assert names[0].read_bytes() == names[1].read_bytes() == names[2].read_bytes()


def test_a_complete_run_is_resumed_by_what_its_file_says_it_restores(folder: Path, tmp_path: Path) -> None:
    text, out = folder / "text.txt", tmp_path / "m.safetensors"
    train(text, out, "case,spaces")
    before = out.read_bytes()
    again = list(api.train(text, out=out, task="restore", resume=True, **SMALL, steps=6))
    assert again[0].resumed_step == 6
    assert out.read_bytes() == before
    done = call("train", text, "--task", "restore", "--resume", "--steps", 7, "-o", out)
    assert done.returncode == 1
    assert b"the run that wrote" in done.stderr
    assert b"is complete" in done.stderr


def test_a_model_goes_on_with_more_text(folder: Path, tmp_path: Path) -> None:
    """Of its characters and operations it forgets none, and learns new ones."""
    (tmp_path / "more.txt").write_text("Řeka plyne, kůň pije; Ř!\n" * 60, encoding="utf-8")
    train(tmp_path / "more.txt", tmp_path / "m.safetensors", "diacritics,case,punctuation", 3,
          init_from=folder / "m.safetensors", **dict.fromkeys(
              ("hidden_size", "num_layers", "embedding_size"), None))  # fmt: skip
    before, after = api.load(folder / "m.safetensors"), api.load(tmp_path / "m.safetensors")
    assert set(after.vocabulary.characters) > set(before.vocabulary.characters)
    assert set(after.columns[0].labels) > set(before.columns[0].labels)
    place = after.columns[0].labels.index("=\u0301")
    old = before.tensors["decoder.weight"][before.columns[0].labels.index("=\u0301")]
    assert np.abs(after.tensors["decoder.weight"][place] - old).max() < 0.2


def test_a_model_that_writes_begins_one_that_restores(folder: Path, tmp_path: Path) -> None:
    small = {**SMALL, "steps": 3, "out": tmp_path / "w.safetensors"}
    list(api.train(folder / "text.txt", **small))
    network = dict.fromkeys(("hidden_size", "num_layers", "embedding_size"), None)
    events = train(
        folder / "text.txt", tmp_path / "m.safetensors", "diacritics", 1, **network,
        init_from=tmp_path / "w.safetensors", learning_rate=1e-12,
    )  # fmt: skip
    before, after = api.load(tmp_path / "w.safetensors"), api.load(tmp_path / "m.safetensors")
    for way in ("", "_reverse"):
        np.testing.assert_allclose(
            after.tensors[f"rnn.weight_hh_l0{way}"], before.tensors["rnn.weight_hh_l0"], atol=1e-6
        )
    assert any(isinstance(event, Started) for event in events)


def test_another_text_is_for_validation(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "val.txt").write_text(TEXT[:400] + "Ůů ňŇ\n", encoding="utf-8")
    events = train(folder / "text.txt", tmp_path / "m.safetensors", "diacritics", val=tmp_path / "val.txt")
    started = next(event for event in events if isinstance(event, Started))
    assert started.val_characters == len(TEXT[:400] + "Ůů ňŇ\n")
    evaluated = [event for event in events if isinstance(event, Evaluated)]
    assert all(0 < event.accuracy < 1 for event in evaluated)


@pytest.mark.parametrize(
    ("text", "strip", "said"),
    [
        ("no accents at all\n" * 9, "diacritics", "has no letter with a diacritic"),
        ("ALL CAPITALS\n" * 9, "case", "has no letters in both cases"),
        ("all small\n" * 9, "case", "has no letters in both cases"),
        ("nospace\n" * 9, "spaces", "has no spaces"),
        ("no points\n" * 9, "case,punctuation", "has no letters in both cases"),
        ("No points\n" * 9, "case,punctuation", "has no punctuation"),
        ("", "case", "is empty"),
    ],
)
def test_a_text_that_teaches_nothing_is_refused(tmp_path: Path, text: str, strip: str, said: str) -> None:
    (tmp_path / "t.txt").write_text(text)
    done = call(
        "train", tmp_path / "t.txt", "--task", "restore", "--strip", strip, "-o", tmp_path / "m", "-q"
    )
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.count(b"\n") == 1
    assert said in done.stderr.decode()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--task", "restore"], "give --strip with some of diacritics, case, spaces, punctuation"),
        (["--strip", "case"], "--strip says what --task restore puts back"),
        (["--task", "restore", "--strip", "cases"], "strip is 'cases'"),
        (["--task", "restore", "--strip", "case", "--bytes"], "--bytes and --strip contradict"),
        (["--task", "restore", "--strip", "case", "--lowercase"], "--lowercase and --strip contradict"),
    ],
)
def test_contradictions_are_named(folder: Path, words: list[str], said: str) -> None:
    done = call("train", folder / "text.txt", "-o", folder / "none", *words)
    assert done.returncode == 2
    assert said in done.stderr.decode().splitlines()[0]


def test_a_run_with_other_things_to_strip_is_another_run(folder: Path, tmp_path: Path) -> None:
    train(folder / "text.txt", tmp_path / "m.safetensors", "case")
    with pytest.raises(CharrnnError, match="holds another model"):
        train(folder / "text.txt", tmp_path / "m.safetensors", "diacritics")


def test_the_file_says_what_it_restores(folder: Path, tmp_path: Path) -> None:
    model = api.load(folder / "m.safetensors")
    assert model.text.to_dict()["strip"] == ("diacritics", "case", "punctuation")
    model_file.save(model, tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == (folder / "m.safetensors").read_bytes()
    assert "strip" not in TextConfig().to_dict()
    assert b"diacritics, case, punctuation" in call("info", folder / "m.safetensors").stdout
    with pytest.raises(ConfigError, match="strip is 'x'"):
        TextConfig(strip=("x",))  # type: ignore[arg-type]


def test_a_file_whose_labels_are_no_operations_changes_nothing() -> None:
    from support.readers import reader

    model = reader("restorer", "\n ab", ("a", "b"))
    model = Checkpoint(
        model.config, Vocabulary("\n ab"), TextConfig(strip=("diacritics",)), model.tensors,
        columns=(Column("", ("a", "b"), (1, 1)),),
    )  # fmt: skip
    assert Restorer(model, threads=1).restore("ab é\n") == "ab é\n"


def test_pytorch_reads_restorers_as_their_page_says() -> None:
    """What its lines computed when PyTorch ran them (record_readme.py) are our logits."""
    recorded = np.load(record_readme.OF_RESTORERS)
    again = "run tests/record_readme.py"
    code = record_readme.code(record_readme.RESTORING)
    assert str(recorded["code"]) == hashlib.sha256(code.encode()).hexdigest(), again
    assert f"PyTorch {recorded['torch']}" in record_readme.RESTORING.read_text("utf-8")
    for name, model in record_readme.restorers():
        assert record_readme.digest(model) == str(recorded[f"file/{name}"]), again
        ids = model.vocabulary.encode("\nport").astype(np.int32)[:, None]
        logits = Restorer(model, threads=1).reader.forward(ids, np.array([len(ids)]))
        np.testing.assert_allclose(logits[:, 0], recorded[f"logits/{name}"], rtol=0, atol=1e-5, err_msg=name)
