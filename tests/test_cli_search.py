"""The commands that search, and `sample` with many prompts or models, as a user meets them."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from support.calls import call
from support.environment import environment
from support.processes import command, failed, posix, run
from support.toy_models import toy

import charrnn
from charrnn import api
from charrnn.checkpoint import model_file
from charrnn.cli.models import path_and_weight
from charrnn.config import TextConfig
from charrnn.errors import ConfigError


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("search")
    model_file.save(toy(1, "\nabc"), folder / "a.safetensors")
    model_file.save(toy(2, "\nbcd"), folder / "b.safetensors")
    model_file.save(toy(3, "\n abcé", lines=False), folder / "prose.safetensors")
    return folder


# enumerate


def test_enumerate_lists_log_probabilities_and_lines(folder):
    result = call("enumerate", "-m", folder / "a.safetensors", "-n", 5, "--prompt", "b")
    assert (result.returncode, result.stderr) == (0, b"")
    rows = [line.split("\t") for line in result.stdout.decode().splitlines()]
    wanted = list(charrnn.enumerate_lines(model_file.load(folder / "a.safetensors"), "b", count=5))
    assert [(f"{line.log_probability:.6f}", line.text) for line in wanted] == [tuple(row) for row in rows]


def test_enumerate_as_json(folder):
    result = call("enumerate", "-m", folder / "prose.safetensors", "-n", 4, "--length", 1, "--json")
    rows = [json.loads(line) for line in result.stdout.decode().splitlines()]
    assert all(row.keys() == {"text", "log_probability"} for row in rows)
    assert len({row["text"] for row in rows}) == 4
    values = [row["log_probability"] for row in rows]
    assert values == sorted(values, reverse=True)


def test_enumerate_lists_down_to_a_probability(folder):
    model = folder / "a.safetensors"
    rows = call("enumerate", "-m", model, "-n", 400).stdout.decode().splitlines()
    found = call("enumerate", "-m", model, "--above", 0.001).stdout.decode().splitlines()
    assert found == [row for row in rows if float(row.split("\t")[0]) >= -6.907755]
    assert 10 < len(found) < 400
    assert call("enumerate", "-m", model, "--above", 0.001, "-n", 3).stdout.decode().splitlines() == found[:3]
    result = call("enumerate", "-m", model, "--above", 1)
    assert result.returncode == 2
    assert b"above is 1" in result.stderr


def test_what_is_found_of_bytes_is_text_in_json(tmp_path):
    model = toy(1, "\na\xa9\xc3")
    model = replace(model, text=TextConfig(bytes=True, lines=True))
    model_file.save(model, tmp_path / "bytes.safetensors")
    for arguments in (("enumerate", "-n", 60), ("fill", "a__", "-n", 60)):
        result = call(*arguments, "-m", tmp_path / "bytes.safetensors", "--json")
        texts = [json.loads(line)["text"] for line in result.stdout.decode().splitlines()]
        assert any("é" in text for text in texts)
        assert not any("Ã" in text for text in texts)


def test_enumerate_lists_only_what_matches(folder):
    result = call("enumerate", "-m", folder / "a.safetensors", "--match", "b(a|c)", "--prompt", "a")
    assert (result.returncode, result.stderr) == (0, b"")
    rows = [line.split("\t")[1] for line in result.stdout.decode().splitlines()]
    assert sorted(rows) == ["aba", "abc"]
    assert "characters" in failed(call("enumerate", "-m", folder / "a.safetensors", "--match", "x"))


def test_enumerate_says_where_certainty_ends(folder, tmp_path):
    model_file.save(toy(1, "\nabcdefgh", ending=-8.0), tmp_path / "endless.safetensors")
    result = call("enumerate", "-m", tmp_path / "endless.safetensors", "-n", 100_000, "--memory", 1)
    error = failed(result)
    lines = result.stdout.decode().splitlines()
    assert f"after {len(lines)} lines" in error
    assert "--memory" in error


# fill


def test_fill_lists_what_fits_best_first(folder):
    result = call("fill", "a?c*", "-m", folder / "a.safetensors", "-n", 3, "--gap", 2)
    assert (result.returncode, result.stderr) == (0, b"")
    rows = [line.split("\t") for line in result.stdout.decode().splitlines()]
    assert len(rows) == 3
    for share, total, text in rows:
        assert 0 < float(share) <= 1
        assert float(total) < 0
        assert text[0] + text[2] == "ac"
    result = call("fill", "a?c*", "-m", folder / "a.safetensors", "-n", 3, "--gap", 2, "--json")
    found = [json.loads(line) for line in result.stdout.decode().splitlines()]
    assert [one["text"] for one in found] == [text for *_, text in rows]
    assert found[0].keys() == {"text", "log_probability", "probability", "certain"}


def test_fill_says_what_is_wrong_with_a_pattern(folder):
    for pattern, said in (("ab", "no gap"), ("a\\b?", "backslash")):
        result = call("fill", pattern, "-m", folder / "a.safetensors")
        assert result.returncode == 2
        assert said in result.stderr.decode()
    assert "U+20AC" in failed(call("fill", "?€", "-m", folder / "a.safetensors"))
    assert call("fill").returncode == 2


# sample --best-of, --prompts


def test_the_best_of_several_comes_alone(folder):
    args = ("sample", "-m", folder / "a.safetensors", "--seed", 3, "--count", 2)
    result = call(*args, "--best-of", 9)
    wanted = api.sample(model_file.load(folder / "a.safetensors"), count=2, best_of=9, seed=3)
    assert result.stdout.decode() == "".join("".join(pieces) for pieces in wanted)
    assert call(*args, "--best-of", 0).returncode == 2


def test_prompts_come_from_a_file_or_stdin_in_order(folder, tmp_path):
    (tmp_path / "prompts.txt").write_bytes(b"\xef\xbb\xbfab\r\nb\n\nc")
    args = ("sample", "-m", folder / "a.safetensors", "--seed", 3, "--echo", "--prompts")
    result = run(*args, tmp_path / "prompts.txt")  # the process closes it
    lines = result.stdout.decode().splitlines()
    assert [line[: len(prompt)] for line, prompt in zip(lines, ["ab", "b", "", "c"], strict=True)] == [
        "ab", "b", "", "c",
    ]  # fmt: skip
    assert call(*args, "-", stdin=b"ab\nb\n\nc\n").stdout == result.stdout
    assert len(call(*args, "-", "--count", 3, stdin=b"ab\nb").stdout.splitlines()) == 6
    assert call(*args, "-", stdin=b"").stdout == b""


def test_a_wrong_prompt_is_named_by_its_line_after_the_texts_before(folder):
    args = ("sample", "-m", folder / "a.safetensors", "--prompts", "-", "--echo")
    result = call(*args, stdin="a\nb\nbé\na\n".encode())
    assert "line 3 of the prompts: " in failed(result)
    assert [line[:1] for line in result.stdout.decode().splitlines()] == ["a", "b"]
    result = call(*args, stdin=b"a\nb\xff\n")
    assert "line 2 of the prompts is no UTF-8 at byte 1" in failed(result)
    assert result.stdout.startswith(b"a")
    assert "no.txt" in failed(call(*args[:3], "--prompts", "no.txt"))
    assert call(*args, "--prompt", "a").returncode == 2


def test_a_text_is_out_before_the_next_prompt_is_in(folder):
    args = command("sample", "-m", folder / "a.safetensors", "--prompts", "-", "--echo", "--seed", 1)
    process = subprocess.Popen(args, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment())
    assert process.stdin is not None
    assert process.stdout is not None
    for prompt in (b"a", b"bc", b"ca"):
        process.stdin.write(prompt + b"\n")
        process.stdin.flush()
        assert process.stdout.readline().startswith(prompt)
    process.stdin.close()
    with process.stdout as stream:
        assert stream.read() == b""
    assert process.wait(timeout=60) == 0


@posix
def test_endless_prompts_and_a_closed_pipe_end_quietly(folder):
    args = command("sample", "-m", folder / "a.safetensors", "--prompts", "-", "--seed", 1)
    yes = subprocess.Popen(["yes", "ab"], stdout=subprocess.PIPE)
    process = subprocess.Popen(
        args, stdin=yes.stdout, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
    )
    assert yes.stdout is not None
    assert process.stdout is not None
    assert process.stderr is not None
    yes.stdout.close()
    for _ in range(20):
        assert process.stdout.readline()
    process.stdout.close()
    assert process.wait(timeout=60) == 0
    assert process.stderr.read() == b""
    process.stderr.close()
    yes.wait(timeout=60)


# several models


def test_models_are_mixed_by_their_weights(folder):
    a, b = folder / "a.safetensors", folder / "b.safetensors"
    result = call("sample", "-m", f"{a}:1.5", "-m", b, "--count", 50, "--seed", 1)
    blend = api.blend([(model_file.load(a), 1.5), (model_file.load(b), 1.0)])
    texts = ["".join(pieces) for pieces in api.sample(blend, count=50, seed=1)]
    assert result.stdout.decode() == "".join(texts)
    assert {"a", "d"} <= set("".join(texts))
    assert call("enumerate", "-m", a, "-m", b, "-n", 2).returncode == 0
    assert call("fill", "a?d", "-m", a, "-m", b, "-n", 2).returncode == 0


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("a.safetensors", ("a.safetensors", 1.0)),
        ("a.safetensors:2", ("a.safetensors", 2.0)),
        ("a:b.safetensors:0.5", ("a:b.safetensors", 0.5)),
        ("C:\\models\\a.safetensors", ("C:\\models\\a.safetensors", 1.0)),
        ("C:\\models\\a.safetensors:1e-3", ("C:\\models\\a.safetensors", 0.001)),
        ("odd:name", ("odd:name", 1.0)),
        (":3", (":3", 1.0)),
    ],
)
def test_a_weight_stands_after_the_last_colon(value, expected):
    assert path_and_weight(value) == expected


@posix
def test_what_exists_is_a_path_even_if_it_ends_like_a_weight(folder, tmp_path, monkeypatch):
    (tmp_path / "model:2").write_bytes((folder / "a.safetensors").read_bytes())
    monkeypatch.chdir(tmp_path)
    assert path_and_weight("model:2") == ("model:2", 1.0)
    assert path_and_weight("model:2:3") == ("model:2", 3.0)


@pytest.mark.parametrize("weight", ["0", "-1", "nan", "inf"])
def test_a_weight_is_above_0(weight):
    with pytest.raises(ConfigError, match="weight"):
        path_and_weight(f"a.safetensors:{weight}")
