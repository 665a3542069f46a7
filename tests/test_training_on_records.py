"""Training on records and on cleaned texts: what is said, what is stored, and how runs go on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.calls import call

from charrnn import api
from charrnn.checkpoint import model_file
from charrnn.config import END, TextConfig
from charrnn.errors import TrainingError
from charrnn.events import Started, Step
from charrnn.nn.network import Model
from charrnn.vocabulary import RARE

SMALL = {"hidden_size": 8, "num_layers": 1, "batch_size": 4, "seq_len": 10, "dropout": 0.0, "seed": 3}
OPTIONS = (
    "--hidden-size", 8, "--num-layers", 1, "--batch-size", 4, "--seq-len", 10, "--dropout", 0, "--steps", 6,
)  # fmt: skip
TEXTS = [f"verse {n % 7}\nof {'la' * (n % 5)} song {n}" for n in range(60)]
SEPARATORS = {"%": "\n%\n", "nul": "\0", "blank": "\n\n"}


@pytest.fixture(autouse=True)
def report_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("charrnn.training.run.REPORT_SECONDS", 0.0)


@pytest.fixture
def songs(tmp_path: Path) -> Path:
    path = tmp_path / "songs.txt"
    path.write_text("\n%\n".join(TEXTS) + "\n%\n")
    return path


def train(corpus: object, out: Path, split: str | None = "%", **settings: Any) -> Started:
    text = settings.pop("text", TextConfig(split=split))
    events = list(api.train(corpus, out=out, text=text, **{**SMALL, "steps": 6} | settings))  # type: ignore[arg-type]
    started = next(event for event in events if isinstance(event, Started))
    return started


def interrupted(corpus: Path, out: Path, step: int, **settings: Any) -> None:
    """A run that stops after this step."""
    asked: list[bool] = []
    for event in api.train(corpus, out=out, stop=lambda: "SIGINT" if asked else None, **settings):
        if isinstance(event, Step) and event.step >= step:
            asked.append(True)


def weights(path: Path) -> bytes:
    return b"".join(tensor.tobytes() for tensor in model_file.load(path).tensors.values())


def test_the_same_records_give_the_same_weights_whatever_separates_them(tmp_path: Path) -> None:
    found = set()
    for n, (what, separator) in enumerate(SEPARATORS.items()):
        path, out = tmp_path / f"{n}.txt", tmp_path / f"{n}.safetensors"
        path.write_text("".join(text + separator for text in TEXTS))
        train(path, out, what)
        found.add(weights(out))
    files = tmp_path / "files"
    files.mkdir()
    for n, text in enumerate(TEXTS):
        (files / f"{n:03}").write_text(text + "\n")
    train(files, tmp_path / "files.safetensors", "file")
    found.add(weights(tmp_path / "files.safetensors"))
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"song": text}) + "\n" for text in TEXTS))
    train(rows, tmp_path / "rows.safetensors", text=TextConfig(field="song"))
    found.add(weights(tmp_path / "rows.safetensors"))
    assert len(found) == 1


def test_split_line_gives_the_bytes_of_lines(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("".join(f"name {n}\n" for n in range(99)))
    for name, how in (("a", ("--lines",)), ("b", ("--split", "line"))):
        result = call("train", "names.txt", *how, *OPTIONS, "-q", "-o", f"{name}.safetensors", cwd=tmp_path)
        assert result.returncode == 0
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_a_model_file_says_how_texts_end(songs: Path, tmp_path: Path) -> None:
    out = tmp_path / "m.safetensors"
    started = train(songs, out)
    model = model_file.load(out)
    assert model.text.split == "%"
    assert model.vocabulary.characters.endswith(END)
    assert model.config.outputs == model.config.vocab_size + 1 == len(model.vocabulary)
    assert started.different == model.config.vocab_size
    assert started.val_characters > 0
    table = call("info", out).stdout.decode()
    assert "utf-8, texts between lines '%'\n" in table
    record = json.loads(call("info", out, "--json").stdout)
    assert record["text"]["split"] == "%"
    assert END not in record["vocabulary"]


@pytest.mark.parametrize(
    ("split", "said"),
    [
        ("blank", "texts between empty lines"),
        ("nul", "texts between NUL characters"),
        ("file", "every file a text of its own"),
    ],
)
def test_info_says_what_separates_texts(songs: Path, tmp_path: Path, split: str, said: str) -> None:
    songs.write_text(SEPARATORS.get(split, "\n").join(TEXTS))
    train(songs, tmp_path / "m.safetensors", split, steps=1)
    assert said in call("info", tmp_path / "m.safetensors").stdout.decode()


def test_what_was_read_is_said_in_records(songs: Path) -> None:
    result = call("train", songs, "--split", "%", *OPTIONS, "-o", "m.safetensors", cwd=songs.parent)
    assert b"text      songs: 60 records of 1,430 characters, " in result.stderr
    assert result.returncode == 0


def test_one_record_has_no_validation_which_is_said(tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_text("only one text\n" * 50)
    result = call("train", "one.txt", "--split", "file", *OPTIONS, "-o", "m.safetensors", cwd=tmp_path)
    assert result.returncode == 0
    assert b"one: 1 record of 700 characters, " in result.stderr
    assert result.stderr.count(b"note: ") == 1
    assert b"note: there is a single text, so none can be kept for validation" in result.stderr


def test_a_separator_that_never_occurs_is_one_line_of_error(songs: Path) -> None:
    result = call("train", songs, "--split", "%%", *OPTIONS, cwd=songs.parent)
    assert result.returncode == 1
    assert result.stderr == (
        b"charrnn: error: there is no line '%%' to separate texts: lines that look like one, and how often: "
        b"'%' (60)\n"
    )


@pytest.mark.parametrize(
    "options",
    [
        ("--lines", "--split", "%"), ("--max-chars", 3), ("--bytes", "--nfc"), ("--bytes", "--lowercase"),
        ("--bytes", "--field", "x"), ("--min-count", 0), ("--split", ""),
    ],
)  # fmt: skip
def test_contradictions_are_wrong_usage(songs: Path, options: tuple[object, ...]) -> None:
    result = call("train", songs, *options, *OPTIONS, cwd=songs.parent)
    assert result.returncode == 2
    assert result.stderr.startswith(b"charrnn: error: ")


@pytest.mark.parametrize(
    "text",
    [
        TextConfig(split="%"),
        TextConfig(split="%", lowercase=True, normal_form="NFC", min_count=5, max_chars=20),
        TextConfig(min_count=40),
    ],
    ids=["records", "cleaned", "prose"],
)
def test_a_resumed_run_is_bit_for_bit_the_uninterrupted_one(
    songs: Path, tmp_path: Path, text: TextConfig
) -> None:
    songs.write_text(songs.read_text() + "Cafe\u0301, Öl\n%\n" * 9)
    settings = {**SMALL, "steps": 12, "evaluations": 3, "text": text}
    straight, out = tmp_path / "straight.safetensors", tmp_path / "out.safetensors"
    list(api.train(songs, out=straight, **settings))
    for step in (1, 4, 11):
        interrupted(songs, out, step, **settings)
        again = {"text": text} if step > 1 else {}
        list(api.train(songs, out=out, resume=True, **again))
        assert out.read_bytes() == straight.read_bytes()
        out.unlink()


def test_another_separator_is_another_run(songs: Path, tmp_path: Path) -> None:
    out = tmp_path / "m.safetensors"
    songs.write_text("a\n%\nb\n\nc\n%\nd\n" * 20)
    for n, what in enumerate(("%", "blank")):
        list(
            api.train(songs, out=tmp_path / f"{n}.safetensors", text=TextConfig(split=what), steps=1, **SMALL)
        )
    runs = {model_file.load(tmp_path / f"{n}.safetensors").run for n in range(2)}
    assert len(runs) == 2
    interrupted(songs, out, 1, text=TextConfig(split="%"), steps=9, **SMALL)
    songs.write_text("a\n%\nb\n\nc\n%\n" * 20)
    with pytest.raises(TrainingError, match="the corpus is not the one"):
        list(api.train(songs, out=out, resume=True))


@pytest.mark.parametrize("embedding_size", [0, 8])
@pytest.mark.parametrize(("before", "after"), [(None, "%"), ("%", None), ("line", "%"), ("%", "blank")])
def test_a_model_of_other_texts_begins_a_run(
    songs: Path, tmp_path: Path, before: str | None, after: str | None, embedding_size: int
) -> None:
    songs.write_text("\n%\n".join(TEXTS) + "\n\n")
    base, out = tmp_path / "base.safetensors", tmp_path / "out.safetensors"
    train(songs, base, before, embedding_size=embedding_size)
    settings = {"init_from": base, "steps": 1, "learning_rate": 1e-12, "batch_size": 4, "seq_len": 10}
    list(api.train(songs, out=out, text=TextConfig(split=after), **settings))
    old, new = model_file.load(base), model_file.load(out)
    assert new.config.ends == (after not in (None, "line"))
    characters = old.vocabulary.characters[: old.config.vocab_size]
    assert set(characters) <= set(new.vocabulary.characters)
    logits = []
    for model in (old, new):
        network = Model(model.config)
        network.load_tensors(model.tensors)
        x = model.vocabulary.encode("verse").astype(np.int32)[:, None]
        logits.append(network.forward(x)[0][:, 0, model.vocabulary.encode(characters)])
    np.testing.assert_allclose(*logits, atol=1e-4)


def test_a_text_for_validation_is_cut_and_cleaned_alike(songs: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.txt"
    other.write_text("Verse 1\n%\nOF § la\n%\n" * 9)
    out = tmp_path / "m.safetensors"
    started = train(songs, out, text=TextConfig(split="%", lowercase=True, min_count=8), val=[other])
    assert started.validation is not None
    assert started.validation.records() == 18
    ids = started.validation.documents.ids
    assert started.validation.vocabulary.decode(ids).startswith(f"verse 1{END}of {RARE} la{END}")
    assert model_file.load(out).vocabulary.rare
    # Without an unknown character in the corpus, the validation text's own are new ones.
    started = train(
        songs, tmp_path / "n.safetensors", text=TextConfig(split="%", lowercase=True), val=[other]
    )
    assert "§" in started.corpus.vocabulary


def test_the_index_holds_whole_records(songs: Path, tmp_path: Path) -> None:
    out = tmp_path / "m.safetensors"
    train(songs, out)
    novelty = model_file.load(out).novelty
    assert novelty is not None
    assert all(novelty.has_line(text) for text in TEXTS)
    assert not any(novelty.has_line(text.split("\n")[0]) for text in TEXTS)
    assert not novelty.has_line("")


def samples(path: Path, characters: int, **settings: Any) -> Iterator[str]:
    for seed in range(3):
        yield "".join(next(api.sample(path, length=characters, seed=seed, **settings)))


def test_what_stands_for_rare_characters_is_never_written(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("".join(f"ab{chr(0x4E00 + n)}" for n in range(300)))
    out = tmp_path / "m.safetensors"
    train(tmp_path / "x.txt", out, text=TextConfig(min_count=2), steps=60, learning_rate=0.05)
    model = model_file.load(out)
    assert model.vocabulary.characters == f"ab{RARE}"
    for how in ({}, {"temperature": 50.0}, {"top_k": 3}, {"typical": 0.9}, {"mirostat": 3.0}):
        assert all(set(text) <= set("ab") for text in samples(out, 500, **how))
    assert dict(api.next_characters(model, "ab"))[RARE] == 0
    # It is read: a prompt's unknown characters, and those of a text that is scored.
    assert api.score(model, "ab§ab").tolist() == api.score(model, f"ab{RARE}ab").tolist()
    assert api.score(model, "ab§")[2] < 1
    assert "".join(next(api.sample(model, "ab§", length=5, seed=1, echo=True))).startswith(f"ab{RARE}")


def test_prompts_and_scored_texts_are_cleaned_as_the_corpus_was(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("Café AU lait. " * 60)
    out = tmp_path / "m.safetensors"
    train(tmp_path / "x.txt", out, text=TextConfig(lowercase=True, normal_form="NFC"))
    assert model_file.load(out).text == TextConfig(lowercase=True, normal_form="NFC")
    assert api.score(out, "CAFE\u0301").tolist() == api.score(out, "café").tolist()
    upper, lower = (
        call("score", "-m", out, stdin=text.encode()).stdout for text in ("AU CAFÉ\n", "au café\n")
    )
    assert upper.split(b"\t")[0] == lower.split(b"\t")[0]
    assert b"AU CAF" in upper
    texts = ["".join(next(api.sample(out, prompt, seed=1, length=9))) for prompt in ("LAIT", "lait")]
    assert texts[0] == texts[1]
    assert "in NFC, in lower case" in call("info", out).stdout.decode()
