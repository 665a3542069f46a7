"""Texts as users have them, at every command that reads some: encodings, normal forms, byte order marks."""

from __future__ import annotations

import json
import math
import unicodedata
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.calls import call
from support.model_files import checkpoint

from charrnn import api
from charrnn.checkpoint.model_file import Checkpoint, save
from charrnn.config import TextConfig

ALPHABETS = {
    "cp1252": "\n abcé’“",
    "utf-16": "\n abcé語",
    "gbk": "\n abc从前有",
    "shift_jis": "\n abc日本ア",
    "koi8-r": "\n абвгд",
    "utf-8": "\n abcé🙂",
}


def model(characters: str, **text: Any) -> Checkpoint:
    made = checkpoint(5, "".join(sorted(characters)), hidden_size=8, embedding_size=4)
    made = replace(made, text=TextConfig(**text))
    for name in ("decoder.weight", "decoder.bias"):  # no character is rare: lines end soon
        made.tensors[name] *= 0.3
    return made


def saved(folder: Path, made: Checkpoint, name: str = "m") -> Path:
    path = folder / f"{name}.safetensors"
    save(made, path)
    return path


def said(result: Any, code: int = 0) -> str:
    assert result.returncode == code, result.stderr
    assert b"Traceback" not in result.stderr
    return str(result.stderr.decode())


@pytest.mark.parametrize("encoding", ALPHABETS)
def test_what_a_model_writes_it_reads_as_its_own_whatever_its_corpus_was_stored_in(
    encoding: str, tmp_path: Path
) -> None:
    made = model(ALPHABETS[encoding], encoding=encoding, lines=True)
    m = ("-m", saved(tmp_path, made))
    written = call("sample", *m, "--count", 20, "--seed", 1).stdout
    text = written.decode()
    assert not text.isascii()
    bits = float(api.score(made, text).sum(dtype=float)) / math.log(2)
    scored = call("score", *m, "--total", "--json", stdin=written)
    total = json.loads(scored.stdout)
    assert scored.stderr == b""
    assert (total["unknown"], total["characters"]) == (0, len(text))
    assert total["bits"] == pytest.approx(bits, rel=1e-5)
    evaluated = json.loads(call("eval", m[1], "-", "--json", stdin=written).stdout)
    assert evaluated["bpc"] == pytest.approx(total["bpc"], rel=1e-5)
    line = max(text.splitlines(), key=len)
    for command in (("sample", *m, "--seed", 1), ("next", "-", *m)):
        prompt = ("--prompt", "-") if command[0] == "sample" else ()
        stored = call(*command, *prompt, "--encoding", encoding, stdin=line.encode(encoding))
        assert said(stored) == ""
        assert stored.stdout == call(*command, *prompt, stdin=line.encode()).stdout
    each = [call("sample", *m, "--seed", 1, "--prompts", "-", *option, stdin=text.encode(name)).stdout
            for name, option in (("utf-8", ()), (encoding, ("--encoding", encoding)))]  # fmt: skip
    assert each[0] == each[1] != b""
    options = ("--encoding", encoding)
    assert (
        call("score", *m, *options, stdin=text.encode(encoding)).stdout
        == call("score", *m, stdin=written).stdout
    )
    again = json.loads(call("eval", m[1], "-", "--json", *options, stdin=text.encode(encoding)).stdout)
    assert again == evaluated
    both = (*m, "-m", saved(tmp_path, model("\nab", lines=True), "other"))
    assert (
        call("classify", *both, *options, stdin=text.encode(encoding)).stdout
        == call("classify", *both, stdin=written).stdout
    )


def test_a_model_of_bytes_reads_and_writes_bytes(tmp_path: Path) -> None:
    made = model("".join(map(chr, range(256))), bytes=True)
    m = ("-m", saved(tmp_path, made))
    written = call("sample", *m, "--seed", 1, "-n", 200).stdout
    total = json.loads(call("score", *m, "--total", "--json", stdin=written).stdout)
    assert (total["unknown"], total["characters"]) == (0, len(written))
    for command in (("score", *m), ("sample", *m), ("eval", m[1], "-"), ("next", *m)):
        assert "the model reads bytes" in said(call(*command, "--encoding", "cp1252", stdin=b"a"), 2)


