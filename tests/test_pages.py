"""Pages: what their script writes is what the command writes, in both precisions, by either kernel."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import random_models
from support.calls import call
from support.cells import CELLS
from support.counted import beside
from support.pages import answers, block, needs_node
from support.toy_models import log_probabilities

from charrnn.checkpoint.model_file import Checkpoint, save
from charrnn.config import TextConfig
from charrnn.errors import CheckpointError, ConfigError
from charrnn.labels import Column
from charrnn.nn import cells
from charrnn.pages.page import embedded, page
from charrnn.vocabulary import RARE, Vocabulary

MODELS = 32
HOSTILE = "\n.</script><!--&\u2028\u2029\u00e9\u0301\U0001f642'\"\\ ab"
CHARACTERS = "".join(sorted(set("\n" + HOSTILE)))


def random_model(number: int) -> Checkpoint:
    """A model of any kind that can be written: number n differs from n + 1 in most respects."""
    random = np.random.default_rng(number)
    cell, nonlinearity = CELLS[number % len(CELLS)]
    H = int(random.integers(1, 40))
    text = [
        TextConfig(), TextConfig(lines=True), TextConfig(split="blank"), TextConfig(split="%"),
        TextConfig(normal_form="NFC", lowercase=True), TextConfig(bytes=True), TextConfig(min_count=2),
    ][number % 7]  # fmt: skip
    characters = CHARACTERS + RARE * (text.min_count > 1)
    if text.bytes:
        characters = "".join(map(chr, [10, 32, *range(97, 110), 0xC3, *range(0xA0, 0xB0), 0xE2, 0x80, 0xFF]))
    if number % 7 == 0 and number % 2:
        characters = characters.replace("\n", "").replace("." * (number % 3 == 0), "")
    columns = (Column("origin", ("a", "b<"), (1, 1)), Column("era", ("1", "2", "3"), (1, 1, 1)))
    columns = columns[: number % 3] if number % 5 == 0 else ()
    model = random_models.make(
        seed=number, scale=float(random.choice([0.5, 1.5, 4.0, 1e25])), text=text,
        characters="".join(sorted(characters)), cell=cell, nonlinearity=nonlinearity, hidden_size=H,
        num_layers=int(random.integers(1, 4)), embedding_size=int(random.choice([0, H, 7])),
        norm=bool(random.integers(2)), residual=bool(random.integers(2)), ends=text.split is not None,
        labels=tuple(len(column.labels) for column in columns),
    )  # fmt: skip
    vocabulary = Vocabulary.of_text("".join(sorted(characters)), text)
    model = replace(model, columns=columns, vocabulary=vocabulary)
    return beside(model, seed=number) if number % 4 == 3 else model


def random_settings(model: Checkpoint, random: np.random.Generator) -> dict[str, Any]:
    """Settings of one text, or of some."""
    known = [c for c in model.characters if c.isprintable() and not model.text.bytes and c != RARE]
    found: dict[str, Any] = {
        "seed": int(random.choice([0, 7, 2**32, 2**63 - 1])), "length": int(random.integers(0, 50)),
    }  # fmt: skip
    if random.random() < 0.5:
        found["prompt"] = "".join(random.choice(known or ["a", "é", "b"], 4))
    if random.random() < 0.3:
        found["prompt"] = found.get("prompt", "") + "\na"
    choices = {
        "temperature": [0, 0.3, 1, 2.5], "top_k": [1, 3, 1000], "top_p": [0.1, 0.7], "min_p": [0.05, 1],
        "count": [1, 3], "index": [2, 10**10],
    }  # fmt: skip
    for name, values in choices.items():
        if random.random() < 0.4:
            found[name] = random.choice(np.array(values)).item()
    if model.columns and random.random() < 0.7:
        found["label"] = {
            c.name: str(random.choice(c.labels)) for c in model.columns if random.random() < 0.8
        }
        if random.random() < 0.5:
            found["strength"] = float(random.choice([0.5, 1.0, 3.0]))
        if not found["label"]:
            del found["label"]
            found.pop("strength", None)
    return found


def command(settings: dict[str, Any]) -> list[str]:
    """The words of `charrnn sample` for them."""
    options = {"temperature": "temp"}
    words = []
    for name, value in settings.items():
        if name == "label":
            for column, label in value.items():
                words += ["--label", f"{column}={json.dumps(label)}"]
        else:
            words += [f"--{options.get(name, name).replace('_', '-')}", str(value)]
    return words


def written(asked: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Requests for these texts, with the seed as JavaScript's numbers cannot hold it."""
    return [{"kind": "write", "options": {**one, "seed": str(one["seed"])}} for one in asked]


