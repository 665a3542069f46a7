"""Records as filters read them: cut as they come, and scored with their ends."""

from __future__ import annotations

import io
import json
import math
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import naive
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.calls import call
from support.documents import content, read_text
from support.processes import TINY
from support.toy_models import log_probability, toy

from charrnn import api
from charrnn.checkpoint import model_file
from charrnn.checkpoint.model_file import Checkpoint
from charrnn.config import Form, TextConfig
from charrnn.errors import ConfigError, CorpusError
from charrnn.nn.network import Model
from charrnn.nn.workers import Workers
from charrnn.scoring.surprisal import Scorer, score_lines
from charrnn.tasks.evaluation import evaluate
from charrnn.text.documents import Documents
from charrnn.text.files.lines import Lines, cut, read_lines, read_texts
from charrnn.text.files.normalization import normalised
from charrnn.vocabulary import END

LINES_BETWEEN = {"%": "%", "---": "---", "blank": ""}
SPLITS = [*LINES_BETWEEN, "nul", "file"]


def in_pieces(text: str, split: str, sizes: list[int]) -> str:
    """What a cutter makes of the text when it comes in pieces of these sizes, again and again."""
    pieces, at, turn = [], 0, 0
    while at < len(text):
        size = sizes[turn % len(sizes)]
        pieces.append(text[at : at + size])
        at, turn = at + size, turn + 1
    return "".join(cut(pieces, TextConfig(split=split)))


def by_lines(text: str, split: str) -> list[str]:
    """The records of a file, by its lines."""
    if split == "nul":
        return list(filter(None, text.split("\0")))
    groups: list[list[str]] = [[]]
    for line in text.removesuffix("\n").split("\n"):
        if split in LINES_BETWEEN and (line.strip(" ") if split == "blank" else line) == LINES_BETWEEN[split]:
            groups.append([])
        else:
            groups[-1].append(line)
    return list(filter(None, map("\n".join, groups)))


@pytest.mark.parametrize("split", SPLITS)
@given(st.text("a%- \n\0", max_size=30), st.lists(st.integers(1, 5), min_size=1, max_size=4))
def test_a_text_is_cut_into_its_records_whatever_pieces_it_comes_in(split, text, sizes):
    assert in_pieces(text, split, sizes) == "".join(record + END for record in by_lines(text, split))


@pytest.mark.parametrize("split", SPLITS)
@given(st.text("a% \t\n\0\ré", max_size=30), st.integers(1, 7))
def test_filters_and_training_read_the_same_records(split, text, size):
    config = TextConfig(split=split)
    try:
        wanted = content(read_text(text, config))
    except CorpusError:  # it has no records, or just one
        return
    stdin = io.BytesIO(text.encode())
    pieces = read_texts(["-"], config, size, lambda: None, stdin=stdin)
    assert "".join(piece or "" for _, piece in pieces) == wanted


@pytest.mark.parametrize("split", ["End", "\u00e9\u0130", "E\u0301"])
@pytest.mark.parametrize("form", [Form("NFC"), Form("NFD"), Form(None, True), Form("NFC", True)], ids=str)
@given(
    st.lists(
        st.sampled_from([*"eEnND\n\n", "\u0301", "end\n", "\u00e9\u0130\n", "e\u0301I\u0307\n", "\u00c9\n"])
    ),
    st.integers(1, 9),
)
def test_filters_cut_where_training_does_however_a_separator_is_spelled(split, form, parts, size):
    text = "".join(["x\n", split, "\ny\n", *parts])
    config = TextConfig(split=split, normal_form=form.normal, lowercase=form.lowercase)
    pieces = [text[n : n + size] for n in range(0, len(text), size)]
    found = "".join(cut(pieces, config))
    assert normalised(found, form) == content(read_text(text, config))


def test_lines_that_are_no_separators_keep_their_spelling_in_filters():
    config = TextConfig(split="End", lowercase=True)
    assert "".join(cut(["Ab\nEN", "D\nEnd of ", "it\nend"], config)) == f"Ab{END}End of it{END}"