def test_a_file_in_the_encoding_of_the_corpus_is_told_to_be_given_with_it(tmp_path: Path) -> None:
    made = model(ALPHABETS["cp1252"], encoding="cp1252", lines=True)
    path = saved(tmp_path, made)
    text = "abc\nbé a’\n".encode("cp1252")
    for command in (("eval", path, "-"), ("sample", "-m", path, "--prompts", "-"),
                    ("sample", "-m", path, "--prompt", "-"), ("next", "-m", path, "-")):  # fmt: skip
        assert "--encoding cp1252, as that of the model's own text" in said(call(*command, stdin=text), 1)
    for command in (("score", "-m", path), ("classify", "-m", path, "-m", path)):
        result = call(*command, stdin=text * 3)
        (note,) = said(result).splitlines()  # once
        assert note.startswith(
            "note: standard input is not UTF-8 text, as line 2 shows: try --encoding cp1252"
        )
        assert len(result.stdout.splitlines()) == 6
    heat = call("score", "--heat", "-m", path, stdin=text)
    assert "--encoding cp1252" in said(heat)


def test_text_in_utf_16_without_a_mark_is_told_from_text_with_odd_characters(tmp_path: Path) -> None:
    path = saved(tmp_path, model("\n abcdefghijklmnopqrstuvwxyz", lines=True))
    text = "some lines of text\nin an encoding\n".encode("utf-16-le")
    assert "--encoding utf-16-le" in said(call("score", "-m", path, stdin=text))
    assert "--encoding utf-16-le" in said(call("eval", path, "-", stdin=text), 1)


@pytest.mark.parametrize("command", ["train", "eval", "score", "classify", "sample", "next"])
def test_an_encoding_that_is_not_known_is_refused(command: str, tmp_path: Path) -> None:
    path = saved(tmp_path, model("\nab"))
    (tmp_path / "text").write_text("ab")
    args = {
        "train": ("text",), "eval": (path, "text"), "score": ("-m", path, "text"),
        "classify": ("-m", path, "-m", path, "text"), "sample": ("-m", path, "--prompts", "text"),
        "next": ("-m", path, "-"),
    }[command]  # fmt: skip
    result = call(command, *args, "--encoding", "utf-9", cwd=tmp_path, stdin=b"ab")
    assert "the encoding 'utf-9' is not known" in said(result, 2)
    result = call(command, *args, "--encoding-errors", "forget", cwd=tmp_path, stdin=b"ab")
    assert "encoding-errors is 'forget': give one of strict, skip, replace" in said(result, 2)


def test_a_few_bad_bytes_are_skipped_or_replaced_when_asked_and_that_is_said(tmp_path: Path) -> None:
    (tmp_path / "text").write_bytes("naïve café\n".encode() * 50 + b"ab\xffc\n" + "é\n".encode() * 50)
    train = ("train", tmp_path / "text", "--steps", 1, "--hidden-size", 4, "--num-layers", 1)
    failed = said(call(*train, "-o", tmp_path / "a.safetensors"), 1)
    assert "byte offset 652 holds FF (invalid start byte), in line 51: --encoding-errors skip" in failed
    out = tmp_path / "b.safetensors"
    assert "note: 1 place was no UTF-8 text, and left out" in said(
        call(*train, "-o", out, "--encoding-errors", "skip")
    )
    assert api.load(out).text.encoding_errors == "skip"
    assert "1 place was no UTF-8 text, and left out" in said(call("eval", out, tmp_path / "text"))
    assert "is not UTF-8" in said(call("eval", out, tmp_path / "text", "--encoding-errors", "strict"), 1)
    scored = call("score", "-m", out, "--encoding-errors", "replace", stdin=b"a\xffb\n")
    assert scored.stdout.decode().endswith("\ta\ufffdb\n")


# Normal forms


@pytest.fixture
def forms(tmp_path: Path) -> tuple[Path, str, str]:
    """A model of composed characters, and a text in this form and the other."""
    text = "\u1ec7é\n"  # ệ: e and two marks
    made = model("\n abcé\u1ec7", lines=True, normal_form="NFC")
    return saved(tmp_path, made), text, unicodedata.normalize("NFD", text)