def of_command(path: Path, *words: str) -> tuple[str, bool]:
    """What the command writes, and whether it refuses the prompt."""
    result = call("sample", "-m", path, *words)
    assert not result.returncode or b"the model has never seen" in result.stderr, result
    return result.stdout.decode("utf-8", "replace"), bool(result.returncode)


@needs_node
def test_a_page_writes_byte_for_byte_what_the_command_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pages, expected = [], []
    for number in range(MODELS):
        model, random = random_model(number), np.random.default_rng(1000 + number)
        precision = ("bfloat16", "float32")[number % 2]
        path = tmp_path / f"{number}.safetensors"
        save(model, path)
        (tmp_path / f"{number}.html").write_text(page(model, "m", precision=precision), "utf-8")
        asked = [random_settings(model, random) for _ in range(3)]
        pages.append((tmp_path / f"{number}.html", number % 3 == 0, written(asked)))
        expected.append([of_command(path, "--precision", precision, *command(one)) for one in asked])
    found = answers(pages)
    assert {one["kernels"] for one in found} == {"WebAssembly", "plain JavaScript"}
    for number, (one, texts) in enumerate(zip(found, expected, strict=True)):
        told = [(answer["text"], "problem" in answer) for answer in one["answers"]]
        assert told == texts, (number, pages[number][2], one)


@needs_node
def test_bits_and_expectations_are_those_of_the_model(tmp_path: Path) -> None:
    model = random_models.make(text=TextConfig(lines=True))
    path, text = tmp_path / "m.html", "ab\ncx\n"
    path.write_text(page(model, "m", precision="float32"), "utf-8")
    (one,) = answers([(path, False, [{"kind": "read", "options": {"text": text}}])])
    places = one["answers"][0]["found"]
    bits = naive_bits(model, "ab\n") + naive_bits(model, "c")
    assert [place["character"] for place in places] == list(text)
    assert [place["bits"] for place in places[:4]] == pytest.approx(bits, abs=1e-4)
    assert places[4]["bits"] == 32, "the model does not know an x"
    for place in places[:4]:
        chances = [p for _, p in place["next"]]
        assert len(chances) == 8
        assert chances == sorted(chances, reverse=True)
    known = {character: -np.log2(p) for character, p in places[0]["next"]}
    assert places[0]["bits"] == pytest.approx(known.get("a", places[0]["bits"]))


def naive_bits(model: Checkpoint, line: str) -> list[float]:
    """The bits of a line's characters, by the reference."""
    table = log_probabilities(model, "", line)
    ids = model.vocabulary.encode(line).tolist()
    return [-table[n, i] / np.log(2) for n, i in enumerate(ids)]


@needs_node
def test_what_was_expected_is_told_of_each_character_that_is_written(tmp_path: Path) -> None:
    path = tmp_path / "m.html"
    path.write_text(page(random_models.make(), "m", precision="float32"), "utf-8")
    request = {"kind": "write", "options": {"seed": 3, "length": 20}}
    (one,) = answers([(path, False, [{**request, "places": True}, request])])
    told, plain = one["answers"]
    assert told["text"] == plain["text"]
    assert "".join(place["character"] for place in told["places"]) == told["text"].removesuffix("\n")
    assert plain["places"] == []