@pytest.mark.parametrize("split", SPLITS[:-1])
@given(st.lists(st.text("ab \n%", min_size=1, max_size=9).filter(lambda text: text.strip("\n ")), max_size=9))
def test_texts_come_back_from_the_file_that_holds_them(split, texts):
    if split != "nul":
        texts = [text for text in texts if by_lines(text + "\n", split) == [text]]
    separator = TextConfig(split=split).separator
    text = "".join(text + separator for text in texts)
    assert in_pieces(text, split, [3]).split(END)[:-1] == texts


def read(data: bytes, split: str, most: int = 1 << 16) -> list[Lines]:
    stdin = io.BytesIO(data)
    return list(read_lines(["-"], TextConfig(split=split), most, lambda: None, stdin=stdin))


def test_crlf_is_a_line_end_and_invalid_bytes_are_kept():
    (found,) = read(b"a\r\n\xff\r\n%\r\n%\r\nb", "%")
    assert (found.text, found.number) == ("a\n\udcff" + END + "b" + END, 1)


def test_the_character_of_the_end_is_none_of_a_text():
    (found,) = read(f"a{END}b\n%\n".encode(), "%")
    assert found.text == "a\ufffdb" + END


def test_records_that_are_too_long_come_in_pieces():
    found = read(b"ab\n" * 100 + b"%\nc\nd\n%\n" + b"e" * 99, "%", most=20)
    assert "".join(lines.text for lines in found) == "ab\n" * 99 + "ab" + END + "c\nd" + END + "e" * 99 + END
    assert max(len(lines.text) for lines in found) <= 20
    assert [lines.number for lines in found if lines.last] == [1, 2, 3]
    assert [lines.text for lines in found if not lines.piece] == ["c\nd" + END]


@pytest.mark.parametrize(("split", "separator"), [("%", b"\n%\n"), ("blank", b"\n\n"), ("nul", b"\0")])
def test_a_record_is_there_as_soon_as_its_separator_is(split, separator):
    out, into = os.pipe()
    with os.fdopen(out, "rb") as stdin, os.fdopen(into, "wb", buffering=0) as pipe:
        found = read_lines(["-"], TextConfig(split=split), 1 << 16, lambda: None, stdin=stdin)
        for record in ("a\nb", "c", "%d\n"[: 3 if split == "nul" else 2]):
            pipe.write(record.encode() + separator)
            assert next(found).text == record + END  # waits for ever unless it is there
        pipe.close()
        assert next(found, None) is None


# Scores


def records(seed: int = 3, characters: str = "\nabcd", split: str = "%", **settings: Any) -> Checkpoint:
    return toy(seed, characters, split=split, **{"ending": 0.5} | settings)


def bits_of(model: Checkpoint, text: str) -> float:
    return -log_probability(model, "", text) / math.log(2)


def scores(model: Checkpoint, text: str, most: int = 1 << 16) -> list[Any]:
    stdin = io.BytesIO(text.encode())
    lines = read_lines(["-"], model.text, most, lambda: None, stdin=stdin)
    return [line for some in score_lines(Scorer(model), lines, END) for line in some]


@given(
    st.lists(
        st.text("ab\nd", min_size=1, max_size=9).filter(lambda text: not text.endswith("\n")), max_size=9
    )
)
def test_a_record_costs_the_naive_sum_of_its_surprises_and_of_its_end(texts):
    model = records()
    text = "".join(text + "\n%\n" for text in texts)
    for most in (1 << 16, 4):  # whole, and in pieces
        found = scores(model, text, most)
        assert [line.text for line in found] == texts
        for line in found:
            assert line.characters == len(line.text) + 1
            assert line.bits == pytest.approx(bits_of(model, line.text + END), rel=1e-3)


def test_the_sum_over_records_is_what_an_evaluation_of_them_says():
    model = records()
    texts = ["ab\ncd", "d", "a\n\nb"]
    found = scores(model, "%\n".join(text + "\n" for text in texts))
    whole = "".join(text + END for text in texts)
    ids = model.vocabulary.encode(whole)
    network = Model(model.config, workers=Workers(1))
    network.load_tensors(model.tensors)
    starts, end = np.zeros(1, np.int64), model.config.vocab_size
    result = evaluate(network, Documents(ids, len(model.vocabulary), starts, end))
    assert result is not None
    total = sum(line.bits for line in found)
    assert total / len(whole) == pytest.approx(result.bpc, rel=1e-5)
    assert result.characters == sum(line.characters for line in found)
    assert total == pytest.approx(api.score(model, whole).sum(dtype=float) / math.log(2), rel=1e-5)