@pytest.mark.parametrize(
    ("command", "is_stdin"),
    [
        (("sample", "--seed", "1", "--echo", "--prompt"), False),
        (("sample", "--seed", "1", "--echo", "--prompt", "-"), True),
        (("sample", "--seed", "1", "--echo", "--prompts", "-"), True),
        (("sample", "--seed", "1", "--only"), False),
        (("sample", "--seed", "1", "--match"), False),
        (("sample", "--seed", "1", "--ban"), False),
        (("sample", "--seed", "1", "--until"), False),
        (("enumerate", "-n", "3", "--prompt"), False),
        (("enumerate", "-n", "3", "--match"), False),
        (("next",), False),
        (("next", "-"), True),
        (("score", "--total", "--json"), True),
        (("score", "--heat"), True),
    ],
    ids=str,
)
def test_what_is_given_in_another_form_is_read_in_the_models(
    command: tuple[str, ...], is_stdin: bool, forms: tuple[Path, str, str]
) -> None:
    path, *texts = forms
    composed, decomposed = (
        call(*command, "-m", path, stdin=text.encode())
        if is_stdin
        else call(*command, text.strip(), "-m", path)
        for text in texts
    )
    assert said(composed) == said(decomposed) == ""
    assert composed.stdout == decomposed.stdout != b""


def test_fill_reads_a_pattern_in_the_models_form(forms: tuple[Path, str, str]) -> None:
    path, *texts = forms
    found = [call("fill", f"?{text.strip()}", "-m", path) for text in texts]
    assert found[0].stdout == found[1].stdout != b""


def test_lines_come_out_in_the_form_in_which_they_came(forms: tuple[Path, str, str]) -> None:
    path, composed, decomposed = forms
    first, second = call("score", "-m", path, stdin=(composed + decomposed).encode()).stdout.splitlines()
    assert first.split(b"\t")[0] == second.split(b"\t")[0]
    assert second.split(b"\t")[1].decode() == decomposed.strip()
    both = call("classify", "-m", path, "-m", path, stdin=decomposed.encode())
    assert both.stdout.decode().endswith(f"\t0.5000\t{decomposed}")


def test_eval_says_that_it_brought_a_text_to_the_models_form(forms: tuple[Path, str, str]) -> None:
    path, composed, decomposed = forms
    results = [call("eval", path, "-", stdin=text.encode()) for text in (composed, decomposed)]
    assert results[0].stdout == results[1].stdout != b""
    assert said(results[0]) == ""
    assert said(results[1]) == "note: the text was brought to NFC, the form of the model's own\n"


def test_training_notes_the_form_and_resumes_as_before(tmp_path: Path) -> None:
    text, out = tmp_path / "text", tmp_path / "m.safetensors"
    text.write_text("café\nnaïve\n" * 20, encoding="utf-8")
    train = ("train", text, "-o", out, "--hidden-size", 4, "--num-layers", 1, "--lines", "--steps", 3)
    said(call(*train))
    assert api.load(out).text == TextConfig(lines=True, normal_form="NFC")
    said(call(*train, "--resume"))
    said(call(*train))  # the same command is the same run


def test_marks_that_cat_put_at_the_start_of_lines_are_left_out_and_counted(tmp_path: Path) -> None:
    text, out = tmp_path / "text", tmp_path / "m.safetensors"
    text.write_text("\ufeffabc\n\ufeffcab\n" * 20, encoding="utf-8")
    train = ("train", text, "-o", out, "--hidden-size", 4, "--num-layers", 1, "--steps", 1)
    assert "note: 39 byte order marks were left out at the start of lines" in said(call(*train))
    assert api.load(out).vocabulary.characters == "\nabc"
    plain = text.read_text("utf-8").replace("\ufeff", "")
    assert call("score", "-m", out, text).stdout == call("score", "-m", out, stdin=plain.encode()).stdout
    for prompt in (("--prompts", "-"), ("--prompt", "-")):
        m = ("sample", "-m", out, "--seed", 1, "-n", 9, *prompt)
        assert call(*m, stdin="a\n\ufeffb\n".encode()).stdout == call(*m, stdin=b"a\nb\n").stdout != b""


def test_long_lines_and_pieces_are_read_in_the_models_form(tmp_path: Path) -> None:
    made = model("\n abcé\u1ec7", normal_form="NFC")
    composed = "aéb\u1ec7c " * 3000 + "\n"
    decomposed = unicodedata.normalize("NFD", composed)
    (tmp_path / "c").write_text(composed, encoding="utf-8")
    (tmp_path / "d").write_text(decomposed, encoding="utf-8")
    read = [
        [(piece, bits.tolist()) for _, piece, bits in api.surprises(made, tmp_path / name)] for name in "cd"
    ]
    joined = [("".join(p for p, _ in r), [b for _, bits in r for b in bits]) for r in read]
    assert joined[0][0] == joined[1][0] == composed
    assert joined[0][1] == pytest.approx(joined[1][1])