@needs_node
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": -1}, "temperature is -1: give a number from 0 to 1000000"),
        ({"top_k": 1.5}, "top_k is 1.5: give a whole number from 0 to 1114112"),
        ({"seed": "x"}, "seed is x: give a whole number from 0 to 9223372036854775807"),
        ({"until": "."}, "there is no setting until"),
        ({"label": "Greek"}, "the model has no labels"),
        ({"prompt": "ax"}, 'the model has never seen the character "x" (U+0078), at position 1'),
    ],
)
def test_a_setting_that_cannot_be_is_refused_by_name(
    tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    path = tmp_path / "m.html"
    path.write_text(page(random_models.make(), "m"), "utf-8")
    (one,) = answers([(path, False, [{"kind": "write", "options": settings}])])
    assert one["answers"][0]["problem"] == message


def inflated(html: str, name: str) -> bytes:
    """What is packed in the element of this id."""
    return zlib.decompress(base64.b64decode(block(html, name)))


def test_nothing_in_a_model_leaves_its_string() -> None:
    model = random_models.make(characters=CHARACTERS, labels=(1,))
    model = replace(model, columns=(Column("</script>\u2028", ("<!--\ud800",), (1,)),))
    html = page(model, "</title><script>alert(1)</script>")
    plain = page(random_models.make(), "m")
    for mark in ("<script", "</script", "<!--"):
        assert html.count(mark) == plain.count(mark)
    data = block(html, "data")
    assert data.isascii()
    assert not {"<", ">", "&"} & set(data)
    assert json.loads(data)["model"]["characters"] == CHARACTERS
    assert json.loads(data)["model"]["columns"] == [{"name": "</script>\u2028", "labels": ["<!--\ud800"]}]
    assert json.loads(embedded("\u2028\ud800</script>")) == "\u2028\ud800</script>"


def test_the_policy_names_the_pages_own_script_and_style_and_lets_nothing_in() -> None:
    html = page(random_models.make(), "m")
    (rules,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', html)
    (script,) = re.findall(r"<script>(.*?)</script>", html, re.S)
    (style,) = re.findall(r"<style>(.*?)</style>", html, re.S)
    digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (script, style)]
    assert rules.split("; ") == [
        "default-src 'none'", f"script-src 'sha256-{digests[0]}' 'wasm-unsafe-eval'",
        f"style-src 'sha256-{digests[1]}'", "worker-src blob:", "img-src data:", "base-uri 'none'",
        "form-action 'none'",
    ]  # fmt: skip
    assert not re.search(r"https?:|\bon\w+=|style=", html.replace("aria-live", "").split("<script>")[0])
    code = script + inflated(html, "worker").decode()
    for way in (
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "fetch(",
        "import(",
    ):
        assert way not in code, way


def test_a_page_takes_little_beside_its_weights() -> None:
    html = page(random_models.make(), "m")
    assert len(html.encode()) - len(block(html, "weights")) < 40_000
    assert len(inflated(html, "kernel")) <= 8192


def test_bfloat16_halves_what_a_character_reads() -> None:
    model = random_models.make(hidden_size=64, embedding_size=8)
    sizes = [len(block(page(model, "m", precision=p), "weights")) for p in ("float32", "bfloat16")]
    assert sizes[1] < 0.7 * sizes[0]


def test_counts_go_into_a_page_whole_or_not_at_all() -> None:
    model = beside(random_models.make())
    size = model.counts.counts.nbytes / 1e6
    assert json.loads(block(page(model, "m", most_counts=size), "data"))["note"] == ""
    with pytest.raises(ConfigError, match=r"counts take 1 MB, and the page 0\.0001 MB"):
        page(model, "m", most_counts=0.0001)
    told = json.loads(block(page(model, "m", most_counts=0), "data"))
    assert "leaves out the model's counts" in told["note"]
    assert told["model"]["counts"] is None


def test_a_model_that_does_not_write_has_no_page() -> None:
    model = random_models.make(kind="filler")
    with pytest.raises(CheckpointError, match="fill"):
        page(model, "m")


def test_the_command_writes_the_page_and_says_where(tmp_path: Path) -> None:
    save(beside(random_models.make()), tmp_path / "tales.safetensors")
    result = call("export", "page", "-m", "tales.safetensors", "-o", "tales.html", cwd=tmp_path)
    html = (tmp_path / "tales.html").read_text("utf-8")
    assert result.stderr.decode() == f"{len(html.encode()):,} bytes in tales.html: open it in a browser\n"
    assert json.loads(block(html, "data"))["name"] == "tales"
    without = call("export", "page", "-m", "tales.safetensors", "--counts", 0, cwd=tmp_path)
    assert b"leaves out the model's counts" in without.stderr
    assert without.stdout.startswith(b"<!doctype html>")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--precision", "int8"], "precision is 'int8': give one of float32, bfloat16"),
        (["--counts", "-1"], "counts is -1: give megabytes from 0 to 1000"),
        (["-o", "tales.safetensors"], "tales.safetensors is the model, which would be lost"),
    ],
)
def test_what_the_command_cannot_do_it_says_in_a_line(tmp_path: Path, words: list[str], message: str) -> None:
    save(random_models.make(), tmp_path / "tales.safetensors")
    result = call("export", "page", "-m", "tales.safetensors", *words, cwd=tmp_path)
    assert result.returncode in (1, 2)
    assert message in result.stderr.decode()
    assert result.stdout == b""


def test_a_cell_that_pages_do_not_know_is_refused_by_name() -> None:
    model = random_models.make(cell="gru")
    own = replace(model.config.recurrence, kind="mine")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(cells.CELLS, ("gru", None), own)
        with pytest.raises(CheckpointError, match="a cell 'mine', which pages do not know"):
            page(model, "m")


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"cell": "esn", "embedding_size": 0, "norm": False, "residual": False}, "a reservoir"),
        ({"span": 3}, "a span of attention"),
        ({"cell": "ntm", "memory_rows": 4, "memory_width": 2}, "a memory"),
    ],
)
def test_a_part_that_pages_do_not_know_is_refused_by_name(settings: dict[str, Any], what: str) -> None:
    with pytest.raises(CheckpointError, match=f"{what}, which pages do not know"):
        page(random_models.make(**settings), "m")