@pytest.mark.parametrize("most", [1 << 16, 3])
def test_records_that_training_leaves_out_as_too_long_have_no_score_and_no_class(tmp_path, most):
    model, other = records(), records(5)
    model = replace(model, text=replace(model.text, max_chars=4))
    found = scores(model, "abab\n%\nababa\n%\nb\n", most)
    assert [line.text for line in found] == ["abab", "ababa", "b"]
    assert [line.number for line in found] == [1, 2, 3]
    assert [line.bits is None for line in found] == [False, True, False]
    assert found[0].bits == pytest.approx(bits_of(model, "abab" + END), rel=1e-3)
    rated = classes([model, other], tmp_path, b"abab\n%\nababa\n%\nb\n")
    assert [line.best is None for line in rated] == [False, True, False]
    model_file.save(model, tmp_path / "m.safetensors")
    rows = call("score", "-m", tmp_path / "m.safetensors", "-", stdin=b"abab\n%\nababa\n").stdout
    assert rows.decode().splitlines()[1] == "\tababa"
    total = call("score", "-m", tmp_path / "m.safetensors", "--total", "-", stdin=b"abab\n%\nababa\n")
    assert float(total.stdout) == pytest.approx(found[0].bpc, abs=1e-4)


def test_a_heat_map_shows_each_record_from_a_state_of_its_own(tmp_path):
    model, path = records(), tmp_path / "text"
    path.write_text("ab\nc\n%\nd\n%\n")
    pieces = list(api.surprises(model, path))
    assert "".join(text for _, text, _ in pieces) == "ab\nc" + END + "d" + END
    bits = np.concatenate([bits for *_, bits in pieces])
    assert bits[-2:].sum() == pytest.approx(bits_of(model, "d" + END), rel=1e-4)
    model_file.save(model, tmp_path / "m.safetensors")
    for option, name in (("--heat", None), ("--html", "page"), ("--svg", "picture")):
        words = (option,) if name is None else (option, tmp_path / name)
        shown = call("score", "-m", tmp_path / "m.safetensors", path, *words).stdout
        text = (shown if name is None else (tmp_path / name).read_bytes()).decode()
        assert text.count("∎") == 2
        assert END not in text


def classes(models: list[Checkpoint], folder: Path, data: bytes, **reading: Any) -> list[Any]:
    (folder / "text").write_bytes(data)
    return [line for some in api.classify(models, folder / "text", **reading) for line in some]


def test_the_class_of_a_record_counts_its_end(tmp_path):
    models = [records(3), records(5)]
    found = classes(models, tmp_path, b"ab\ncd\n%\nd\n")
    for line in found:
        wanted = [bits_of(model, line.text + END) for model in models]
        assert line.bits == pytest.approx(wanted, rel=1e-3)
        odds = 2.0 ** (wanted[1] - wanted[0])
        assert line.posterior[0] == pytest.approx(odds / (1 + odds), rel=1e-3)
    assert [line.text for line in found] == ["ab\ncd", "d"]


def test_to_prose_a_record_stands_between_line_ends(tmp_path):
    prose, model = toy(8, "\nabcd", lines=False), records()
    found = classes([prose, model], tmp_path, b"ab\ncd\n%\n")
    assert found[0].bits[0] == pytest.approx(
        -log_probability(prose, "\n", "ab\ncd\n") / math.log(2), rel=1e-3
    )


def test_models_of_texts_that_are_separated_differently_need_nuls(tmp_path):
    models = [records(), records(split="blank")]
    data = b"ab\n%\nc\0d\0"
    with pytest.raises(ConfigError, match="separated in different ways"):
        classes(models, tmp_path, data)
    found = classes(models, tmp_path, data, nul=True)
    assert [line.text for line in found] == ["ab\n%\nc", "d"]


def test_a_model_of_bytes_reads_records_beside_one_of_characters(tmp_path):
    model = records(characters="\nabé")
    raw = "".join(sorted(set("\nabé".encode().decode("latin-1"))))
    other = toy(5, raw, lines=False)
    other = replace(other, text=TextConfig(bytes=True))
    found = classes([model, other], tmp_path, "aé\nb\n%\nb\n%\n".encode())
    text = "\naé\nb\n".encode().decode("latin-1")
    assert found[0].bits[1] == pytest.approx(
        -log_probability(other, text[:1], text[1:]) / math.log(2), rel=1e-3
    )


def test_rows_of_scores_escape_line_ends_unless_nuls_end_them(tmp_path):
    path = tmp_path / "m.safetensors"
    model_file.save(records(characters="\t\n\\ab"), path)
    stdin = b"a\nb\n%\n\\\ta\n%\n"
    rows = call("score", "-m", path, stdin=stdin).stdout.decode().splitlines()
    texts = [row.partition("\t")[2] for row in rows]
    assert texts == ["a\\nb", "\\\\\\ta"]
    assert [json.loads(f'"{text}"') for text in texts] == ["a\nb", "\\\ta"]
    rows = call("score", "-m", path, "--json", stdin=stdin).stdout.decode().splitlines()
    assert [json.loads(row)["line"] for row in rows] == ["a\nb", "\\\ta"]
    out = call("score", "-m", path, "-0", stdin=b"a\nb\0%\0").stdout.decode()
    assert [row.partition("\t")[2] for row in out.split("\0")] == ["a\nb", "%", ""]


def test_what_sample_writes_score_reads(tmp_path):
    path = tmp_path / "m.safetensors"
    model_file.save(records(), path)
    for option in ((), ("-0",)):
        out = call("sample", "-m", path, "--count", 8, "--seed", 2, *option).stdout
        rows = call("score", "-m", path, "--json", *option, stdin=out).stdout.decode().splitlines()
        wanted = ["".join(text) for text in api.sample(path, count=8, seed=2)]
        assert [json.loads(row)["line"] for row in rows] == wanted
    rated = api.sample(path, count=8, seed=2, rated=True)
    for text, row in zip(rated, map(json.loads, rows), strict=True):
        "".join(text)
        assert row["bpc"] == pytest.approx(text.bits_per_character, rel=1e-4)


@pytest.mark.parametrize("split", ["%", "blank", "nul"])
def test_a_model_is_trained_written_with_scored_and_evaluated_alike(split, tmp_path):
    separator = TextConfig(split=split).separator
    corpus, path = tmp_path / "corpus.txt", tmp_path / "m.safetensors"
    corpus.write_text("".join(f"{n % 7}{'ab' * (n % 3)}\nc{n % 5}{separator}" for n in range(80)))
    made = call(
        "train", corpus, "--split", split, "--out", path, "--steps", 500, "--lr", 0.02, "--quiet", *TINY
    )
    assert made.returncode == 0, made.stderr
    drawn = ("sample", "-m", path, "--count", 30, "--seed", 1, "--temp", 0.5)
    out = call(*drawn).stdout
    (tmp_path / "written").write_bytes(out)
    rows = call("score", "-m", path, tmp_path / "written", "--json").stdout.decode().splitlines()
    texts = ["".join(text) for text in api.sample(path, count=30, seed=1, temperature=0.5)]
    assert [json.loads(row)["line"] for row in rows] == texts
    total = json.loads(call("score", "-m", path, tmp_path / "written", "--json", "--total").stdout)
    measured = json.loads(call("eval", path, tmp_path / "written", "--json").stdout)
    assert total["characters"] == measured["characters"] == sum(len(text) + 1 for text in texts)
    assert total["bpc"] == pytest.approx(measured["bpc"], rel=1e-4)
    novel = call(*drawn, "--novel").stdout.decode()
    known = set(in_pieces(corpus.read_text(), split, [99]).split(END))
    assert known.isdisjoint(in_pieces(novel, split, [99]).split(END)[:-1])
    assert not known.isdisjoint(texts)


def test_the_reference_reads_the_end_as_nothing():
    model = records()
    assert not naive.input_vector(model.tensors, model.config.vocab_size).any()


def test_pieces_of_files_have_ends_in_the_place_of_separators(tmp_path):
    (tmp_path / "a").write_text("a\n\n\nb\n")
    (tmp_path / "b").write_text("c")
    paths = [tmp_path / "a", tmp_path / "b"]
    found = list(read_texts(paths, TextConfig(split="blank"), 99, lambda: None))
    assert "".join(piece or "|" for _, piece in found) == f"a{END}b{END}|c{END}|"
